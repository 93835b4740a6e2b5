"""Records as lines of a file: ``certexec run --log FILE``."""

from __future__ import annotations

import os
import select
import stat

from certexec.observe.event import Record
from certexec.observe.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LINE_MAX = 64 << 10
"""bytes of a text line in a file."""


def text_line(record: Record) -> str:
    """Render a record as systrace's line."""
    return record.line(LINE_MAX)


class Lines(Sink):
    """An open file that gets one line per record; ``render`` makes the line.

    A pipe or a terminal whose reader stops must not stop the program: the descriptor is made
    non-blocking, so its open file description must be nobody else's.
    ``torn``: the file ends in the middle of a line, as after a full disk: that one is ended first.
    ``complaints``: a descriptor for one line at the end where events got lost, -1 for none.
    """

    __slots__ = ("_rest", "_torn", "complaints", "fd", "render")
    name = "the log file"
    burst = 1000
    """Who asks for a file wants to see everything; this is a guard for the disk."""

    def __init__(
        self, fd: int, render: Callable[[Record], str] = text_line, torn: bool = False,
        complaints: int = -1,
    ) -> None:  # fmt: skip
        super().__init__(there=True)
        self.fd = fd
        self.render = render
        self._rest = b"\n" if torn else b""  # what is still to be written of the last line
        self.complaints = complaints
        self._torn = 0  # how many events that line stands for
        try:
            os.set_blocking(fd, False)
        except OSError:
            return  # writing will say what is wrong with it

    def deliver(self, record: Record) -> None:
        """Append one line in one write, so that lines of several writers do not mix.

        Where only a part of it fits, the rest is kept and comes before whatever is next.
        """
        self.complete()
        data = self.render(record).encode("utf-8", "backslashreplace") + b"\n"
        self._rest = data[os.write(self.fd, data) :]
        self._torn = record.count

    def complete(self) -> None:
        """Write the rest of a line. Raises OSError when it still does not fit."""
        while self._rest:
            self._rest = self._rest[os.write(self.fd, self._rest) :]

    def finish(self, milliseconds: int) -> bool:
        """Tell what is untold yet; a line that stays torn counts as lost."""
        done = super().finish(milliseconds)
        if self._rest:
            self.lost += self._torn
            self._rest = b""
        if self.lost:
            self._complain()
        return done and not self.lost

    def _complain(self) -> None:
        """Tell who asked for the file what it lacks: nobody looks for that in a log."""
        if self.complaints < 0:
            return
        what = "1 event" if self.lost == 1 else f"{self.lost} events"
        text = f"certexec: warning: {what} could not be written to {self.name}: {self.why}\n"
        try:
            os.write(self.complaints, text.encode("utf-8", "backslashreplace"))
        except OSError:
            return  # nobody listens

    def wait(self, milliseconds: int) -> bool:
        """Wait until a pipe's reader reads."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return any(happened & select.POLLOUT for _, happened in poll.poll(milliseconds))


def is_torn(path: str) -> bool:
    """Tell whether a file ends in the middle of a line, as far as it may be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    except OSError:
        return False
    finally:
        os.close(fd)
