"""Reading beside somebody who does something else: what came waits, a bounded number of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator

from certexec.errors import CertexecError
from certexec.observe.reading import Seen

WAITING_MAX = 2000
"""events that wait to be taken; who reads waits then, and who writes to a pipe does, too"""
STEP = 0.2
"""seconds in which a reader that waits looks whether it is to end"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Feed = Generator[Seen | str | None, None, None]
    """Events; words about the feed itself; None whenever nothing came for a moment."""


class Intake(threading.Thread):
    """Reads a feed.

    Attributes:
        ended: why no more comes: "" as long as something may.
    """

    def __init__(self, feed: Feed) -> None:
        super().__init__(daemon=True)
        self.ended = ""
        self._feed = feed
        self._waiting: queue.Queue[Seen | str] = queue.Queue(WAITING_MAX)
        self._over = threading.Event()

    def run(self) -> None:
        """Read until it ends or somebody has had enough."""
        said = "the log has ended"
        try:
            for one in self._feed:
                if self._over.is_set():
                    break
                if one is not None:
                    self._put(one)
        except CertexecError as error:
            said = error.message
        except OSError as error:
            said = f"cannot read any more: {error.strerror}"
        finally:
            self._feed.close()
            self.ended = said

    def _put(self, one: Seen | str) -> None:
        while not self._over.is_set():
            try:
                self._waiting.put(one, timeout=STEP)
            except queue.Full:
                continue
            return

    def take(self) -> tuple[list[Seen], list[str]]:
        """Return the events, and the words, that came."""
        events: list[Seen] = []
        words: list[str] = []
        for _ in range(WAITING_MAX):
            try:
                one = self._waiting.get_nowait()
            except queue.Empty:
                break
            if isinstance(one, str):
                words.append(one)
            else:
                events.append(one)
        return events, words

    def finish(self) -> None:
        """Read no more; returns when the reading has ended."""
        self._over.set()
        self.join()
