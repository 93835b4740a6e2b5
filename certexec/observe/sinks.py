"""Where events of this machine go, unless ``certexec run --log`` says otherwise."""

from __future__ import annotations

import os

from certexec.observe.syslog import Syslog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.sink import Sink

COLLECTOR = "/etc/certexec/collector"
"""Root's word about where else events go."""
SYSLOG = "/dev/log"
JOURNAL = "/run/systemd/journal/socket"
JOURNALS_SYSLOG = "/run/systemd/journal/dev-log"
"""What /dev/log leads to where the journal takes the place of a syslog daemon."""


def machine_sinks() -> list[Sink]:
    """Return the journal and syslog, whichever is there, for root the audit log, and a collector.

    Where the journal is the syslog daemon, an event goes to it once, with all its fields; it hands
    the line on to whoever it hands on lines of syslog(3).
    """
    sinks: list[Sink] = []
    with_journal = os.path.exists(JOURNAL)
    if with_journal:
        from certexec.observe.journald import Journal  # costs time where there is none

        sinks.append(Journal(JOURNAL))
    if not (with_journal and _same(SYSLOG, JOURNALS_SYSLOG)):
        sinks.append(Syslog(SYSLOG))
    if os.geteuid() == 0:
        from certexec.observe.audit import Audit

        sinks.append(Audit())
    if os.path.lexists(COLLECTOR):
        from certexec.observe.collector import configured

        sinks.append(configured(COLLECTOR))
    return sinks


def kept_by() -> list[str]:
    """Return who on this machine keeps what any user's programs were denied, in plain words."""
    found = [("the journal", JOURNAL), ("syslog", SYSLOG), ("a collector", COLLECTOR)]
    return [who for who, path in found if os.path.exists(path)]


def _same(first: str, second: str) -> bool:
    try:
        return os.path.samestat(os.stat(first), os.stat(second))
    except OSError:
        return False
