"""Where events of this machine go, unless ``certexec run --log`` says otherwise."""

from __future__ import annotations

import os

from certexec.observe import journald
from certexec.observe.audit import Audit
from certexec.observe.syslog import Syslog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.sink import Sink


def machine_sinks() -> list[Sink]:
    """Return the journal and syslog, whichever is there, and for root the audit log.

    Where the journal is the syslog daemon, an event goes to it once, with all its fields; it hands
    the line on to whoever it hands on lines of syslog(3).
    """
    sinks: list[Sink] = []
    with_journal = os.path.exists(journald.PATH)
    if with_journal:
        sinks.append(journald.Journal())
    if not (with_journal and journald.is_syslog()):
        sinks.append(Syslog())
    if os.geteuid() == 0:
        sinks.append(Audit())
    return sinks
