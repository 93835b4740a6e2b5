"""Put the supervisor of one execution together.

A module of its own because a program that the kernel confines alone never needs it, and because
for the others it is loaded while the launcher applies the plan, not before.
"""

from __future__ import annotations

import os

from certexec.observe.sinks import machine_sinks
from certexec.run.judge import Judge
from certexec.run.supervisor import Manner, Supervisor
from certexec.run.transitions import Transitions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.notify import Listener
    from certexec.run.decide import Approved
    from certexec.run.invoker import Invoker
    from certexec.run.server import Settings


def supervisor_for(
    listener: Listener, approved: Approved, invoker: Invoker, settings: Settings
) -> Supervisor:
    """Return the supervisor, ready to run."""
    certificate = approved.certificate
    judge = Judge(
        approved.reach.policies,
        certificate.program.path,
        certificate.claims.sub,
        invoker.cwd,
        machine_sinks() if settings.sinks is None else settings.sinks,
    )
    manner = Manner(
        log_denials=certificate.log == "full",
        log_permits=certificate.policy.log_all,
        permissive=settings.permissive,
    )
    privileged = os.geteuid() == 0
    named = {}
    if approved.judged.is_script:
        info = os.fstat(approved.judged.exec_fd)
        named[info.st_dev, info.st_ino] = certificate.program.path
    compiled = approved.compiled
    transitions = Transitions(
        approved.reach, certificate.policy.inherit, not compiled.own_policies, invoker.pid
    )
    return Supervisor(
        listener, judge, compiled.tables, transitions, privileged, approved.grant, manner,
        settings.trace, named, approved.permitted.elevations,
    )  # fmt: skip
