"""Our own log (JSON Lines, docs/events.md), read again."""

from __future__ import annotations

import json
import struct

from certexec.kernel.syscalls import NUMBERS
from certexec.observe.seen import Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REGISTERS = struct.Struct("<6Q")
_NONE = (0, 0, 0, 0, 0, 0)
_WANTED = ("unmatched", "no-policy")
"""Why a call was denied that a policy could yet permit: a rule that denies was meant to."""


def read_events(lines: Iterable[str]) -> Iterator[Seen]:
    """Yield the calls that were permitted, and those that no rule matched.

    Raises ValueError for a line that is no event.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if event["event"] != "call":
                continue
            if event["verdict"] != "permit" and event["reason"] not in _WANTED:
                continue
            yield _seen(event, number)
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            raise ValueError(f"line {number} is no event of certexec") from None


def _seen(event: dict[str, object], number: int) -> Seen:
    texts: dict[str, list[str]] = {}
    arguments = event.get("arguments")
    registers = _NONE
    if isinstance(arguments, dict):
        for name, text in arguments.items():
            texts.setdefault(str(name).partition("[")[0], []).append(str(text))
    else:
        registers = _REGISTERS.unpack(bytes.fromhex(str(event["args"])))
    flags = texts.get("oflags", [""])[0]
    if flags:
        registers = _with_flags(str(event["syscall"]), flags)
    return Seen(
        str(event["program"]), number, str(event["syscall"]), registers,
        texts if isinstance(arguments, dict) else None,
        foreign=event["number"] != NUMBERS.get(str(event["syscall"]), event["number"]),
    )  # fmt: skip


def _with_flags(call: str, text: str) -> tuple[int, int, int, int, int, int]:
    """Return registers of an open that does what the text of its flags says."""
    flags = {"ro": 0, "wo": 1, "rw": 2}.get(text[:2], 3)
    flags |= 0o2000 * ("a" in text[2:]) | 0o100 * ("c" in text[2:]) | 0o1000 * ("t" in text[2:])
    return (0, flags, 0, 0, 0, 0) if call == "open" else (0, 0, flags, 0, 0, 0)
