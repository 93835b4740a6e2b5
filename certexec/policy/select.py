"""Which of the policies in a file is the one for a program, and which for its other ABI (pure).

A file may have several policies for one program, one for each emulation. Emulation ``linux`` was
the 32-bit table of Linux. Where the calls of the 32-bit ABI are admitted, that policy's rules hold
for them; otherwise they are killed, and a policy of that emulation is one like any other.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.model import Policy, PolicyFile
from certexec.policy.names import FOREIGN_EMULATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIVE_EMULATIONS = ("native", "linux64", "linux")
"""Emulations whose calls are Linux x86-64's, the preferred one first."""
ANYWHERE = "*/"


def select_policy(file: PolicyFile, program: str) -> Policy:
    """Return the policy for the program with this absolute path.

    A header may name the path, or ``*/NAME`` for any program with that last component. The exact
    path wins over the wildcard, a native policy over others. Raises
    PolicyError("policy-mismatch") when the file has none for the program and
    PolicyError("policy-unsupported") when it is for another system only, or says "detached".
    """
    base = program.rpartition("/")[2]
    named = [policy for policy in file.policies if policy.path == program]
    named = named or [policy for policy in file.policies if policy.path == ANYWHERE + base]
    if not named:
        known = ", ".join(policy.path for policy in file.policies) or "none"
        raise PolicyError(
            "policy-mismatch",
            f'the policy is not for "{program}" (it has: {known})',
            f'its header must be "Policy: {program}, Emulation: native"',
        )
    for emulation in ACTIVE_EMULATIONS:
        for policy in named:
            if policy.emulation == emulation:
                if policy.detached:
                    raise PolicyError(
                        "policy-unsupported", "a detached policy confines nothing", ""
                    )
                return policy
    raise PolicyError(
        "policy-unsupported", f'the emulation "{named[0].emulation}" is not that of this system'
    )


def ask_about_unmatched(policies: Sequence[Policy], asked: bool) -> None:
    """Let an agent be asked about what none of their rules matches; without ``asked`` deny it."""
    for policy in policies:
        policy.asks_unmatched = asked and not policy.detached


def admit_foreign(policies: Sequence[Policy]) -> None:
    """Let calls of the 32-bit ABI come under the policies for emulation ``linux`` among these.

    Of two for one program the first counts. Raises PolicyError("policy-unsupported") for ``after``:
    what one ABI has done would say nothing about the other.
    """
    for policy in policies:
        if policy.emulation not in ACTIVE_EMULATIONS or policy.detached:
            continue
        policy.foreign = next(
            (
                other for other in policies
                if other.path == policy.path and other.emulation == FOREIGN_EMULATION
                and not other.detached
            ),
            None,
        )
        if policy.foreign is not None and (afters := policy.afters or policy.foreign.afters):
            raise PolicyError(
                "policy-unsupported",
                f'line {afters[0].rule.line}: "after" beside the 32-bit ABI, of whose calls it '
                "would say nothing",
            )


def select_with_foreign(file: PolicyFile, program: str) -> Policy:
    """Return the policy for a program of which calls of the 32-bit ABI are admitted.

    Raises as ``select_policy`` and ``admit_foreign`` do, and PolicyError("policy-mismatch") where
    the file says nothing about that ABI.
    """
    policy = select_policy(file, program)
    admit_foreign(file.policies)
    if policy.foreign is None:
        raise PolicyError(
            "policy-mismatch",
            f'the 32-bit ABI is admitted, and the policy does not say what "{program}" may do by '
            "it",
            f'add a part with the header "Policy: {policy.path}, Emulation: {FOREIGN_EMULATION}"',
        )
    return policy
