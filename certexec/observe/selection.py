"""Which events somebody wants to see."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from certexec.observe.reading import Seen


class Selection:
    """Conditions on an event; within one kind any may hold, of every kind that is given one must.

    Attributes:
        programs, certificates, calls, hosts: globs; a program is also found by its last component.
        users: names or numbers.
        verdicts: deny, permit, kill, ask; with one, only calls are wanted.
        since, until: seconds since 1970; 0.0: no limit.
    """

    __slots__ = (
        "calls", "certificates", "hosts", "programs", "since", "until", "users", "verdicts"
    )

    def __init__(
        self, *, programs: Sequence[str] = (), users: Sequence[str] = (),
        verdicts: Sequence[str] = (), hosts: Sequence[str] = (), calls: Sequence[str] = (),
        certificates: Sequence[str] = (), since: float = 0.0, until: float = 0.0,
    ) -> None:
        self.programs = programs
        self.users = users
        self.verdicts = verdicts
        self.hosts = hosts
        self.calls = calls
        self.certificates = certificates
        self.since = since
        self.until = until

    def wants(self, seen: Seen) -> bool:
        """Tell whether an event is one of these."""
        if self.verdicts and seen.text("verdict") not in self.verdicts:
            return False
        if self.users and not {seen.text("user"), seen.text("uid")} & set(self.users):
            return False
        program = seen.text("program")
        names = (program, program.rpartition("/")[2])
        if self.programs and not any(_fits(name, self.programs) for name in names):
            return False
        for patterns, value in (
            (self.hosts, seen.host), (self.calls, seen.text("syscall")),
            (self.certificates, seen.text("certificate")),
        ):
            if patterns and not _fits(value, patterns):
                return False
        if self.since and seen.time < self.since:
            return False
        return not (self.until and seen.time > self.until)


def is_violation(seen: Seen) -> bool:
    """Tell whether an event is a call that was denied, or that its caller was killed for."""
    return seen.text("event") == "call" and seen.text("verdict") in ("deny", "kill")


def _fits(value: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
