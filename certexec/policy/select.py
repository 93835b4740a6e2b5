"""Which of the policies in a file is the one for a program (pure)."""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.model import Policy, PolicyFile

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
