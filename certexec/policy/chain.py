"""The texts that are one text, or begin with one, byte by byte (pure): most of what rules compare.

A ``Chain`` says the same as the Automaton of its comparison, and is made and read without any set
of states: a policy of a thousand names has a thousand of them.
"""

from __future__ import annotations

from certexec.policy.operators import pattern_bytes

_SLASH = ord("/")
_SPECIAL = frozenset(b"*?[\\")
EXACT, BELOW, BEGINNING = range(3)
"""What may come behind the text: nothing; a slash, and then anything; anything."""


class Chain:
    """Reads texts of one set; its states are numbers, ``START`` the first (as Automaton's)."""

    START = 0
    __slots__ = ("_all", "_bytes", "_last", "_masks", "_none", "_tail")

    def __init__(self, text: bytes, tail: int, *, ignore_case: bool = False) -> None:
        """``text`` holds no NUL."""
        self._bytes: list[tuple[int, ...]] = [
            tuple({*bytes((byte,)).lower(), *bytes((byte,)).upper()}) if ignore_case else (byte,)
            for byte in text
        ]
        if tail == BELOW:
            self._bytes.append((_SLASH,))
        self._masks: list[tuple[int, ...]] = [
            (sum(1 << byte for byte in each),) for each in self._bytes
        ]
        self._last = len(text)
        self._tail = tail
        self._none = len(self._bytes) + 1
        self._all = -1 if tail == EXACT else len(self._bytes)
        self._masks += [(), ()]

    def accepts(self, state: int) -> bool:
        """Tell whether a text that leads here is in the set."""
        return state in (self._last, self._all)

    def settled(self, state: int) -> bool | None:
        """Tell whether every text that goes on from here is in the set, or none; None: it hangs."""
        if state == self._all:
            return True
        return False if state == self._none else None

    def masks(self, state: int) -> tuple[int, ...]:
        """Return sets of bytes, as bits: two that are in the same ones lead to the same state."""
        return self._masks[state]

    def going_on(self, state: int) -> tuple[int, ...]:
        """Return the bytes that lead on from an open state, to the next; others lead nowhere."""
        return self._bytes[state] if state < len(self._bytes) else ()

    def step(self, state: int, byte: int) -> int:
        """Return the state after one more byte."""
        if state < len(self._bytes) and byte in self._bytes[state]:
            return state + 1
        return state if state == self._all else self._none


def chain(operator: str, data: str) -> Chain | None:
    """Return the chain for a comparison, None where it takes more; macros have been replaced."""
    text = pattern_bytes(data)
    if 0 in text:
        return None
    if operator == "eq":
        return Chain(text, EXACT, ignore_case=True)
    if operator != "match":
        return None
    head = text.removesuffix(b"*")
    if not _SPECIAL.isdisjoint(head):
        return None
    return Chain(head, BELOW if head == text else BEGINNING)
