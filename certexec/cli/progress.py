"""How far a long work has come: one line on a terminal's standard error, which goes away again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time

from certexec.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELAY = 0.5
"""seconds before it is shown at all: most work is done by then."""
INTERVAL = 0.1
"""seconds between two pictures."""
BAR = 30
"""characters."""


class Progress:
    """Shows how many of how many; nothing where standard error is no terminal.

    Whoever prints anything meanwhile calls ``hide`` first: it may be the same terminal.
    """

    def __init__(self, what: str, *, wanted: bool = True) -> None:
        self._what = what
        self._shown = False
        self._next = time.monotonic() + DELAY
        try:
            terminal = os.isatty(sys.stderr.fileno())
        except (OSError, ValueError):
            terminal = False  # closed, or not a file at all
        self._wanted = wanted and terminal and os.environ.get("TERM") != "dumb"

    def show(self, done: int, total: int, final: bool) -> None:
        """Show it if it is time; ``final``: no more than ``total`` are to come."""
        if not self._wanted or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL
        width = shutil.get_terminal_size().columns - 1
        self._write("\r" + picture(self._what, done, total, final)[:width] + "\x1b[K")
        self._shown = True

    def hide(self) -> None:
        """Take the line away, if it is there."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give what a work of known length calls with how many of how many are done."""
    progress = Progress(what, wanted=not output.settings.quiet)
    try:
        yield lambda done, total: progress.show(done, total, final=True)
    finally:
        progress.hide()


def picture(what: str, done: int, total: int, final: bool) -> str:
    """Return the line: a bar once the whole is known, before that only how many there are."""
    if not final:
        return f"{what}: {done} of {total} or more"
    filled = BAR * done // max(total, 1)
    return f"{what}: [{'#' * filled}{'.' * (BAR - filled)}] {done} of {total}"
