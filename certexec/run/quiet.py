"""A moment at which nobody waits: what the resident server is to be told keeps no program waiting.

A program that starts makes its first supervised calls at once, and stands still until each has its
answer. Whoever tells somebody else meanwhile makes it stand still for as long as that one takes
notice: on the same processor the one who is woken goes first.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = 3
"""milliseconds without a call after which nobody is taken to wait."""
LATEST = 0.05
"""seconds after which it is told all the same; a start counts as one for four times as long."""


class Quiet:
    """What is to be done at such a moment, once; ``do`` must not raise."""

    __slots__ = ("_do", "_latest")

    def __init__(self, do: Callable[[], None]) -> None:
        self._do: Callable[[], None] | None = do
        self._latest = time.monotonic() + LATEST

    def comes(self) -> bool:
        """Tell whether it is still to be done; when it has been put off for long, do it now."""
        if self._do is None:
            return False
        if time.monotonic() >= self._latest:
            self.now()
        return self._do is not None

    def now(self) -> None:
        """Do it, unless it is done."""
        do, self._do = self._do, None
        if do is not None:
            do()

    @staticmethod
    def patience(other: int | None) -> int:
        """Return the milliseconds to wait for a call; ``other``: to what else is due, or None."""
        return QUIET if other is None else min(other, QUIET)
