"""An example for everything that some comparisons can say together of one text (pure).

Several sets of texts divide all texts into classes: those that are in the same sets. ``examples``
finds every class that is not empty, with its shortest text, by reading all automata side by side.
So whoever judges one text of each has judged all texts.
"""

from __future__ import annotations

import functools
import operator

from certexec.policy.automaton import Automaton, TooComplex
from certexec.policy.chain import Chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Joined = tuple[int, tuple[tuple[int, int], ...], int]
    """A state, (index, state) of every set that is open yet, bits of those settled."""

PLACES_MAX = 60_000
"""places that are looked at for one question; each costs some 10 microseconds"""
STEPS_MAX = 3_000_000
"""steps of single sets for one question; each costs a microsecond or two. Where a hundred sets stay
open (globs with several stars), every way on from a place costs a hundred."""
RANKS_MAX = 4096
"""groups of bytes that are remembered: most are single bytes, or all but some"""
_READABLE = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ._-/"
_ORDER = bytes(
    dict.fromkeys((*_READABLE, *range(32, 127), *range(1, 32), *range(127, 256)))
)
"""Bytes in the order in which they are taken for an example."""
_BITS = [1 << byte for byte in _ORDER]


class _Joint:
    """Reads a domain and all sets that are no chains side by side; its states are numbers.

    Beside a thousand chains these few are in the same states again and again, so what a byte leads
    to is kept.
    """

    def __init__(self, sets: Sequence[tuple[int, Automaton]], domain: Automaton) -> None:
        self._sets = dict(sets)
        self._domain = domain
        self._numbers: dict[Joined, int] = {}
        self._members: list[Joined] = []
        self._steps: list[dict[int, int]] = []
        self.masks: list[tuple[int, ...]] = []
        """Of a state: sets of bytes as bits, those that the domain goes on with first of all."""
        self.possible: list[int] = []
        """All bytes that the domain goes on with, as bits."""
        self.inside: list[int | None] = []
        """Bits of the sets that a text is in which ends here, None where the domain has none."""
        self.settled: list[int | None] = []
        """The same for all texts that go on from here, None where that hangs on how."""
        self.open: list[int] = []
        """How many sets hang on that."""
        self._enter(domain.START, [(at, one.START) for at, one in sets], 0)

    def step(self, number: int, byte: int) -> int:
        """Return the state after one more byte, -1 where the domain has no such text."""
        steps = self._steps[number]
        known = steps.get(byte)
        if known is None:
            state, still_open, settled = self._members[number]
            following = self._domain.step(state, byte)
            if self._domain.settled(following) is False:
                known = -1
            else:
                each = [(at, self._sets[at].step(own, byte)) for at, own in still_open]
                known = self._enter(following, each, settled)
            steps[byte] = known
        return known

    def _enter(self, state: int, each: Sequence[tuple[int, int]], settled: int) -> int:
        still_open, settled = _sorted_out(self._sets, each, settled)
        joined = state, still_open, settled
        number = self._numbers.get(joined)
        if number is not None:
            return number
        number = self._numbers[joined] = len(self._members)
        self._members.append(joined)
        self._steps.append({})
        own = self._domain.masks(state)
        masks = {*own}
        inside = settled
        for at, other in still_open:
            masks.update(self._sets[at].masks(other))
            inside |= self._sets[at].accepts(other) << at
        self.masks.append(tuple(masks))
        self.possible.append(functools.reduce(operator.or_, own, 0))
        self.inside.append(inside if self._domain.accepts(state) else None)
        self.settled.append(None if still_open else settled)
        self.open.append(len(still_open))
        return number


def examples(sets: Sequence[Automaton | Chain], domain: Automaton) -> dict[int, bytes]:
    """Return a text of the domain for every combination of sets that one can be in.

    The key has bit N where the text is in ``sets[N]``. Raises TooComplex.
    """
    chains = {at: one for at, one in enumerate(sets) if isinstance(one, Chain)}
    joint = _Joint([(at, one) for at, one in enumerate(sets) if isinstance(one, Automaton)], domain)
    found: dict[int, bytes] = {}
    still_open, settled = _sorted_out(chains, [(at, one.START) for at, one in chains.items()], 0)
    start = 0, still_open, settled
    known: dict[Joined, tuple[Joined, int] | None] = {start: None}
    waiting = [start]
    steps = 0
    for place in waiting:
        state, still_open, settled = place
        inside = joint.inside[state]
        if inside is not None:
            inside |= settled
            for at, own in still_open:
                if chains[at].accepts(own):
                    inside |= 1 << at
            if inside not in found:
                found[inside] = _text(known, place)
        others = joint.settled[state]
        if not still_open and others is not None and settled | others in found:
            continue  # all that follows is the same
        going_on: dict[int, list[tuple[int, int]]] = {}
        for at, own in still_open:
            for byte in chains[at].going_on(own):
                going_on.setdefault(byte, []).append((at, own + 1))
        masks = {*joint.masks[state]}
        for at, own in still_open:
            masks.update(chains[at].masks(own))
        choices = _choices(joint.possible[state], masks)
        steps += len(choices) * (len(still_open) + joint.open[state])
        if steps > STEPS_MAX:
            raise TooComplex("too many steps")
        for byte in choices:
            following = joint.step(state, byte)
            if following < 0:
                continue
            after = following, *_sorted_out(chains, going_on.get(byte, ()), settled)
            if after not in known:
                if len(known) >= PLACES_MAX:
                    raise TooComplex("too many combinations")
                known[after] = place, byte
                waiting.append(after)
    return found


def _sorted_out(
    sets: Mapping[int, Automaton | Chain], each: Sequence[tuple[int, int]], settled: int
) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return the sets that are open yet, and the bits of those that hold all that follows."""
    still_open = []
    for at, own in each:
        answer = sets[at].settled(own)
        if answer is None:
            still_open.append((at, own))
        elif answer:
            settled |= 1 << at
    return tuple(still_open), settled


def _choices(possible: int, masks: Iterable[int]) -> list[int]:
    """Return bytes of which one stands for each way that leads on, readable ones first."""
    groups = [possible] if possible else []
    for mask in masks:
        groups = [part for group in groups for part in (group & mask, group & ~mask) if part]
    return [_ORDER[rank] for rank in sorted(map(_rank, groups))]


@functools.lru_cache(RANKS_MAX)
def _rank(group: int) -> int:
    """Return the place in the order of the first byte of a group."""
    return next(rank for rank, bit in enumerate(_BITS) if group & bit)


def _text(known: dict[Joined, tuple[Joined, int] | None], place: Joined) -> bytes:
    read = bytearray()
    before = known[place]
    while before is not None:
        place, byte = before
        read.append(byte)
        before = known[place]
    return bytes(reversed(read))
