"""Calls that somebody else wrote down, before policies are thought of."""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN_PROGRAM = ""
"""Of a call before the log says what is executed."""


class NotedCall(NamedTuple):
    """One call in a log.

    Attributes:
        program: path of the image; number: of the line.
        call: Linux's name of it.
        registers: as far as the log shows them, else 0.
        texts: argument name to its texts, as rules see them; None: the log does not show them.
        missing: the call failed because something was not there; made: it made something new.
        policy: the program in the header of the policy that judged it, "" where none did.
        times: for how many calls it stands.
        foreign: it was made by the 32-bit ABI.
    """

    program: str
    number: int
    call: str
    registers: tuple[int, int, int, int, int, int]
    texts: dict[str, list[str]] | None
    missing: bool = False
    made: bool = False
    policy: str = ""
    times: int = 1
    foreign: bool = False
