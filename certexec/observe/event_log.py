"""Calls in our own log, in whatever form it was written, as learning and reviewing take them."""

from __future__ import annotations

import struct

from certexec.kernel.syscalls import NUMBERS
from certexec.observe.noted_call import NotedCall
from certexec.observe.reading import read_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certexec.observe.reading import Seen

_REGISTERS = struct.Struct("<6Q")
_NONE = (0, 0, 0, 0, 0, 0)
_WANTED = (
    "unmatched", "no-policy", "unmatched: no agent", "unmatched: time-out", "unmatched: bad agent",
    "unmatched: too many",
)
"""Why a call was denied that a policy could yet permit: a rule that denies was meant to, and so was
an answer."""


class PassedOver:
    """What of a log could not be used.

    Attributes:
        events: how many lines are whole events, used or not; unsaid: how many others do not say why
            a call was denied.
        why: about the first line that could not be used, of these if there are any, in words.
    """

    def __init__(self) -> None:
        self.events = self.unsaid = 0
        self.why = ""

    def strange(self, number: int) -> None:
        """Take notice of a line that is no event."""
        self.why = self.why or f"line {number} is no event of certexec"

    def silent(self, number: int) -> None:
        """Take notice of one that does not say why a call was denied."""
        self.unsaid += 1
        if self.unsaid == 1:
            self.why = f"line {number} does not say why the call was denied"


def read_events(lines: Iterable[str], passed: PassedOver | None = None) -> Iterator[NotedCall]:
    """Yield the calls that were permitted or asked about, and those that no rule matched.

    What others wrote into the same log is passed over, and so is what does not say why a call was
    denied; ``passed`` tells.
    """
    passed = passed or PassedOver()
    for number, line in enumerate(lines, 1):
        seen = read_line(line)
        if seen is None:
            if line.strip():
                passed.strange(number)
            continue
        if seen.text("event") != "call":
            passed.events += 1
            continue
        permitted = seen.text("verdict") in ("permit", "ask")
        if not permitted and not seen.text("reason"):
            passed.silent(number)
            continue
        if not permitted and not is_permittable(seen):
            passed.events += 1
            continue
        try:
            noted = noted_call(seen, number)
        except (ValueError, struct.error):
            passed.strange(number)
            continue
        passed.events += 1
        yield noted


def is_permittable(seen: Seen) -> bool:
    """Tell whether an event is a call that was denied and that its policy could yet permit."""
    return seen.text("verdict") not in ("permit", "ask") and seen.text("reason") in _WANTED


def noted_call(seen: Seen, number: int = 0) -> NotedCall:
    """Return an event's call; ``number``: the line it stood in.

    Raises ValueError or struct.error for one that is not whole.
    """
    if not seen.text("program") or not seen.text("syscall"):
        raise ValueError(number)
    texts: dict[str, list[str]] = {}
    registers = _NONE
    for name, text in seen.arguments.items():
        texts.setdefault(name.partition("[")[0], []).append(text)
    if not texts:
        registers = _REGISTERS.unpack(bytes.fromhex(seen.text("args")))
    flags = texts.get("oflags", [""])[0]
    if flags:
        registers = _with_flags(seen.text("syscall"), flags)
    call = seen.text("syscall")
    known = NUMBERS.get(call, seen.members.get("number"))
    return NotedCall(
        seen.text("program"), number, call, registers, texts or None,
        policy=seen.text("policy"), times=seen.count,
        foreign=seen.members.get("number", known) != known,
    )  # fmt: skip


def _with_flags(call: str, text: str) -> tuple[int, int, int, int, int, int]:
    """Return registers of an open that does what the text of its flags says."""
    flags = {"ro": 0, "wo": 1, "rw": 2}.get(text[:2], 3)
    flags |= 0o2000 * ("a" in text[2:]) | 0o100 * ("c" in text[2:]) | 0o1000 * ("t" in text[2:])
    return (0, flags, 0, 0, 0, 0) if call == "open" else (0, 0, flags, 0, 0, 0)
