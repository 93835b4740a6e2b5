"""What registers tell about the rules of a call: which registers lead to which rule.

A condition on ``prot`` or ``signame`` is a condition on a register, so the kernel can decide it.
``split`` finds, for the rules of one call, tests of registers and what is left to decide where
they hold. Names, addresses and users are not known here: a rule that asks for them may apply or
not, and whoever knows them must look.
"""

from __future__ import annotations

from certexec.policy.model import ALIASES, And, Not, Symbol, postorder, symbols
from certexec.policy.translators import TRANSLATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import TypeVar

    from certexec.policy.calls import Argument
    from certexec.policy.model import Expression, Rule
    from certexec.policy.translators import Truth

    K = TypeVar("K", bound=Hashable)
    RegisterTest = tuple[int, int, int]
    """(register, mask, value): ``registers[register] & mask == value``."""
    Branch = tuple[tuple[RegisterTest, ...], K]
    """What is due where all tests hold and those of no branch before it did."""
    Cells = list[tuple[int, int, K]]

BRANCHES_MAX = 100
"""branches of one call; a filter has 4096 instructions for all calls"""
MEMORY = "memory"
"""A comparison with what lies in the caller's memory."""


class Possible:
    """A rule that may decide.

    Attributes:
        rule: which.
        certain: it applies, whatever is still unknown.
        memory: whether it does hangs on what lies in the caller's memory.
    """

    __slots__ = ("certain", "memory", "rule")

    def __init__(self, rule: Rule, certain: bool, memory: bool) -> None:
        self.rule = rule
        self.certain = certain
        self.memory = memory


def split(
    rules: Sequence[Rule],
    arguments: Sequence[Argument],
    outcome: Callable[[Iterable[Possible]], K],
) -> list[Branch[K]]:
    """Return what is due for which registers; the last branch has no tests.

    Args:
        rules: from ``effective_rules``.
        arguments: those that the call has.
        outcome: from the rules that may still decide, in their order, to what is due. They are
            found one by one; a certain one is the last.
    """
    truths: dict[int, Truth | str] = {}
    asked: dict[tuple[str, int], list[Symbol]] = {}
    for rule in rules:
        for symbol in symbols(rule.expression):
            if symbol.operator == "true":
                truths[id(symbol)] = True
                continue
            argument = _argument(rule, symbol, arguments)
            if argument is None:
                truths[id(symbol)] = False  # a comparison with what is not there does not hold
            elif not argument.in_register:
                truths[id(symbol)] = MEMORY
            else:
                asked.setdefault((argument.name, argument.register), []).append(symbol)
    return _branches(rules, list(asked.items()), truths, outcome)


def _argument(
    rule: Rule, symbol: Symbol, arguments: Sequence[Argument]
) -> Argument | None:
    name = symbol.argument.lower()
    if rule.syscall in ALIASES and name != "filename":
        return None
    found = [one for one in arguments if one.name == name]
    place = max(symbol.offset, 0)
    return found[place] if place < len(found) else None


def _branches(
    rules: Sequence[Rule],
    asked: Sequence[tuple[tuple[str, int], list[Symbol]]],
    truths: dict[int, Truth | str],
    outcome: Callable[[Iterable[Possible]], K],
) -> list[Branch[K]]:
    if not asked:
        return [((), outcome(_possible(rules, truths)))]
    (name, register), about = asked[0]
    known: dict[tuple[Truth, ...], tuple[Branch[K], ...]] = {}
    layers: list[Cells[tuple[Branch[K], ...]]] = []
    for layer in TRANSLATORS[name].layers(about):
        layers.append([])
        for value, mask, holds in layer:
            if holds not in known:
                told = dict(truths)
                told.update(zip(map(id, about), holds, strict=True))
                known[holds] = tuple(_branches(rules, asked[1:], told, outcome))
            layers[-1].append((value, mask, known[holds]))
    return [
        (((register, mask, value), *tests) if mask else tests, due)
        for value, mask, branches in _simplified(layers)
        for tests, due in branches
    ]


def _possible(
    rules: Sequence[Rule], truths: dict[int, Truth | str]
) -> Iterable[Possible]:
    for rule in rules:
        truth = _truth(rule.expression, truths)
        if truth is False:
            continue
        certain = truth is True and rule.predicate is None
        yield Possible(rule, certain, truth == MEMORY)
        if certain:
            return


def _truth(expression: Expression, truths: dict[int, Truth | str]) -> Truth | str:
    """Tell whether an expression holds, as far as that is known."""
    done: list[Truth | str] = []
    for node in postorder(expression):
        if isinstance(node, Symbol):
            done.append(truths[id(node)])
            continue
        last = done.pop()
        if isinstance(node, Not):
            done.append(not last if isinstance(last, bool) else last)
            continue
        first = done.pop()
        decisive = not isinstance(node, And)
        if first is decisive or last is decisive:
            done.append(decisive)
        elif MEMORY in (first, last):
            done.append(MEMORY)
        else:
            done.append(None if None in (first, last) else not decisive)
    return done[0]


# ---- fewer cells ---------------------------------------------------------------------------------


def _simplified(layers: Sequence[Cells[K]]) -> Cells[K]:
    """Return cells that say the same, of which the last has no tests."""
    last = _merged(layers[-1])
    dues = [due for _, _, due in last]
    most = max(dues, key=dues.count)
    # together they cover every value, so what none of the others takes is the most frequent one's
    cells = [cell for cell in last if cell[2] != most]
    cells.append((0, 0, most))
    for layer in reversed(layers[:-1]):
        cells = [cell for cell in layer if _counts(cell, cells)] + cells
    return cells


def _counts(cell: tuple[int, int, K], later: Cells[K]) -> bool:
    """Tell whether the later cells would say something else of a value of this one."""
    value, mask, due = cell
    for other_value, other_mask, other in later:
        if (value ^ other_value) & mask & other_mask:
            continue  # they have no value in common
        if other != due:
            return True
        if not other_mask & ~mask:
            return False  # it takes all that this one leaves
    return False


def _merged(cells: Cells[K]) -> Cells[K]:
    """Join disjoint cells that say the same and differ in one bit, until there are none."""
    groups: dict[tuple[int, K], set[int]] = {}
    for value, mask, due in cells:
        groups.setdefault((mask, due), set()).add(value)
    waiting = list(groups)
    while waiting:
        mask, due = waiting.pop()
        values = groups[mask, due]
        for place in range(32):
            bit = 1 << place
            if not mask & bit:
                continue
            pairs = [value for value in values if not value & bit and value | bit in values]
            if pairs:
                values.difference_update(pairs, [value | bit for value in pairs])
                groups.setdefault((mask & ~bit, due), set()).update(pairs)
                waiting.append((mask & ~bit, due))
    return [
        (value, mask, due) for (mask, due), values in groups.items() for value in sorted(values)
    ]
