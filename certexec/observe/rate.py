"""Between programs and sinks: what repeats, or comes too fast, is counted instead of written.

The first record of a kind is written at once. Those that are alike, within a second of it, become
one line that says how many there were; and when more different ones come in a second than the
sinks are to take, those beyond become one line that counts them by call and verdict. The line comes
when the second is over, or when the program ends. So for every second the sum of what the lines
stand for is what happened.
"""

from __future__ import annotations

import _thread
import os
import time

from certexec.observe.event import Note, Overflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certexec.observe.event import Record
    from certexec.observe.sink import Sink

WINDOW = 1.0
"""seconds after which what was folded is told."""
LABELS_MAX = 64
"""kinds of records that are counted by name when there are too many; a program can make up
numbers of system calls."""
OTHERS = "others"
FINAL_PATIENCE = 1000
"""milliseconds to wait, when the program has ended, for somebody to take what is untold."""


class Folding:
    """Passes records on to ``sinks``, fewer of them.

    ``resort`` gives the sinks to which the loss of records is told when, at the end, all those that
    have seen it are the ones that could not take them.

    Any thread may write. One that has taken the rights of somebody else, who may not be allowed to
    log, leaves its record for ``tick``.
    """

    __slots__ = (
        "_burst", "_clock", "_ends", "_euid", "_kinds", "_later", "_lock", "_others", "_resort",
        "_room", "_started", "owes", "sinks",
    )  # fmt: skip

    def __init__(
        self,
        sinks: Sequence[Sink],
        resort: Callable[[], Sequence[Sink]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sinks = sinks
        self.owes = False  # whether there is something that no line tells of yet
        self._lock = _thread.allocate_lock()
        self._euid = os.geteuid()
        self._later: list[Record] = []
        self._resort = resort
        self._clock = clock
        self._burst = min((sink.burst for sink in sinks), default=0)
        self._ends = 0.0
        self._kinds: dict[object, _Folded | None] = {}  # None: written once, nothing folded
        self._others: dict[str, int] = {}
        self._started = 0.0
        self._room = self._burst

    def note(self, text: str) -> None:
        """Pass words about certexec itself on."""
        self.write(Note(time.time(), text))

    def write(self, record: Record) -> None:
        """Pass a record on, or count it."""
        if not self.sinks:
            return
        with self._lock:
            if os.geteuid() == self._euid:
                self._write(record)
            else:
                self._later.append(record)
                self.owes = True

    def _write(self, record: Record) -> None:
        now = self._clock()
        if now >= self._ends:
            self._turn(now)
        key = record.key()
        if key in self._kinds:
            folded = self._kinds[key]
            if folded is None:
                self._kinds[key] = _Folded(record)
            else:
                folded.last = record
                folded.count += record.count
            self.owes = True
        elif self._room > 0:
            self._room -= 1
            self._kinds[key] = None
            self._pass(record)
        else:
            self._overflow(record)

    def patience(self) -> int | None:
        """Return the milliseconds until ``tick`` has something to tell, None when it has not."""
        if not self.owes:
            return None
        if self._later:
            return 0
        return max(int((self._ends - self._clock()) * 1000) + 1, 0)

    def tick(self) -> None:
        """Tell what is due. To be called as often as one likes."""
        if self.owes:
            with self._lock:
                self._catch_up()
                now = self._clock()
                if now >= self._ends:
                    self._turn(now)

    def close(self) -> None:
        """Tell everything that is untold, to whomever can still be told."""
        with self._lock:
            self._catch_up()
            self._turn(self._clock())
        failed = [sink for sink in self.sinks if not sink.finish(FINAL_PATIENCE) and sink.there]
        if not failed:
            return
        others = [sink for sink in self.sinks if sink not in failed and sink.there]
        if not others and self._resort is not None:
            others = list(self._resort())
        for sink in failed:
            for other in others:
                other.note(f"{sink.lost} events could not be written to {sink.name}: {sink.why}")

    def _catch_up(self) -> None:
        later, self._later = self._later, []
        if later:
            self.owes = any(self._kinds.values()) or bool(self._others)
        for record in later:
            self._write(record)

    def _overflow(self, record: Record) -> None:
        label = record.label()
        if label not in self._others and len(self._others) >= LABELS_MAX:
            label = OTHERS
        if not self._others:
            self._started = record.time
        self._others[label] = self._others.get(label, 0) + record.count
        self.owes = True

    def _turn(self, now: float) -> None:
        """Begin a new second: tell what was folded in the last one."""
        self._ends = now + WINDOW
        goes_on: dict[object, _Folded | None] = {}
        for key, folded in self._kinds.items():
            if folded is not None:
                goes_on[key] = None
                self._pass(folded.told())
        if self._others:
            self._pass(Overflow(time.time(), self._started, self._others))
            self._others = {}
        self._kinds = goes_on
        self._room = self._burst - len(goes_on)
        self.owes = False

    def _pass(self, record: Record) -> None:
        for sink in self.sinks:
            sink.write(record)


class _Folded:
    """Records that are alike: how many, the last of them, and when the first came."""

    __slots__ = ("count", "last", "since")

    def __init__(self, record: Record) -> None:
        self.last = record
        self.count = record.count
        self.since = record.time

    def told(self) -> Record:
        """Return the last one as the record of all of them."""
        self.last.count = self.count
        self.last.since = self.since
        return self.last
