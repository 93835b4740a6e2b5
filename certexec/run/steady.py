"""Rights that stay what they are: read once, they need not be read for each call of a tree.

Either nobody can change them. A process that no_new_privs holds, with one uid and one gid in all
four places and no capability at all, stays what it is, and so do all that it starts: it may set its
ids to what they are, its groups not at all, and no exec gives it anything.

Or the filter tells of everything that could change them, as where root's programs are supervised.
The whole tree comes of one process, so that until then all threads have the rights of any.

Whoever asks for a change, or for a user namespace in which to be somebody else, ends this (``end``)
before the kernel carries that out. From then on each call has its caller's rights read. Who
executes a program may come out of it with other rights, or not: until that has been seen nothing is
taken for granted (``hold``), and if nothing has changed all is as before (``go_on``).
"""

from __future__ import annotations

from certexec.policy.guards import tells_of_changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from certexec.kernel.procfs import Status
    from certexec.policy.decisions import Table


KEPT_MAX = 64
"""tables of which it is known; a process of the resident server serves many certificates."""
_known: dict[int, tuple[Table, bool]] = {}
"""By the table's number in this process, which is its own as long as the table is kept here."""


class Steady:
    """What is known of one tree. Attributes: ``rights``: those of every thread, once known."""

    __slots__ = ("_held", "_told", "_unprivileged", "rights")

    def __init__(self, unprivileged: bool, tables: Iterable[Table]) -> None:
        """``unprivileged``: this process has no rights either that a caller could lack.

        ``tables``: of all policies in the tree.
        """
        self._unprivileged = unprivileged
        self._told = all(_tells(table) for table in tables)
        self.rights: Status | None = None
        self._held: tuple[int, bool, bool, Status | None] | None = None

    def learn(self, status: Status) -> Status:
        """Take notice of a caller's rights, and return them."""
        if self._told or (self._unprivileged and _cannot_change(status)):
            self.rights = status
        return status

    def end(self) -> None:
        """From now on the rights of each call are to be read."""
        self._told = self._unprivileged = False
        self.rights = None
        self._held = None

    def hold(self, cookie: int) -> None:
        """Read the rights of each call until ``go_on`` with the same cookie: that of an exec.

        Whatever else ends this meanwhile, another exec included, ends it for good.
        """
        known = self._told or self._unprivileged
        held = (cookie, self._told, self._unprivileged, self.rights) if known else None
        self.end()
        self._held = held

    def holds(self, cookie: int) -> bool:
        """Tell whether ``go_on`` would change anything."""
        return self._held is not None and self._held[0] == cookie

    def go_on(self, cookie: int) -> None:
        """That exec has changed nobody's rights: what was known before it is."""
        if self._held is not None and self._held[0] == cookie:
            _, self._told, self._unprivileged, self.rights = self._held
            self._held = None


def _tells(table: Table) -> bool:
    """Tell whether the filter tells of every change; a table never changes, so ask it once."""
    known = _known.get(id(table))
    if known is None:
        if len(_known) >= KEPT_MAX:
            _known.clear()
        known = _known[id(table)] = table, tells_of_changes(table.of)
    return known[1]


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
