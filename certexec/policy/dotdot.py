"""``no-dotdot``: no file name that a call is given may hold the component ".." (pure).

Rules see real paths, in which there is none; this is about what the caller wrote. So every call
that takes a name goes to the supervisor, who reads it once, and one that cannot be carried out for
the caller is denied.
"""

from __future__ import annotations

import errno

from certexec.policy.calls import call_of, variants
from certexec.policy.guards import JUDGED, RULES, UNSUPPORTED, Clause, Decision, deny
from certexec.policy.model import Policy, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.calls import Call

_NAME = "filename"


def has_dotdot(name: str) -> bool:
    """Tell whether a name holds the component ".."."""
    return ".." in name.split("/")


def look_at_names(name: str, uses: Sequence[list[Clause]]) -> list[list[Clause]]:
    """Return the clauses of a call's variants as they are where names are looked at.

    ``uses``: those of each variant, or of all together.
    """
    call = call_of(name)
    if all(argument.name != _NAME for argument in call.arguments):
        return list(uses)
    each = variants(name)
    return [
        clauses if variant.bare else [
            Clause(clause.tests, _looked(call, clause.decision)) for clause in clauses
        ]
        for variant, clauses in zip(
            each, uses if len(uses) == len(each) else [*uses] * len(each), strict=True
        )
    ]


def _looked(call: Call, decision: Decision) -> Decision:
    if call.supervised:
        return JUDGED if decision.permitted else decision
    # the kernel would read the name after whoever judges by registers alone
    if decision.permitted or decision.why == RULES:
        return deny(errno.EPERM, UNSUPPORTED, log=True)
    return decision


def denial(policy: Policy) -> Rule:
    """Return what a policy with no-dotdot says of a name that holds one, as a rule."""
    return Rule(
        policy.emulation, "*", action="deny", errno=errno.EPERM, line=policy.no_dotdot,
        text="no-dotdot", log=True,
    )
