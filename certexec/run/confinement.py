"""From a certificate's policy file to the filter for its tree, with every policy it can get to."""

from __future__ import annotations

from certexec.policy.compile import compile_policy, compile_reach
from certexec.policy.decisions import TreeOptions
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.select import select_policy
from certexec.policy.unsupported import unsupported_in
from certexec.run.policy_directory import load_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.compile import Compiled
    from certexec.policy.model import Policy, PolicyFile, Rule


def _flaws(policy: Policy) -> list[tuple[Rule | Policy, str]]:
    return unsupported_in(policy, inherit=True, detach=True)


def left_out(file: PolicyFile, program: str) -> list[tuple[Policy, Rule | Policy, str]]:
    """Return the policies that ``confine`` leaves out, though programs would come under them.

    Each comes with the first thing in it that cannot be enforced, and why. For a certificate
    without inherit: otherwise no program comes under one of them. Raises PolicyError as
    ``select_policy`` does.
    """
    reached = Reach(select_policy(file, program), file.policies).policies[1:]
    return [
        (policy, *flaws[0]) for policy in file.policies
        if any(one is policy for one in reached) and (flaws := _flaws(policy))
    ]


def confine(
    file: PolicyFile,
    program: str,
    name: str,
    *,
    inherit: bool,
    full_log: bool,
    privileged: bool,
    capable: bool,
    may_exec: bool = True,
    log_all: bool = False,
) -> tuple[Reach, Compiled]:
    """Return the reachable policies and the filter for ``program`` under its policy in ``file``.

    ``name`` is what the file is called in messages; ``inherit``: what is executed stays under the
    program's policy, unless a rule says otherwise; the rest is as in ``TreeOptions``.

    Raises PolicyError ("policy-mismatch", "policy-unsupported") and TrustError("trust-unsafe").
    """
    policy = select_policy(file, program)
    own_policies = may_exec and changes_policies(policy, inherit)
    options = TreeOptions(
        full_log=full_log,
        privileged=privileged,
        capable=capable,
        may_exec=may_exec,
        log_all=log_all,
        own_policies=own_policies,
    )
    if not own_policies:
        return Reach(policy, ()), compile_policy(policy, options, name=name)
    # signed ones first: of two policies for one program the first counts
    signed = [one for one in file.policies if not _flaws(one)]
    reach = Reach(policy, [*signed, *([] if inherit else load_directory())])
    return reach, compile_reach(reach, options, name=name)
