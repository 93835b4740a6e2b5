"""What the parser accepts and this version does not enforce: such a policy refuses.

Three things can happen to a rule that is in the language:

- it is *enforced*;
- it is *inactive*: its name means no call of this system, so it can neither permit nor deny;
- it is *unsupported*: enforcing the policy without it would mean something else, so signing and
  running are refused, and the reason says which rule and why.

A fourth case is not listed here because it is safe: a condition on the name or address of a call
that is not carried out for the caller (pivot_root, open_tree, ...). That call is denied and logged.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.calls import call_of, reaches
from certexec.policy.elevation import asks_for_rights, why_not_elevated
from certexec.policy.evaluate import deciding_rules, is_consulted
from certexec.policy.names import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Policy, PolicyFile, Rule

IO_URING = "io_uring"
_SHOWN_CALLS = 3
"""names of calls in one message"""


def unsupported_features(
    policy_file: PolicyFile, *, inherit: bool = False, detach: bool = False
) -> list[tuple[Rule | Policy, str]]:
    """Return everything in a file that is parsed but not enforced, with the reason.

    ``inherit``: the certificate says that programs which the program executes keep its policy;
    then ``permit[inherit]`` means what happens anyway. ``detach``: programs can be let go.
    """
    found: list[tuple[Rule | Policy, str]] = []
    for policy in policy_file.policies:
        found += unsupported_in(policy, inherit=inherit, detach=detach)
    return found


def unsupported_in(
    policy: Policy, *, inherit: bool = False, detach: bool = False
) -> list[tuple[Rule | Policy, str]]:
    """Return the same for one policy."""
    found: list[tuple[Rule | Policy, str]] = []
    if policy.detached:
        found.append((policy, "a detached policy confines nothing"))
    for rule in policy.rules:
        why = why_unsupported(policy, rule, inherit=inherit, detach=detach)
        if why:
            found.append((rule, why))
    for after in policy.afters:
        why = why_unwatched(after.rule)
        if why:
            found.append((after.rule, why))
    return found


def why_unwatched(rule: Rule) -> str:
    """Return why nobody can tell whether a line ``after`` comes true, "" when certexec can."""
    if rule.unconditional:
        return ""
    unjudged = [name for name in reaches(rule) if call_of(name).pending]
    if unjudged:
        return f"a condition on {', '.join(unjudged[:_SHOWN_CALLS])} cannot be judged yet"
    return ""


def why_unsupported(
    policy: Policy, rule: Rule, *, inherit: bool = False, detach: bool = False
) -> str:
    """Return why a rule of a policy cannot be enforced, "" when it can or need not be."""
    if rule.flaw:
        return rule.flaw
    if rule.simple or not (reached := reaches(rule)):
        return ""
    if rule.action == "ask" and any(name.startswith(IO_URING) for name in reached):
        return f'"ask" about {reached[0]} says nothing of what it then does'
    if asks_for_rights(rule):
        counted = _calls_where_it_counts(policy, rule, reached)
        if why := why_not_elevated(rule, counted):
            return why
    if rule.detach and not detach:
        return '"permit[detach]" is not supported yet'
    if rule.inherit and not inherit:
        return '"permit[inherit]" needs a certificate with the option inherit'
    return ""


def _calls_where_it_counts(policy: Policy, rule: Rule, reached: tuple[str, ...]) -> list[str]:
    meaning = canonical(rule.emulation, rule.syscall)
    if meaning is None or rule not in deciding_rules(policy, meaning)[0]:
        return []
    return [name for name in reached if is_consulted(policy, name, meaning)]


def refuse_unsupported(
    policy: Policy, name: str, *, inherit: bool = False, detach: bool = False
) -> None:
    """Raise PolicyError("policy-unsupported") for the first rule that cannot be enforced.

    ``name`` is what the policy's file is called in the message.
    """
    for where, why in unsupported_in(policy, inherit=inherit, detach=detach):
        raise PolicyError("policy-unsupported", f"{name}({where.line}): {why}")
