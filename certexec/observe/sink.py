"""What every sink does alike: never in a program's way, and never silent about what got lost."""

from __future__ import annotations

import errno
import time

from certexec.observe.event import Lost, Note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record


class Sink:
    """A place where records go. What it cannot take is counted, and told before the next it can.

    Attributes:
        name: for messages; burst: lines a second that it can be asked to take.
        there: it has been reached, or was promised to exist: its losses are somebody's business.
        lost: how many events could not be delivered and were not told yet; why: the last reason.
    """

    __slots__ = ("lost", "there", "why")
    name = ""
    burst = 100

    def __init__(self, there: bool = False) -> None:
        self.there = there
        self.lost = 0
        self.why = ""

    def write(self, record: Record) -> None:
        """Deliver a record, or count it as lost. Waits for nobody, or not worth mentioning."""
        try:
            self._tell_losses()
            self.deliver(record)
            self.there = True
        except OSError as error:
            self._missed(record.count, error)

    def note(self, text: str) -> None:
        """Deliver words about certexec itself."""
        self.write(Note(time.time(), text))

    def finish(self, milliseconds: int) -> bool:
        """Tell what is untold yet, waiting for room at most so long; False when that failed."""
        for again in (True, False):
            try:
                self.complete()
                self._tell_losses()
                break
            except OSError as error:
                self._missed(0, error)
                if not again or not self.wait(milliseconds):
                    break
        return not self.lost

    def deliver(self, record: Record) -> None:
        """Send one record as a whole. Raises OSError when it cannot be sent now."""
        raise AssertionError(self.name)

    def complete(self) -> None:
        """Finish what was delivered in part. Raises OSError."""

    def wait(self, milliseconds: int) -> bool:
        """Wait until there may be room; False: there is none, or waiting does not help."""
        return False

    def _tell_losses(self) -> None:
        if self.lost:
            self.deliver(Lost(time.time(), self.lost, self.why))
            self.lost = 0

    def _missed(self, count: int, error: OSError) -> None:
        if error.errno == errno.EAGAIN:
            self.there = True  # but does not read
        self.lost += count
        self.why = error.strerror or error.__class__.__name__
