"""Put the supervisor of one execution together.

A module of its own because a program that the kernel confines alone never needs it, and because
for the others it is loaded while the launcher applies the plan, not before.
"""

from __future__ import annotations

import os

from certexec.observe.sinks import machine_sinks
from certexec.run.asking import Asking
from certexec.run.judge import Judge
from certexec.run.manner import Manner
from certexec.run.places import Places
from certexec.run.supervisor import Supervisor
from certexec.run.transitions import Transitions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.decide import Approved
    from certexec.run.invoker import Invoker
    from certexec.run.server import Settings


def supervisor_for(approved: Approved, invoker: Invoker, settings: Settings) -> Supervisor:
    """Return the supervisor, prepared: the thread that calls is the one to run it."""
    certificate = approved.certificate
    compiled = approved.compiled
    places = Places(approved.reach, compiled, approved.inside, settings.store, settings.owners)
    judge = Judge(
        places,
        certificate.program.path,
        certificate.claims.sub,
        invoker.cwd,
        machine_sinks() if settings.sinks is None else settings.sinks,
    )
    inside = [one.certificate for one in approved.inside if one.certificate is not None]
    certificates = [certificate, *inside]
    manner = Manner(
        log_denials=any(one.log == "full" for one in certificates),
        log_permits=any(one.policy.log_all for one in certificates),
        permissive=settings.permissive,
    )
    privileged = os.geteuid() == 0
    named = {}
    if approved.judged.is_script:
        info = os.fstat(approved.judged.exec_fd)
        named[info.st_dev, info.st_ino] = certificate.program.path
    transitions = Transitions(
        approved.reach, certificate.policy.inherit, not compiled.own_policies, invoker.pid, places
    )
    supervisor = Supervisor(
        judge, places, transitions, privileged, approved.grant, manner,
        Asking(invoker.uid, approved.grant), settings.trace, named, approved.permitted.elevations,
    )  # fmt: skip
    supervisor.prepare()
    return supervisor
