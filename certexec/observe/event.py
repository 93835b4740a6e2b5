"""One event: a system call of a confined program that was denied, or that its policy logs.

The text form is systrace's log line, so that tools and eyes that know it keep working:

    deny user: alice, prog: /usr/bin/nc, pid: 42(0)[41], policy: /usr/bin/nc, filters: 7,
    syscall: native-connect(42), sockaddr: inet-[192.0.2.1]:80
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Event:
    """What happened.

    Attributes:
        verdict: "permit" or "deny"; reason: why, in a word ("rule", "unmatched", ...).
        user: the program's real user by name or number; program: path of its image.
        pid, ppid: process and parent; policy: the policy's program path; filters: its rules.
        emulation, syscall, number: the call; errno: the answer, 0 for permitted calls.
        arguments: (name, text) pairs as the policy sees them; raw: the registers, when none are.
        certificate: the certificate's own name; time: seconds since 1970.
    """

    __slots__ = (
        "arguments", "certificate", "emulation", "errno", "filters", "number", "pid", "policy",
        "ppid", "program", "raw", "reason", "syscall", "time", "user", "verdict",
    )  # fmt: skip

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
    ) -> None:
        self.time = time
        self.verdict = verdict
        self.reason = reason
        self.user = user
        self.program = program
        self.pid = pid
        self.ppid = ppid
        self.policy = policy
        self.filters = filters
        self.emulation = emulation
        self.syscall = syscall
        self.number = number
        self.arguments = arguments
        self.raw = raw
        self.errno = errno
        self.certificate = certificate

    def line(self) -> str:
        """Return systrace's log line, without a newline, safe for a terminal or a log."""
        if self.arguments:
            tail = ", ".join(f"{name}: {escape(text)}" for name, text in self.arguments)
        else:
            tail = f"args: {self.raw.hex()}"
        return (
            f"{self.verdict} user: {self.user}, prog: {escape(self.program)}, "
            f"pid: {self.pid}(0)[{self.ppid}], policy: {escape(self.policy)}, "
            f"filters: {self.filters}, "
            f"syscall: {self.emulation}-{self.syscall}({self.number}), {tail}"
        )


def escape(text: str) -> str:
    r"""Escape as systrace's strescape did (\" \\ \n \r) and control bytes as \xNN.

    A program chooses these texts: none of them may start a new log line, or what looks like the
    line's next field (a comma before a space becomes \x2c), or drive a terminal.
    """
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
            result.append(f"\\x{small:02x}" if small < 0x100 else f"\\u{code:04x}")
    return "".join(result)
