"""An example for everything that some comparisons can say together of one text (pure).

Several sets of texts divide all texts into classes: those that are in the same sets. ``examples``
finds every class that is not empty, with its shortest text, by reading all automata side by side.
So whoever judges one text of each has judged all texts.
"""

from __future__ import annotations

import functools

from certexec.policy.automaton import Automaton, TooComplex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.chain import Chain

    Place = tuple[int, tuple[tuple[int, int], ...], int]
    """State of the domain, (index, state) of every set that is open yet, bits of those settled."""

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


def examples(sets: Sequence[Automaton | Chain], domain: Automaton) -> dict[int, bytes]:
    """Return a text of the domain for every combination of sets that one can be in.

    The key has bit N where the text is in ``sets[N]``. Raises TooComplex.
    """
    found: dict[int, bytes] = {}
    start = _place(sets, domain.START, [(at, one.START) for at, one in enumerate(sets)], 0)
    known: dict[Place, tuple[Place, int] | None] = {start: None}
    waiting = [start]
    steps = 0
    for place in waiting:
        state, still_open, settled = place
        if domain.accepts(state):
            inside = settled
            for at, own in still_open:
                if sets[at].accepts(own):
                    inside |= 1 << at
            if inside not in found:
                found[inside] = _text(known, place)
        if not still_open and settled in found:
            continue  # all that follows is the same
        choices = _choices(sets, domain, place)
        steps += len(choices) * len(still_open)
        if steps > STEPS_MAX:
            raise TooComplex("too many steps")
        for byte in choices:
            following = domain.step(state, byte)
            if domain.settled(following) is False:
                continue
            after = _place(
                sets, following, [(at, sets[at].step(own, byte)) for at, own in still_open], settled
            )
            if after not in known:
                if len(known) >= PLACES_MAX:
                    raise TooComplex("too many combinations")
                known[after] = place, byte
                waiting.append(after)
    return found


def _place(
    sets: Sequence[Automaton | Chain], state: int, each: Sequence[tuple[int, int]], settled: int
) -> Place:
    still_open = []
    for at, own in each:
        answer = sets[at].settled(own)
        if answer is None:
            still_open.append((at, own))
        elif answer:
            settled |= 1 << at
    return state, tuple(still_open), settled


def _choices(sets: Sequence[Automaton | Chain], domain: Automaton, place: Place) -> list[int]:
    """Return bytes of which one stands for each way that leads on, readable ones first."""
    state, still_open, _ = place
    own = domain.masks(state)
    masks = {*own}
    for at, other in still_open:
        masks.update(sets[at].masks(other))
    possible = 0
    for mask in own:
        possible |= mask
    groups = [possible] if possible else []
    for mask in masks:
        groups = [part for group in groups for part in (group & mask, group & ~mask) if part]
    return [_ORDER[rank] for rank in sorted(map(_rank, groups))]


@functools.lru_cache(RANKS_MAX)
def _rank(group: int) -> int:
    """Return the place in the order of the first byte of a group."""
    return next(rank for rank, bit in enumerate(_BITS) if group & bit)


def _text(known: dict[Place, tuple[Place, int] | None], place: Place) -> bytes:
    read = bytearray()
    before = known[place]
    while before is not None:
        place, byte = before
        read.append(byte)
        before = known[place]
    return bytes(reversed(read))
