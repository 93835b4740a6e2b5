"""When one condition holds, does another? Answered only where that is certain.

This is for telling which rules can never decide, so every "yes" has to be true; a "no" may be
wrong. Nothing is assumed about what names exist.
"""

from __future__ import annotations

from certexec.policy.model import TRUE, And, Not, Or, Symbol
from certexec.policy.operators import make_test, pattern_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Expression

    Known = dict[tuple[int, int], bool]

_MACRO = "$"
_SPECIAL = "*?[\\"
"""What makes more of a match pattern than a plain path."""
DEEPEST = 150
"""nested conditions that are compared; deeper ones are told apart from everything"""


def implies(one: Expression, two: Expression) -> bool:
    """Tell whether ``two`` surely holds for every call for which ``one`` holds."""
    if isinstance(one, Symbol) and isinstance(two, Symbol):  # most are, and every pair is asked
        return two.operator == "true" or _symbol_implies(one, two)
    if _depth(one) + _depth(two) > DEEPEST:
        return False
    return _implies(one, two, {})


def never_holds(expression: Expression) -> bool:
    """Tell whether no call at all can fulfil a condition, as far as that is certain."""
    if _depth(expression) > DEEPEST:
        return False
    return _never(expression)


def _depth(expression: Expression) -> int:
    """Return how deeply the nodes of an expression are nested."""
    deepest = 0
    waiting = [(expression, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(node, Not):
            waiting.append((node.operand, depth + 1))
        elif not isinstance(node, Symbol):
            waiting += [(node.left, depth + 1), (node.right, depth + 1)]
    return deepest


def _implies(one: Expression, two: Expression, known: Known) -> bool:
    key = id(one), id(two)
    if key not in known:
        known[key] = False  # each pair once: a chain of "or" against one of "and" would explode
        known[key] = _really_implies(one, two, known)
    return known[key]


def _really_implies(one: Expression, two: Expression, known: Known) -> bool:
    if isinstance(two, Symbol) and two.operator == "true":
        return True
    if isinstance(one, Or):
        return _implies(one.left, two, known) and _implies(one.right, two, known)
    if isinstance(two, And):
        return _implies(one, two.left, known) and _implies(one, two.right, known)
    if isinstance(two, Or) and (
        _implies(one, two.left, known) or _implies(one, two.right, known)
    ):
        return True
    if isinstance(one, And):
        return _implies(one.left, two, known) or _implies(one.right, two, known)
    if isinstance(one, Not) and isinstance(two, Not):
        return _implies(two.operand, one.operand, known)
    if isinstance(one, Symbol) and isinstance(two, Symbol):
        return _symbol_implies(one, two)
    if isinstance(one, Symbol) and isinstance(two, Not) and isinstance(two.operand, Symbol):
        return _exclude(one, two.operand)
    return False


def _never(expression: Expression) -> bool:
    if isinstance(expression, Symbol):
        return False
    if isinstance(expression, Not):
        return implies(TRUE, expression.operand)
    if isinstance(expression, Or):
        return _never(expression.left) and _never(expression.right)
    parts = []
    node: Expression = expression
    while isinstance(node, And):
        parts.append(node.left)
        node = node.right
    parts.append(node)
    if any(_never(part) for part in parts):
        return True
    return any(
        _contradict(part, other) for index, part in enumerate(parts) for other in parts[index + 1 :]
    )


def _contradict(one: Expression, two: Expression) -> bool:
    if isinstance(one, Not):
        return implies(two, one.operand)
    if isinstance(two, Not):
        return implies(one, two.operand)
    return isinstance(one, Symbol) and isinstance(two, Symbol) and _exclude(one, two)


# ---- comparisons ---------------------------------------------------------------------------------


def _same_argument(one: Symbol, two: Symbol) -> bool:
    return (one.argument.lower(), max(one.offset, 0)) == (two.argument.lower(), max(two.offset, 0))


def _symbol_implies(one: Symbol, two: Symbol) -> bool:
    if not _same_argument(one, two):
        return False
    first, second = one.operator, two.operator
    if first == second and one.data == two.data:
        return True
    if _MACRO in one.data + two.data:  # nobody knows what it will be
        return False
    wide, narrow = two.data, one.data
    if first == "eq":
        return _eq_implies(narrow, second, wide)
    if first == "match" and second == "match":
        return _match_covers(wide, narrow)
    if first == "match" and second == "sub":
        return not _is_pattern(narrow) and wide in narrow
    if (first, second) == ("sub", "sub"):
        return wide in narrow
    if (first, second) == ("nsub", "nsub"):
        return narrow in wide
    return False


def _eq_implies(value: str, operator: str, data: str) -> bool:
    """Tell whether the texts that are equal to a value, in any case, satisfy a comparison."""
    if operator in ("eq", "neq"):
        return (_folded(value) == _folded(data)) is (operator == "eq")
    if _folded(value) != pattern_bytes(value).upper():
        return False  # "eq" takes /ETC for /etc, the others do not
    return make_test(operator, pattern_bytes(data))(pattern_bytes(value))


def _exclude(one: Symbol, two: Symbol) -> bool:
    """Tell whether no text satisfies both comparisons."""
    if not _same_argument(one, two) or _MACRO in one.data + two.data:
        return False
    kinds = {one.operator, two.operator}
    if kinds == {"eq"}:
        return _folded(one.data) != _folded(two.data)
    if kinds == {"eq", "neq"}:
        return _folded(one.data) == _folded(two.data)
    if kinds == {"sub", "nsub"}:
        yes, no = (one, two) if one.operator == "sub" else (two, one)
        return no.data in yes.data
    if kinds == {"match"}:
        return not _is_pattern(one.data + two.data) and not (
            _match_covers(one.data, two.data) or _match_covers(two.data, one.data)
        )
    if kinds == {"match", "eq"}:
        tree, name = (one.data, two.data) if one.operator == "match" else (two.data, one.data)
        tree, name = tree.lower(), name.lower()
        return not _is_pattern(tree) and not (name == tree or name.startswith(tree + "/"))
    return False


def _folded(data: str) -> bytes:
    """Return a text as "eq" compares it: without regard to the case of ASCII letters."""
    return pattern_bytes(data).lower()


def _is_pattern(data: str) -> bool:
    return any(special in data for special in _SPECIAL)


def _match_covers(wide: str, narrow: str) -> bool:
    """Tell whether everything that the pattern ``narrow`` matches, the pattern ``wide`` does."""
    head = wide.removesuffix("*")
    if not narrow.startswith(head) or _is_pattern(narrow) or _is_pattern(head):
        return False
    return head != wide or narrow[len(head) : len(head) + 1] in ("", "/")
