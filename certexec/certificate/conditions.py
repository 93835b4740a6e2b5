"""The conditions of an execution: who may call the program and how, its limits, its environment."""

from __future__ import annotations

from certexec.certificate import fields
from certexec.certificate.record import Record, optional, put

Entry = tuple[bool, str, str, int]
"""One line of the invocation list: allowed, kind, name, number."""
Window = tuple[int, int, int]
"""Weekdays (bit 0 is Monday), first minute of the day, first minute after (UTC)."""

KINDS = ("everyone", "user", "group")
MINUTES_OF_DAY = 24 * 60
ALL_WEEKDAYS = 127
MAX_NICE, MIN_NICE = 19, -20
MAX_OOM, MIN_OOM = 1000, -1000
MAX_UMASK = 0o777


def _entry(value: object, name: str) -> Entry:
    row = fields.row(value, name, 4)
    allow = fields.boolean(row[0], name)
    kind = fields.choice(row[1], name, KINDS)
    account, number = fields.pair(row[2:], name)
    if kind == "everyone" and (account, number) != ("", 0):
        raise fields.malformed(f"{name} names somebody in particular as everyone")
    return allow, kind, account, number


def _window(value: object, name: str) -> Window:
    row = fields.row(value, name, 3)
    window = (
        fields.integer(row[0], name, 1, ALL_WEEKDAYS),
        fields.integer(row[1], name, 0, MINUTES_OF_DAY - 1),
        fields.integer(row[2], name, 1, MINUTES_OF_DAY),
    )
    if window[1] >= window[2]:
        raise fields.malformed(f"{name} ends before it begins")
    return window


class Invocation(Record):
    """Who may run the certificate, and how.

    Attributes:
        entries: ordered, the first that fits the invoker decides, no entry denies.
        tty: whether a terminal is required.
        argv: what replaces everything after argv[0], or None.
        argv_globs: each of the invoker's arguments must match one (fnmatch(3)); None: no limit,
            an empty list: no arguments.
        windows: if any, now must be inside one of them (UTC).
    """

    __slots__ = ("argv", "argv_globs", "entries", "tty", "windows")

    def __init__(
        self,
        entries: list[Entry],
        tty: bool = False,
        argv: list[str] | None = None,
        argv_globs: list[str] | None = None,
        windows: list[Window] | None = None,
    ) -> None:
        self.entries = entries
        self.tty = tty
        self.argv = argv
        self.argv_globs = argv_globs
        self.windows = [] if windows is None else windows

    @classmethod
    def from_payload(cls, value: object) -> Invocation:
        """Read the map; raises CertificateError("malformed")."""
        invocation = fields.a_map(value, "invocation", (0, 1, 4), (2, 3))
        if 2 in invocation and 3 in invocation:
            raise fields.malformed("arguments are both fixed and constrained")
        return cls(
            fields.list_of(invocation[0], "invocation list", _entry),
            fields.boolean(invocation[1], "terminal demand"),
            optional(invocation, 2, lambda item: fields.list_of(item, "argument", fields.string)),
            optional(invocation, 3, lambda item: fields.list_of(item, "pattern", fields.string)),
            fields.list_of(invocation[4], "time window", _window),
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map."""
        invocation: dict[int, object] = {
            0: [[allow, KINDS.index(kind), *pair] for allow, kind, *pair in self.entries],
            1: self.tty,
            4: [list(window) for window in self.windows],
        }
        put(invocation, 2, None if self.argv is None else list(self.argv))
        put(invocation, 3, None if self.argv_globs is None else list(self.argv_globs))
        return invocation


class Limits(Record):
    """Resource limits (number to soft and hard, 2**64 - 1 is infinity), nice, umask, oom score."""

    __slots__ = ("nice", "oom", "rlimits", "umask")

    def __init__(
        self,
        rlimits: dict[int, tuple[int, int]] | None = None,
        nice: int | None = None,
        umask: int | None = None,
        oom: int | None = None,
    ) -> None:
        self.rlimits = {} if rlimits is None else rlimits
        self.nice = nice
        self.umask = umask
        self.oom = oom

    @classmethod
    def from_payload(cls, value: object) -> Limits:
        """Read the map; raises CertificateError("malformed")."""
        limits = fields.a_map(value, "limits", (), (0, 1, 2, 3))
        rlimits = fields.a_map(limits.get(0, {}), "resource limits", (), tuple(range(16)))
        if not limits or (0 in limits and not rlimits):
            raise fields.malformed("there are limits without any limit")
        read: dict[int, tuple[int, int]] = {}
        for number, value in rlimits.items():
            name = f"resource limit {number}"
            row = fields.row(value, name, 2)
            soft, hard = (fields.integer(item, name, 0, fields.MAX_UINT) for item in row)
            if soft > hard:
                raise fields.malformed(f"{name} is softer than it is hard")
            read[number] = (soft, hard)
        return cls(
            read,
            optional(limits, 1, lambda item: fields.integer(item, "nice", MIN_NICE, MAX_NICE)),
            optional(limits, 2, lambda item: fields.integer(item, "umask", 0, MAX_UMASK)),
            optional(limits, 3, lambda item: fields.integer(item, "oom", MIN_OOM, MAX_OOM)),
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map, which is empty where nothing is limited (and then left out)."""
        limits: dict[int, object] = {}
        if self.rlimits:
            limits[0] = {number: list(pair) for number, pair in self.rlimits.items()}
        put(limits, 1, self.nice)
        put(limits, 2, self.umask)
        put(limits, 3, self.oom)
        return limits


class Environment(Record):
    """The variables that the program gets: names passed on, and values set."""

    __slots__ = ("passed", "set")

    def __init__(self, passed: list[str], set: dict[str, str]) -> None:  # noqa: A002
        self.passed = passed
        self.set = set

    @classmethod
    def from_payload(cls, value: object) -> Environment:
        """Read the map; raises CertificateError("malformed")."""
        environment = fields.a_map(value, "environment", (0, 1))
        assigned: object = environment[1]
        if type(assigned) is not dict or len(assigned) > fields.MAX_LIST:
            raise fields.malformed("the set variables are not a map")
        return cls(
            fields.list_of(environment[0], "passed variable", fields.variable),
            {
                fields.variable(key, "set variable"): fields.string(item, "set variable's value")
                for key, item in assigned.items()
            },
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map."""
        return {0: list(self.passed), 1: dict(self.set)}
