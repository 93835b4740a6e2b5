"""Sets of texts as finite automata over bytes (pure): what a comparison, or an argument, can be.

Every operator of the language says something about a text that a finite automaton can tell, so
questions about *all* texts have exact answers (certexec.policy.witness asks them). A set is written
down as a tree of the classes below; an ``Automaton`` reads it byte by byte. The states of one are
made when they are first needed, and numbered.

Texts end at their first NUL, so no byte is 0.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANY = (1 << 256) - 2
"""All bytes that a text may hold, as bits."""
STATES_MAX = 20_000
"""states of one set before they are made one by one; a repetition such as {1,9999} has too many"""
_ALWAYS, _AT_START, _AT_END = range(3)


class TooComplex(Exception):
    """A set cannot be written down, or has too many states; never leaves this package."""


class Bytes:
    """One byte out of some, given as bits."""

    __slots__ = ("mask",)

    def __init__(self, mask: int) -> None:
        self.mask = mask & ANY


class Series:
    """One part after the other; of none: the empty text."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Tree) -> None:
        self.parts = parts


class Either:
    """One part or another."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Tree) -> None:
        self.parts = parts


class Repeat:
    """The part at least so often, and at most (None: as often as you like)."""

    __slots__ = ("least", "most", "part")

    def __init__(self, part: Tree, least: int, most: int | None) -> None:
        self.part = part
        self.least = least
        self.most = most


class Everything:
    """Any text at all, to its end: nothing may stand behind it."""

    __slots__ = ()


class Anchor:
    """The place before the first byte, or behind the last."""

    __slots__ = ("at_end",)

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end


if TYPE_CHECKING:
    Tree = Bytes | Series | Either | Repeat | Everything | Anchor


def one_of(characters: Iterable[int]) -> Bytes:
    """Return the set of these bytes."""
    mask = 0
    for byte in characters:
        mask |= 1 << byte
    return Bytes(mask)


def literal(data: bytes, *, ignore_case: bool = False) -> Tree:
    """Return the set of one text, or of those that differ from it in the case of ASCII letters."""
    if not ignore_case:
        return Series(*(one_of((byte,)) for byte in data))
    return Series(
        *(one_of({*bytes((byte,)).lower(), *bytes((byte,)).upper()}) for byte in data)
    )


class Automaton:
    """Reads texts of one set; its states are numbers, ``START`` the first."""

    START = 0

    def __init__(self, tree: Tree) -> None:
        """Raises TooComplex."""
        self._bytes: list[list[tuple[int, int]]] = []
        self._jumps: list[list[tuple[int, int]]] = []
        self._everything: set[int] = set()
        first, self._last = self._add(tree)
        self._useful = self._leading_on()
        self._universal = {
            each for each in self._everything if self._last in self._closure((each,), ())
        }
        self._numbers: dict[frozenset[int], int] = {}
        self._members: list[frozenset[int]] = []
        self._steps: list[dict[int, int]] = []
        self._masks: list[tuple[int, ...]] = []
        self._accepting: list[bool] = []
        start = self._closure((first,), (_AT_START,))
        self._number(start)
        self._accepting[0] = self._last in self._closure(start, (_AT_START, _AT_END))

    def accepts(self, state: int) -> bool:
        """Tell whether a text that leads here is in the set."""
        return self._accepting[state]

    def settled(self, state: int) -> bool | None:
        """Tell whether every text that goes on from here is in the set, or none; None: it hangs."""
        members = self._members[state]
        if not members:
            return False
        return None if self._universal.isdisjoint(members) else True

    def masks(self, state: int) -> tuple[int, ...]:
        """Return sets of bytes, as bits: two that are in the same ones lead to the same state."""
        return self._masks[state]

    def step(self, state: int, byte: int) -> int:
        """Return the state after one more byte."""
        steps = self._steps[state]
        known = steps.get(byte)
        if known is None:
            bit = 1 << byte
            targets = [
                target for member in self._members[state]
                for mask, target in self._bytes[member] if mask & bit
            ]
            known = steps[byte] = self._number(self._closure(targets, ()))
        return known

    def holds(self, text: bytes) -> bool:
        """Tell whether a text is in the set."""
        state = self.START
        for byte in text:
            state = self.step(state, byte)
        return self.accepts(state)

    # ---- making it ----

    def _state(self) -> int:
        if len(self._bytes) >= STATES_MAX:
            raise TooComplex("too many states")
        self._bytes.append([])
        self._jumps.append([])
        return len(self._bytes) - 1

    def _add(self, tree: Tree) -> tuple[int, int]:
        """Make the states of a part; returns where it begins and ends."""
        first, last = self._state(), self._state()
        if isinstance(tree, Bytes):
            self._bytes[first].append((tree.mask, last))
        elif isinstance(tree, Series):
            at = first
            for part in tree.parts:
                begin, end = self._add(part)
                self._jumps[at].append((_ALWAYS, begin))
                at = end
            self._jumps[at].append((_ALWAYS, last))
        elif isinstance(tree, Either):
            for part in tree.parts:
                begin, end = self._add(part)
                self._jumps[first].append((_ALWAYS, begin))
                self._jumps[end].append((_ALWAYS, last))
        elif isinstance(tree, Repeat):
            self._add_repeat(tree, first, last)
        elif isinstance(tree, Everything):
            self._bytes[first].append((ANY, first))
            self._jumps[first].append((_ALWAYS, last))
            self._everything.add(first)
        else:
            self._jumps[first].append((_AT_END if tree.at_end else _AT_START, last))
        return first, last

    def _add_repeat(self, tree: Repeat, first: int, last: int) -> None:
        at = first
        for _ in range(tree.least):
            begin, end = self._add(tree.part)
            self._jumps[at].append((_ALWAYS, begin))
            at = end
        if tree.most is None:
            begin, end = self._add(tree.part)
            loop = self._state()
            self._jumps[at].append((_ALWAYS, loop))
            self._jumps[loop] += [(_ALWAYS, begin), (_ALWAYS, last)]
            self._jumps[end].append((_ALWAYS, loop))
            return
        for _ in range(tree.most - tree.least):
            self._jumps[at].append((_ALWAYS, last))
            begin, end = self._add(tree.part)
            self._jumps[at].append((_ALWAYS, begin))
            at = end
        self._jumps[at].append((_ALWAYS, last))

    def _leading_on(self) -> set[int]:
        """Return the states from which the end can be reached at all."""
        before: list[list[int]] = [[] for _ in self._bytes]
        for state, edges in enumerate(self._bytes):
            for mask, target in edges:
                if mask:
                    before[target].append(state)
        for state, jumps in enumerate(self._jumps):
            for _, target in jumps:
                before[target].append(state)
        found = {self._last}
        waiting = [self._last]
        while waiting:
            for state in before[waiting.pop()]:
                if state not in found:
                    found.add(state)
                    waiting.append(state)
        return found

    def _closure(self, states: Iterable[int], where: Sequence[int]) -> frozenset[int]:
        """Return the states that are reached without reading, in a place where these hold."""
        found = {state for state in states if state in self._useful}
        waiting = list(found)
        while waiting:
            for condition, target in self._jumps[waiting.pop()]:
                if condition != _ALWAYS and condition not in where:
                    continue
                if target not in found and target in self._useful:
                    found.add(target)
                    waiting.append(target)
        return frozenset(found)

    def _number(self, members: frozenset[int]) -> int:
        known = self._numbers.get(members)
        if known is None:
            known = self._numbers[members] = len(self._members)
            self._members.append(members)
            self._steps.append({})
            self._masks.append(
                tuple({mask for member in members for mask, _ in self._bytes[member]})
            )
            self._accepting.append(self._last in self._closure(members, (_AT_END,)))
        return known
