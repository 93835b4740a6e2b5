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


def read_events(lines: Iterable[str]) -> Iterator[NotedCall]:
    """Yield the calls that were permitted or asked about, and those that no rule matched.

    Raises ValueError for a line that is no event, or that does not say why a call was denied.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        seen = read_line(line)
        if seen is None:
            raise ValueError(f"line {number} is no event of certexec")
        if seen.text("event") != "call":
            continue
        permitted = seen.text("verdict") in ("permit", "ask")
        if not permitted and not seen.text("reason"):
            raise ValueError(f"line {number} does not say why the call was denied")
        if not permitted and seen.text("reason") not in _WANTED:
            continue
        if not seen.text("program") or not seen.text("syscall"):
            raise ValueError(f"line {number} is no event of certexec")
        try:
            yield _noted(seen, number)
        except (ValueError, struct.error):
            raise ValueError(f"line {number} is no event of certexec") from None


def _noted(seen: Seen, number: int) -> NotedCall:
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
