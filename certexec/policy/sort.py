"""The order of ``sort -k1,1 -k4`` for rules, as far as their order has no meaning.

For one call the first rule that applies decides. So rules of one name are sorted only within
stretches that all give the same answer; names are sorted freely, but two spellings of one call
(pread and pread64) stay together. A bare rule decides before all others of its call, and of several
the last counts, so bare ones are a stretch of their own.
"""

from __future__ import annotations

from certexec.policy.format import meaning
from certexec.policy.names import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Rule

    Answer = tuple[object, ...]

_KEY_FIELD = 3
"""fields before the second key of ``sort -k1,1 -k4``"""


def sorted_order(rules: Sequence[Rule], lines: Sequence[str]) -> list[int]:
    """Return the indices of the rules in sorted order; ``lines``: the text of each."""
    keys = [_key(line) for line in lines]
    order = []
    groups = _groups(rules)
    for group in sorted(groups, key=lambda group: min(keys[index] for index in group)):
        for stretch in _stretches(rules, group):
            order += sorted(stretch, key=keys.__getitem__)
    return order


def shape(rules: Sequence[Rule]) -> dict[str, list[tuple[Answer, list[str]]]]:
    """Return what sorting must keep: per name its stretches, each with its answer and its rules."""
    return {
        _name(rules[group[0]]): [
            (_answer(rules[stretch[0]]), sorted(repr(meaning(rules[index])) for index in stretch))
            for stretch in _stretches(rules, group)
        ]
        for group in _groups(rules)
    }


def _key(line: str) -> tuple[bytes, bytes, bytes]:
    """Return what sort(1) compares in the C locale: field 1, field 4 to the end, the whole line."""
    whole = line.encode("utf-8", "surrogatepass")
    position = 0
    for _ in range(_KEY_FIELD):  # a field begins with the white space before it
        while whole[position : position + 1] in (b" ", b"\t"):
            position += 1
        while position < len(whole) and whole[position : position + 1] not in (b" ", b"\t"):
            position += 1
    return whole.partition(b" ")[0], whole[position:], whole


def _name(rule: Rule) -> str:
    return canonical(rule.emulation, rule.syscall) or f"{rule.syscall}: no call here"


def _groups(rules: Sequence[Rule]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index, rule in enumerate(rules):
        groups.setdefault(_name(rule), []).append(index)
    return list(groups.values())


def _stretches(rules: Sequence[Rule], group: Sequence[int]) -> list[list[int]]:
    stretches: list[list[int]] = []
    for index in group:
        if stretches and _answer(rules[stretches[-1][0]]) == _answer(rules[index]):
            stretches[-1].append(index)
        else:
            stretches.append([index])
    return stretches


def _answer(rule: Rule) -> Answer:
    return (
        rule.simple, rule.now, rule.flaw, rule.action, rule.errno, rule.errno_name, rule.inherit,
        rule.detach, rule.log, rule.elevate,
        rule.syscall if rule.action == "ask" else "",  # it ends the rules of its own spelling only
    )
