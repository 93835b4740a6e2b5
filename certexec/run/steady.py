"""Rights that nobody in a tree can change: read once, they need not be read for each call.

A process that no_new_privs holds, with one uid and one gid in all four places and no capability at
all, stays what it is, and so do all that it starts: it may set its ids to what they are, its groups
not at all, and no exec gives it anything. Only in another user namespace could it become somebody
else; whoever asks for one ends this (``end``), before the kernel carries that out.

Elsewhere, as where root's programs are supervised, each call has its rights read.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.procfs import Status


class Steady:
    """What is known of one tree. Attributes: ``rights``: those of every thread, once known."""

    __slots__ = ("_possible", "rights")

    def __init__(self, possible: bool) -> None:
        """``possible``: this process has no rights either that a caller could lack."""
        self._possible = possible
        self.rights: Status | None = None

    def learn(self, status: Status) -> Status:
        """Take notice of a caller's rights, and return them."""
        if self._possible and _cannot_change(status):
            self.rights = status
        return status

    def end(self) -> None:
        """From now on the rights of each call are to be read."""
        self._possible = False
        self.rights = None


def _cannot_change(status: Status) -> bool:
    """Tell whether a thread with this status, and all that come of it, keep these rights.

    The umask and what else stands in a status is not among them.
    """
    caps = status.caps
    return (
        status.no_new_privs == 1
        and len(set(status.uids)) == 1
        and len(set(status.gids)) == 1
        and status.uids[0] != 0
        and not (caps["prm"] or caps["eff"] or caps["amb"] or caps["inh"])
    )
