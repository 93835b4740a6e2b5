"""What the parser accepts and this version does not enforce: such a policy refuses.

Three things can happen to a rule that is in the language:

- it is *enforced*;
- it is *inactive*: its name means no call of this system, so it can neither permit nor deny;
- it is *unsupported*: enforcing the policy without it would mean something else, so signing and
  running are refused, and the reason says which rule and why.

A fourth case is not listed here because it is safe: a condition on the name or address of a call
that cannot be judged yet (rename, chmod, sendmsg, ...). That call is denied and logged.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.calls import call_of, reaches
from certexec.policy.evaluate import uses
from certexec.policy.model import symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Policy, PolicyFile, Rule

JUDGED_ARGUMENTS = frozenset(("filename", "sockaddr", "oflags", "mode"))
"""Arguments whose texts the supervisor makes, or (mode) whose calls are denied until it can."""
_SHOWN_CALLS = 3
"""names of calls in one message"""


def unsupported_features(
    policy_file: PolicyFile, *, inherit: bool = False
) -> list[tuple[Rule | Policy, str]]:
    """Return everything in a file that is parsed but not enforced, with the reason.

    ``inherit``: the certificate says that programs which the program executes keep its policy;
    then ``permit[inherit]`` means what happens anyway.
    """
    found: list[tuple[Rule | Policy, str]] = []
    for policy in policy_file.policies:
        found += unsupported_in(policy, inherit=inherit)
    return found


def unsupported_in(policy: Policy, *, inherit: bool = False) -> list[tuple[Rule | Policy, str]]:
    """Return the same for one policy."""
    found: list[tuple[Rule | Policy, str]] = []
    if policy.detached:
        found.append((policy, "a detached policy confines nothing"))
    for rule in policy.rules:
        why = why_unsupported(policy, rule, inherit=inherit)
        if why:
            found.append((rule, why))
    return found


def why_unsupported(policy: Policy, rule: Rule, *, inherit: bool = False) -> str:
    """Return why a rule of a policy cannot be enforced, "" when it can or need not be."""
    if rule.flaw:
        return rule.flaw
    reached = reaches(rule)
    if not reached:
        return ""
    if rule.action == "ask":
        return '"ask" needs somebody to ask'
    if rule.elevate is not None:
        return '"as" is not supported yet'
    if rule.detach:
        return '"permit[detach]" is not supported yet'
    if rule.inherit and not inherit:
        return '"permit[inherit]" needs a certificate with the option inherit'
    if rule.unconditional:
        return ""
    counted = [name for name in reached if _counts(policy, rule, name)]
    if not counted:
        return ""
    unjudged = [
        name for name in counted
        if not call_of(name).supervised
        and (rule.predicate is not None or not call_of(name).pending)
    ]
    if unjudged:
        more = ", ..." if len(unjudged) > _SHOWN_CALLS else ""
        return f"a condition on {', '.join(unjudged[:_SHOWN_CALLS])}{more} cannot be judged yet"
    for symbol in symbols(rule.expression):
        if symbol.operator != "true" and symbol.argument.lower() not in JUDGED_ARGUMENTS:
            return f'the argument "{symbol.argument}" cannot be judged yet'
    return ""


def _counts(policy: Policy, rule: Rule, name: str) -> bool:
    """Tell whether the rule has a say in the call, which a bare rule may have decided before."""
    return any(rule in rules for _, rules in uses(policy, name))


def refuse_unsupported(policy: Policy, name: str, *, inherit: bool = False) -> None:
    """Raise PolicyError("policy-unsupported") for the first rule that cannot be enforced.

    ``name`` is what the policy's file is called in the message.
    """
    for where, why in unsupported_in(policy, inherit=inherit):
        raise PolicyError("policy-unsupported", f"{name}({where.line}): {why}")
