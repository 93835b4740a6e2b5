"""What the first call of a tree would wait for, found out while nobody waits.

While the launcher applies its plan, and again while the program is being loaded, its supervisor has
nothing to do. What the first calls would have it look at by then is looked at before: the caller's
rights, where it is, whether it can be followed. The tree was one thread at its exec stop, where its
rights were read; since then it runs under the filter, so that who is in it and wants other rights
or another place has to ask first, and is not answered before this is done.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.procfs import Status, StatusReader
    from certexec.run.supervisor import Supervisor


def read_ahead(statuses: StatusReader, tid: int) -> None:
    """Read the status that will be compared at the exec stop, so that its file is open by then."""
    try:
        statuses.read(tid)
    except (OSError, KeyError, ValueError):
        return  # the launcher has ended: who waits for it finds out


class FirstCaller:
    """The thread that a tree begins with. ``status``: its own, read at its exec stop."""

    __slots__ = ("status", "tid")

    def __init__(self, tid: int, status: Status) -> None:
        self.tid = tid
        self.status = status

    def expect(self, supervisor: Supervisor) -> None:
        """Look at everything, with the supervisor's own rights, once it has its listener.

        A caller that waits already does not wait for whether it can be followed.
        """
        supervisor.steady.learn(self.status)
        supervisor.home.expect(self.tid, supervisor.statuses)
        if not supervisor.poll.poll(0):
            supervisor.listener.expect(self.tid)
