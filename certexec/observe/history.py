"""The events that came while somebody looks: the last so many, what was counted, what is shown.

What comes is without end and what it says was made up by programs, so everything here has a limit:
the events that are kept, by number and by size, and the programs that are counted apart. What had
to go is counted. The terminal app shows this and nothing else.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from certexec.observe.reading import VERDICTS, Seen
from certexec.observe.typed_filter import holds, parse_filter

KEPT_MAX = 10_000
"""events that are kept"""
CHARACTERS_MAX = 64 << 20
"""characters of all events that are kept, as JSON; one can be 1 MiB long (reading.LINE_MAX)"""
PROGRAMS_MAX = 1000
"""programs that are counted apart; whoever can write to a log can make up any number"""
OTHERS = "others"
"""The programs beyond those, and verdicts that are none."""


class Entry(NamedTuple):
    """An event that is kept; ``number``: the how-manieth it was; ``size``: characters."""

    number: int
    seen: Seen
    size: int


class History:
    """What came, and what of it is looked at.

    Attributes:
        kept_max: how many are kept at most.
        shown: the entries that the filter wants, oldest first; while paused, those of then.
        taken: entries that came; dropped: those of them that had to go.
        verdicts: how many calls of each verdict there were, folded ones included; lost: events
            that a log tells were lost.
        programs: the same by program, in the order in which they came.
        hosts: whether any event says which machine it is from.
        following: the newest is the marked one.
        paused: ``shown`` stays as it is, whatever comes.
    """

    def __init__(self, kept: int = KEPT_MAX, characters: int = CHARACTERS_MAX) -> None:
        self.shown: list[Entry] = []
        self.taken = self.dropped = self.lost = 0
        self.verdicts: dict[str, int] = {}
        self.programs: dict[str, dict[str, int]] = {}
        self.hosts = False
        self.following = True
        self.paused = False
        self.filter = parse_filter("")
        self._kept: list[Entry] = []
        self._size = 0
        self.kept_max = kept
        self._characters_max = characters
        self._marked = 0  # its number
        self._paused_at = 0

    # -- what comes -------------------------------------------------------------------------------

    def add(self, events: Iterable[Seen]) -> None:
        """Take events in, and let go of the oldest where there are too many."""
        for seen in events:
            self.taken += 1
            entry = Entry(self.taken, seen, len(json.dumps(seen.members)))
            self._kept.append(entry)
            self._size += entry.size
            self._count(seen)
            self.hosts = self.hosts or bool(seen.host)
            if not self.paused and self.filter.wants(seen):
                self.shown.append(entry)
        self._let_go()

    def _count(self, seen: Seen) -> None:
        kind = seen.text("event")
        if kind == "lost":
            self.lost += seen.count
        elif kind == "overflow":
            calls = seen.members.get("calls")
            for label, number in calls.items() if isinstance(calls, dict) else ():
                if isinstance(number, int) and number > 0:
                    _add(self.verdicts, str(label).partition(" ")[0], number)
        elif kind == "call":
            program, verdict = seen.text("program"), seen.text("verdict")
            if program not in self.programs and len(self.programs) >= PROGRAMS_MAX:
                program = OTHERS
            _add(self.verdicts, verdict, seen.count)
            _add(self.programs.setdefault(program, {}), verdict, seen.count)

    def _let_go(self) -> None:
        gone = 0
        while (
            len(self._kept) - gone > self.kept_max or self._size > self._characters_max
        ) and gone < len(self._kept):
            self._size -= self._kept[gone].size
            gone += 1
        if not gone:
            return
        del self._kept[:gone]
        self.dropped += gone
        if not self.paused:
            first = self._kept[0].number if self._kept else self.taken + 1
            del self.shown[: bisect_left(self.shown, first, key=_number)]

    # -- what is shown ----------------------------------------------------------------------------

    def choose(self, text: str, *, typing: bool = False) -> None:
        """Show what a typed filter wants; ``typing``: there is more to come.

        Raises CliError("usage"); nothing changes then.
        """
        self.filter = parse_filter(text, typing=typing)
        self._show()

    def _show(self) -> None:
        """Look at all that is kept, or, while paused, at what had come by then."""
        last = self._paused_at if self.paused else self.taken
        self.shown = [
            one for one in self._kept if one.number <= last and self.filter.wants(one.seen)
        ]

    def pause(self) -> None:
        """Leave what is shown as it is; what comes is kept and counted meanwhile."""
        self.paused, self._paused_at = True, self.taken

    def resume(self) -> None:
        """Show what came meanwhile."""
        self.paused = False
        self._show()

    @property
    def waiting(self) -> int:
        """How many came since the pause began."""
        return self.taken - self._paused_at if self.paused else 0

    # -- the marked one ---------------------------------------------------------------------------

    @property
    def at(self) -> int:
        """The place of the marked one among those that are shown; 0 where none is."""
        if self.following:
            return max(len(self.shown) - 1, 0)
        found = bisect_left(self.shown, self._marked, key=_number)
        return min(found, max(len(self.shown) - 1, 0))

    @property
    def marked(self) -> Seen | None:
        """The marked one, None where nothing is shown."""
        return self.shown[self.at].seen if self.shown else None

    def go(self, place: int) -> None:
        """Mark another one; at the newest it is followed, unless there is a pause."""
        if not self.shown:
            return
        place = min(max(place, 0), len(self.shown) - 1)
        self._marked = self.shown[place].number
        self.following = place == len(self.shown) - 1

    def find(self, words: str, step: int = 1) -> bool:
        """Mark the next one that holds some words, after this one and then from the start.

        ``step``: -1 looks backwards. False where none does.
        """
        wanted = words.casefold().split()
        at, count = self.at, len(self.shown)
        for distance in range(1, count + 1):
            place = (at + step * distance) % count
            if holds(self.shown[place].seen, wanted):
                self.go(place)
                return True
        return False


def _number(entry: Entry) -> int:
    return entry.number


def _add(counts: dict[str, int], verdict: str, number: int) -> None:
    known = verdict if verdict in VERDICTS else OTHERS
    counts[known] = counts.get(known, 0) + number
