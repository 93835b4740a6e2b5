"""``no-dotdot``: no file name that a call is given may hold the component ".." (pure).

Rules see real paths, in which there is none; this is about what the caller wrote. So every call
that takes a name goes to the supervisor, who reads it once, and one that cannot be carried out for
the caller is denied.
"""

from __future__ import annotations

import errno

from certexec.policy.calls import call_of, variants
from certexec.policy.guards import JUDGED, UNSUPPORTED, Decision, deny
from certexec.policy.model import Policy, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "filename"


def has_dotdot(name: str) -> bool:
    """Tell whether a name holds the component ".."."""
    return ".." in name.split("/")


def look_at_names(name: str, decisions: Sequence[Decision]) -> list[Decision]:
    """Return the decisions for a call's variants as they are where names are looked at.

    ``decisions``: one for each variant, or one for all.
    """
    call = call_of(name)
    if all(argument.name != _NAME for argument in call.arguments):
        return list(decisions)
    each = variants(name)
    looked = JUDGED if call.supervised else deny(errno.EPERM, UNSUPPORTED, log=True)
    return [
        looked if decision.permitted and not variant.bare else decision
        for variant, decision in zip(
            each, decisions if len(decisions) == len(each) else [*decisions] * len(each),
            strict=True,
        )
    ]


def denial(policy: Policy) -> Rule:
    """Return what a policy with no-dotdot says of a name that holds one, as a rule."""
    return Rule(
        policy.emulation, "*", action="deny", errno=errno.EPERM, line=policy.no_dotdot,
        text="no-dotdot", log=True,
    )
