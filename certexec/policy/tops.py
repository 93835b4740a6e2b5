"""Below which directories lies all that a condition on names can hold for (pure).

For counting the files that are there: a walk has to begin somewhere, and the nearer the better.
"""

from __future__ import annotations

from certexec.policy.learned_paths import directory_of
from certexec.policy.model import TRUE, And, Or, Symbol, symbols
from certexec.policy.operators import expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Expression, Subject

_SPECIAL_MATCH = frozenset("*?[\\")
_SPECIAL_RE = frozenset("\\.[]|()*+?{}^$")
EVERYWHERE = ("/",)


def tops(expression: Expression, subject: Subject) -> tuple[str, ...]:
    """Return paths of which each name that fulfils a condition is one, or lies below one.

    They may not exist. ``subject``: gives the macros.
    """
    if isinstance(expression, And):
        left, right = tops(expression.left, subject), tops(expression.right, subject)
        return max(left, right, key=lambda one: min(map(len, one)))
    if isinstance(expression, Or):
        both = {*tops(expression.left, subject), *tops(expression.right, subject)}
        return tuple(sorted(both)) if "/" not in both else EVERYWHERE
    if not isinstance(expression, Symbol) or expression.argument.lower() != "filename":
        return EVERYWHERE
    return (_top(expression.operator, expand(expression.data, subject)),)


def _top(operator: str, data: str) -> str:
    if operator == "re":
        if not data.startswith("^") or "|" in data:
            return "/"
        data = data[1:]
        end = next((at for at, one in enumerate(data) if one in _SPECIAL_RE), len(data))
        if data[end : end + 1] in ("?", "*", "{"):
            end -= 1  # the character before may not be there
        data = directory_of(data[: max(end, 0)])
        return data if data.startswith("/") else "/"
    if operator not in ("eq", "match"):
        return "/"
    if operator == "match":
        end = next((at for at, one in enumerate(data) if one in _SPECIAL_MATCH), len(data))
        if end < len(data):
            data = directory_of(data[:end])
    return (data.rstrip("/") or "/") if data.startswith("/") else "/"


def of_first_name(expression: Expression) -> Expression:
    """Return of a condition on two names the part that is about the first one, as far as told."""
    if not isinstance(expression, And):
        return expression
    left, right = of_first_name(expression.left), of_first_name(expression.right)
    kept = [one for one in (left, right) if any(each.offset <= 0 for each in symbols(one))]
    return And(left, right) if len(kept) == 2 else kept[0] if kept else TRUE
