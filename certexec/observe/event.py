r"""What the log is made of: calls of confined programs, and what must be said about the log itself.

A call that was denied, or that its policy logs, reads as systrace's log line, so that tools and
eyes that know it keep working:

    deny user: alice, prog: /usr/bin/nc, pid: 42(0)[41], policy: /usr/bin/nc, filters: 7,
    syscall: native-connect(42), sockaddr: inet-[192.0.2.1]:80

docs/events.md documents the members that JSON Lines and the journal show of each record.
"""

from __future__ import annotations

import time as clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Member = tuple[str, "str | int | Mapping[str, str] | Mapping[str, int]"]

SCHEMA = 1
"""Grows when a member changes its meaning or goes; new members may come without that."""
LINE_MAX = 8000
"""bytes of a text line; syslog daemons cut at 8 KiB (rsyslog's maxMessageSize)."""
TEXT_MAX = 16 << 10
"""characters that one record keeps of a call's arguments; an argv may hold 2 MiB."""
ARGUMENTS_MAX = 64
"""arguments that one record keeps."""
CUT = "..."


class Record:
    """One line of the log.

    Attributes:
        kind: what it is about: "call", "note", "overflow" or "lost".
        time: when it happened, seconds since 1970.
        count: how many it stands for; since: 0.0, or the time of the first of those that were
            folded into this record, which is the last of them.
    """

    __slots__ = ("count", "since", "time")
    kind = ""

    def __init__(self, time: float) -> None:
        self.time = time
        self.count = 1
        self.since = 0.0

    def line(self, limit: int = LINE_MAX) -> str:
        """Return one line of at most ``limit`` bytes, without a newline, safe for a terminal."""
        head = ""
        if self.since:
            head = f"folded {self.count} more in {self.time - self.since:.1f} s: "
        return head + self.text(limit - len(head))

    def text(self, limit: int) -> str:
        """Return what the line says of one."""
        raise AssertionError(self.kind)

    def key(self) -> object:
        """Return what two records must have in common in order to be folded into one."""
        return self.text(LINE_MAX)

    def label(self) -> str:
        """Return a name to count it by."""
        return self.kind

    def members(self) -> list[Member]:
        """Return names and raw values, for forms that are made of fields."""
        common: list[Member] = [
            ("schema", SCHEMA), ("event", self.kind), ("time", timestamp(self.time)),
            ("count", self.count),
        ]  # fmt: skip
        if self.since:
            common.append(("since", timestamp(self.since)))
        return common


class Event(Record):
    """A call that was judged.

    Attributes:
        verdict: "permit", "deny" or "kill"; reason: why, in a word ("rule", "unmatched", ...).
        user: the program's real user by name or number; uid: by number, -1 if not known.
        program: path of its image; pid, ppid: process and parent.
        policy: the policy's program path; filters: its rules.
        emulation, syscall, number: the call; errno: the answer, 0 for permitted calls.
        arguments: (name, text) pairs as the policy sees them; raw: the registers, when none are.
        certificate: the certificate's own name.
        elevated: as whom the call was made, "" for the program itself.
    """

    __slots__ = (
        "arguments", "certificate", "elevated", "emulation", "errno", "filters", "number", "pid",
        "policy", "ppid", "program", "raw", "reason", "syscall", "uid", "user", "verdict",
    )  # fmt: skip
    kind = "call"

    def __init__(
        self,
        *,
        time: float,
        verdict: str,
        reason: str,
        user: str,
        program: str,
        pid: int,
        ppid: int,
        policy: str,
        filters: int,
        emulation: str,
        syscall: str,
        number: int,
        arguments: Sequence[tuple[str, str]],
        raw: bytes,
        errno: int,
        certificate: str,
        uid: int = -1,
        elevated: str = "",
    ) -> None:
        super().__init__(time)
        self.verdict = verdict
        self.reason = reason
        self.user = user
        self.uid = uid
        self.program = program
        self.pid = pid
        self.ppid = ppid
        self.policy = policy
        self.filters = filters
        self.emulation = emulation
        self.syscall = syscall
        self.number = number
        self.arguments = _bounded(arguments)
        self.raw = raw
        self.errno = errno
        self.certificate = certificate
        self.elevated = elevated

    def text(self, limit: int) -> str:
        """Return systrace's log line; where it would be too long, texts are cut, fields never."""
        share = limit // 8
        head = (
            f"{self.verdict} user: {clipped(self.user, share)}, "
            f"prog: {clipped(self.program, share)}, "
            f"pid: {self.pid}(0)[{self.ppid}], policy: {clipped(self.policy, share)}, "
            f"filters: {self.filters}, "
            f"syscall: {self.emulation}-{self.syscall}({self.number})"
        )
        if self.elevated:
            head += f", as: {clipped(self.elevated, share)}"
        if not self.arguments:
            return f"{head}, args: {self.raw.hex()}"
        parts = [f", {name}: {escape(text[: limit + 1])}" for name, text in self.arguments]
        room = limit - len(head.encode())
        if sum(map(len, parts)) * 4 > room:  # UTF-8 takes up to four bytes a character
            parts = [clip(part, room // len(parts)) for part in parts]
        return head + "".join(parts)

    def key(self) -> object:
        """The same program, call, verdict and arguments, whichever process it was.

        Registers do not count: those that a call does not use hold whatever was in them.
        """
        return (
            self.verdict, self.reason, self.errno, self.program, self.policy, self.user,
            self.emulation, self.number, self.elevated, tuple(self.arguments),
        )  # fmt: skip

    def label(self) -> str:
        """Return verdict and name of the call."""
        return f"{self.verdict} {self.syscall}"

    def members(self) -> list[Member]:
        """Return names and raw values."""
        common = super().members()
        common += [
            ("verdict", self.verdict), ("reason", self.reason), ("user", self.user),
            ("uid", self.uid), ("program", self.program), ("pid", self.pid), ("ppid", self.ppid),
            ("certificate", self.certificate), ("policy", self.policy), ("filters", self.filters),
            ("emulation", self.emulation), ("syscall", self.syscall), ("number", self.number),
            ("errno", self.errno),
        ]  # fmt: skip
        if self.elevated:
            common.append(("as", self.elevated))
        if self.arguments:
            common.append(("arguments", dict(self.arguments)))
        else:
            common.append(("args", self.raw.hex()))
        return common


class Note(Record):
    """Something about certexec itself, in words."""

    __slots__ = ("words",)
    kind = "note"

    def __init__(self, time: float, words: str) -> None:
        super().__init__(time)
        self.words = words

    def text(self, limit: int) -> str:
        """Return the words."""
        words = self.words
        return clip(words, limit) if words.isprintable() else clipped(words, limit)

    def members(self) -> list[Member]:
        """Return names and raw values."""
        return [*super().members(), ("text", self.words[:TEXT_MAX])]


class Overflow(Record):
    """Records that were more in a second than the log takes: how many of what."""

    __slots__ = ("counts",)
    kind = "overflow"

    def __init__(self, time: float, since: float, counts: Mapping[str, int]) -> None:
        super().__init__(time)
        self.since = since
        self.counts = counts
        self.count = sum(counts.values())

    def line(self, limit: int = LINE_MAX) -> str:
        """Return one line; the most frequent come first."""
        ranked = sorted(self.counts.items(), key=lambda one: -one[1])
        listed = ", ".join(f"{label} {count}" for label, count in ranked)
        seconds = f"{self.time - self.since:.1f} s"
        return clip(f"folded {self.count} others in {seconds}: {listed}", limit)

    def members(self) -> list[Member]:
        """Return names and raw values."""
        return [*super().members(), ("calls", self.counts)]


class Lost(Record):
    """Records that a sink could not take, told by the next that it can."""

    __slots__ = ("why",)
    kind = "lost"

    def __init__(self, time: float, count: int, why: str) -> None:
        super().__init__(time)
        self.count = count
        self.why = why

    def text(self, limit: int) -> str:
        """Return how many, and why."""
        return clip(f"lost {self.count} events: {self.why}", limit)

    def members(self) -> list[Member]:
        """Return names and raw values."""
        return [*super().members(), ("reason", self.why)]


def _bounded(arguments: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Keep as much as a log needs; what was left out shows as "..."."""
    if len(arguments) <= ARGUMENTS_MAX and sum(len(text) for _, text in arguments) <= TEXT_MAX:
        return arguments
    kept = list(arguments[:ARGUMENTS_MAX])
    share = TEXT_MAX // len(kept)
    bounded = [(name, text if len(text) <= share else text[:share] + CUT) for name, text in kept]
    if len(arguments) > ARGUMENTS_MAX:
        bounded.append((CUT, f"{len(arguments) - ARGUMENTS_MAX} more"))
    return bounded


def clip(text: str, limit: int) -> str:
    """Cut a printable text to ``limit`` bytes of UTF-8; what was cut shows as "..."."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: max(limit - len(CUT), 0)].decode("utf-8", "ignore") + CUT


def clipped(text: str, limit: int) -> str:
    """Escape a text and cut it; nothing is shorter when it is escaped, so the rest never counts."""
    return clip(escape(text[: limit + 1]), limit)


def timestamp(seconds: float) -> str:
    """Return a time as RFC 3339 writes it, in UTC, to the microsecond."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    year, month, day, hour, minute, second, *_ = clock.gmtime(whole)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z"


def escape(text: str) -> str:
    r"""Escape as systrace's strescape did (\" \\ \n \r) and control bytes as \xNN.

    A program chooses these texts: none of them may start a new log line, or what looks like the
    line's next field (a comma before a space becomes \x2c), or drive a terminal.
    """
    if text.isprintable() and '"' not in text and "\\" not in text and ", " not in text:
        return text
    result = []
    for index, char in enumerate(text):
        if char in '"\\':
            result.append("\\" + char)
        elif char == "\n":
            result.append("\\n")
        elif char == "\r":
            result.append("\\r")
        elif text.startswith(", ", index):
            result.append("\\x2c")
        elif char.isprintable():
            result.append(char)
        else:
            code = ord(char)
            small = code & 0xFF if 0xDC80 <= code <= 0xDCFF else code
            if small < 0x100:
                result.append(f"\\x{small:02x}")
            else:
                result.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(result)
