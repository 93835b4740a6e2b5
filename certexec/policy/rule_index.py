"""Which of many rules can be about a text at all (pure): the rest need not be asked.

Most conditions hold only for one text (``eq``), or for texts that begin in one way (``match``). So
rules are kept by these, and whoever judges a thousand texts by a thousand rules does not compare
each with each. What is found is more than what applies, never less, and in its order.
"""

from __future__ import annotations

import functools

from certexec.policy.model import And, Not, Symbol, postorder, symbols
from certexec.policy.operators import expand, needs_expansion, pattern_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from certexec.policy.model import Expression, Rule, Subject

    Slot = tuple[str, int]
    """An argument, and its place among those of its name."""
    Key = tuple[Slot, bool, bytes]
    """Of what text, whether it is all of it (in lower case) or its beginning, the bytes."""

_SPECIAL = frozenset(b"*?[\\")
_BEGINNING_MIN = 2
"""bytes; a shorter beginning is every name's"""
KEPT_MAX = 16
"""lists of rules whose index is kept"""
WORTHWHILE = 8
"""rules; fewer are asked one by one as quickly"""


class RuleIndex:
    """Rules by texts without which they do not apply."""

    __slots__ = (
        "_always", "_beginnings", "_known", "_lengths", "_rules", "_subject", "_whole",
    )

    def __init__(self, rules: Iterable[Rule] = (), subject: Subject | None = None) -> None:
        """``subject``: replaces macros; None: they stay as they are written."""
        self._subject = subject
        self._rules: list[Rule] = []
        self._always: list[int] = []
        self._whole: dict[Slot, dict[bytes, list[int]]] = {}
        self._beginnings: dict[Slot, dict[bytes, list[int]]] = {}
        self._lengths: dict[Slot, set[int]] = {}
        self._known: dict[tuple[Slot, bytes], set[int]] = {}
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> None:
        """Put a rule behind the others."""
        place = len(self._rules)
        self._rules.append(rule)
        self._known.clear()
        keys = _needed(rule.expression, self._subject)
        if keys is None:
            self._always.append(place)
            return
        for slot, whole, data in keys:
            tables = self._whole if whole else self._beginnings
            tables.setdefault(slot, {}).setdefault(data, []).append(place)
            if not whole:
                self._lengths.setdefault(slot, set()).add(len(data))

    def about(self, values: Mapping[str, Sequence[bytes]]) -> list[Rule]:
        """Return the rules that may apply to a call with these texts, for the index's subject."""
        found = set(self._always)
        for slot in self._whole.keys() | self._beginnings.keys():
            texts = values.get(slot[0], ())
            if slot[1] < len(texts):
                found |= self._look_up(slot, texts[slot[1]])
        return [self._rules[place] for place in sorted(found)]

    def implied_by(self, expression: Expression) -> list[Rule]:
        """Return the rules whose conditions certexec.policy.implication may find implied."""
        found = set(self._always)
        for symbol in symbols(expression):
            slot = symbol.argument.lower(), max(symbol.offset, 0)
            found |= self._look_up(slot, pattern_bytes(symbol.data))
        return [self._rules[place] for place in sorted(found)]

    def _look_up(self, slot: Slot, text: bytes) -> set[int]:
        known = self._known.get((slot, text))
        if known is not None:
            return known
        found = self._known[slot, text] = set()
        whole = self._whole.get(slot)
        if whole is not None:
            found.update(whole.get(text.lower(), ()))
        beginnings = self._beginnings.get(slot)
        if beginnings is not None:
            for length in self._lengths[slot]:
                found.update(beginnings.get(text[:length], ()))
        return found


def _needed(expression: Expression, subject: Subject | None) -> list[Key] | None:
    """Return keys one of which a call has for which the condition holds; None: any call may."""
    done: list[list[Key] | None] = []
    for node in postorder(expression):
        if isinstance(node, Symbol):
            done.append(_key(node, subject))
            continue
        last = done.pop()
        if isinstance(node, Not):
            done.append(None)
            continue
        first = done.pop()
        if isinstance(node, And):
            done.append(last if first is None else first)
        else:
            done.append(None if first is None or last is None else first + last)
    return done[0]


def _key(symbol: Symbol, subject: Subject | None) -> list[Key] | None:
    if symbol.operator not in ("eq", "match"):
        return None
    data = symbol.data
    if subject is not None and needs_expansion(data):
        data = expand(data, subject)
    text = pattern_bytes(data)
    slot = symbol.argument.lower(), max(symbol.offset, 0)
    if symbol.operator == "eq":
        return [(slot, True, text.lower())]
    end = next((at for at, byte in enumerate(text) if byte in _SPECIAL), len(text))
    return [(slot, False, text[:end])] if end >= _BEGINNING_MIN else None


class Relevant:
    """Rules, of which those are found that a call is about, whoever makes it."""

    __slots__ = ("_indexes", "_rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._indexes: dict[tuple[str, str, str], RuleIndex] = {}

    def to(self, values: Mapping[str, Sequence[bytes]], subject: Subject) -> Sequence[Rule]:
        """Return the rules that may apply to a call with these texts, in their order."""
        if len(self._rules) < WORTHWHILE:
            return self._rules
        macros = subject.home, subject.user, subject.cwd
        index = self._indexes.get(macros)
        if index is None:
            index = self._indexes[macros] = RuleIndex(self._rules, subject)
        return index.about(values)


@functools.lru_cache(KEPT_MAX)
def relevant(rules: tuple[Rule, ...]) -> Relevant:
    """Return the same, made once for the many calls that the same rules judge."""
    return Relevant(rules)
