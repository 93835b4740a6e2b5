"""Put together what the launcher will apply, from what was judged (pure)."""

from __future__ import annotations

from certexec.run import plan as plans
from certexec.run.plan import Plan

RLIMIT_CORE = 4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.certificate.model import Certificate
    from certexec.policy.compile import Compiled
    from certexec.run.identity import Permitted
    from certexec.run.integrity import Judged
    from certexec.run.landlock import Tree


def build_plan(
    certificate: Certificate,
    permitted: Permitted,
    compiled: Compiled | None,
    judged: Judged,
    entries: list[bytes] | None,
    trees: Sequence[Tree] = (),
) -> Plan:
    """Return the plan.

    ``compiled``: the filter, None inside a tree, which has one; ``entries``: the environment, None
    for the invoker's own; ``trees``: those of its Landlock domain, if it has one.
    """
    plan = Plan()
    grant = certificate.is_grant()
    plan.flags = plans.PLAN_TRACED
    if grant:
        plan.flags |= plans.PLAN_PRIVILEGED
    if compiled is None:
        plan.flags |= plans.PLAN_NESTED
    elif compiled.needs_listener:
        plan.flags |= plans.PLAN_LISTENER
    else:
        # the kernel's own record of each denial; beside a listener, of each notification, too
        plan.flags |= plans.PLAN_LOG
    if judged.is_script:
        plan.flags |= plans.PLAN_KEEP_PROGRAM_FD
    # identity
    plan.ruid, plan.euid = permitted.uid, permitted.euid
    plan.rgid, plan.egid = permitted.gid, permitted.egid
    plan.groups = permitted.groups
    plan.bounding = permitted.bounding
    if permitted.capabilities is not None:
        plan.permitted = permitted.capabilities
        if permitted.euid != 0:
            # without uid 0 capabilities come through execve only as ambient ones
            plan.inheritable = plan.ambient = permitted.capabilities
    # environment and arguments
    plan.env = entries
    fixed = certificate.invocation.argv
    plan.argv_tail = None if fixed is None else [text.encode() for text in fixed]
    # limits
    limits = certificate.limits
    if limits is not None:
        plan.rlimits = [(number, soft, hard) for number, (soft, hard) in limits.rlimits.items()]
        plan.nice, plan.umask, plan.oom = limits.nice, limits.umask, limits.oom
    same_ids = (permitted.uid, permitted.gid) == (permitted.euid, permitted.egid)
    limited = {number for number, _, _ in plan.rlimits}
    if grant and same_ids and RLIMIT_CORE not in limited:
        # exec leaves a program dumpable whose ids are the invoker's, who could make it write its
        # memory, and what it read with its capabilities, into a core file of theirs
        plan.rlimits.append((RLIMIT_CORE, 0, 0))
    if compiled is None:
        return plan
    # the files that the kernel lets it open
    if compiled.landlocked is not None:
        plan.handled = compiled.landlocked.handled
        plan.trees = [(tree.path, tree.rights, tree.device, tree.inode) for tree in trees]
    # the filter
    plan.bpf = compiled.bpf
    plan.patches = compiled.patches
    return plan
