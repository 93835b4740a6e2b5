"""What the language can say and this version cannot enforce: such a policy is refused, not bent."""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.calls import call_of, reaches
from certexec.policy.model import And, Not, Or

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certexec.policy.model import Expression, Policy, Rule

DENIABLE = frozenset(("filename", "sockaddr"))
"""Arguments for whose sake a call that cannot be judged yet is denied, and logged, at run time."""


def check_enforceable(policy: Policy) -> None:
    """Raise PolicyError("policy-unsupported") for the first rule that cannot be enforced.

    Rules that mean no call here are inactive, whatever they say. What depends on the call is left
    to ``check_conditions``.
    """
    for rule in policy.rules:
        why = _missing(rule)
        if why and reaches(rule):
            raise _refusal(rule, why)


def check_conditions(name: str, rules: Iterable[Rule]) -> None:
    """Check the rules that decide a call which the supervisor does not carry out.

    If they ask for a name or an address, the call is denied and logged; any other condition is
    refused here, with PolicyError("policy-unsupported").
    """
    for rule in rules:
        if rule.predicate is not None:
            raise _refusal(rule, f'"if user" and "if group" cannot be asked for {name} yet')
        asked = {argument.lower() for argument in _arguments(rule.expression)}
        if asked and not (call_of(name).pending and asked & DENIABLE):
            word = sorted(asked)[0]
            raise _refusal(rule, f'the argument "{word}" of {name} cannot be judged yet')


def _missing(rule: Rule) -> str:
    if rule.flaw:
        return rule.flaw
    if rule.action == "ask":
        return "nobody can be asked yet"
    if rule.elevate is not None:
        return '"as" cannot be carried out yet'
    if rule.detach:
        return "a program is never let go"
    return ""


def _arguments(expression: Expression) -> Iterator[str]:
    pending = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Not):
            pending.append(node.operand)
        elif isinstance(node, And | Or):
            pending += (node.left, node.right)
        elif node.operator != "true":
            yield node.argument


def _refusal(rule: Rule, why: str) -> PolicyError:
    return PolicyError("policy-unsupported", f'line {rule.line}, "{rule}": {why}')
