"""Where a tree is at home: names mean the same files to its threads as to their supervisor.

Names would mean others in another root directory, mount table or user namespace. The whole tree
comes of one thread: while that one was at home, and none has asked to move since, all are.
"""

from __future__ import annotations

import errno
import os

from certexec.kernel.procfs import proc
from certexec.kernel.syscalls import numbers_of
from certexec.policy.evaluate import EXECS
from certexec.policy.guards import CHANGING, MOVING, changes_rights, moves
from certexec.run.call import Call, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.procfs import StatusReader
    from certexec.run.judge import Judge
    from certexec.run.steady import Steady

FOREIGN = "foreign-namespace"
"""Why a call is denied: its caller sees other files under the same names."""


_places: dict[int, tuple[tuple[int, int], ...]] = {}
"""Where this process is, by its number."""
_WATCHED = frozenset((*CHANGING, *MOVING))
_EXECS = numbers_of(*EXECS)
"""Those of them that leave most callers the rights that they had."""


class Home:
    """The place of one supervisor; what it knows of its tree's, until somebody may leave."""

    __slots__ = ("_all_are_here", "_judge", "_left", "_place", "_steady")

    def __init__(self, judge: Judge, steady: Steady) -> None:
        """Look where this process is. Raises OSError."""
        self._judge = judge
        self._steady = steady
        self._place = _own()
        self._all_are_here = False
        self._left = False

    def expect(self, tid: int, statuses: StatusReader) -> None:
        """Look where the tree's first thread is before it asks: who leaves the tree's place asks.

        ``statuses``: has its file open, which tells that the number is still its own.
        """
        try:
            place = _namespaces(str(tid))
        except OSError:
            return  # it has died, or will be looked at when it asks
        if place == self._place and statuses.reads_on(tid):
            self._all_are_here = not self._left

    def watch(self, call: Call) -> None:
        """Take notice of a call that moves, or changes rights, before the kernel goes on."""
        number, args = call.notification.nr, call.notification.args
        if number not in _WATCHED:
            return
        if number in _EXECS:
            call.execs()  # what comes of it is seen at its stop
        elif changes_rights(number, args):
            self._steady.end()
        if not self._left and moves(number, args):
            self._left = True
            self._all_are_here = False
            self._steady.end()

    def answered(self, call: Call) -> None:
        """Take notice of an answer: an exec that the kernel has not made changes nothing."""
        if call.notification.nr in _EXECS and not call.answer[2]:
            self._steady.go_on(call.notification.cookie)

    def check(self, call: Call) -> None:
        """Raise Fault(EPERM), and log it, for a caller that is elsewhere."""
        if not self.is_home_of(call):
            self._judge.log(call, "deny", FOREIGN, errno.EPERM)
            raise Fault(errno.EPERM)

    def is_home_of(self, call: Call) -> bool:
        """Tell whether names mean to the caller what they mean here. Raises GoneError, OSError."""
        if self._all_are_here:
            return True
        try:
            place = _namespaces(str(call.task.tid))
        except OSError:  # ENOENT, ESRCH, or EACCES: all three are said of a task that has died
            call.still_waits()
            raise
        if place != self._place:
            return False
        call.still_waits()  # so it was about the caller, not about a later thread of that number
        self._all_are_here = not self._left
        return True


def _own() -> tuple[tuple[int, int], ...]:
    """Return where this process is, which it never leaves; looked up once. Raises OSError."""
    pid = os.getpid()
    if pid not in _places:
        _places.clear()  # a parent's
        _places[pid] = _namespaces("self")
    return _places[pid]


def _namespaces(pid: str) -> tuple[tuple[int, int], ...]:
    """Identify root directory, mount table and user namespace of a thread."""
    result = []
    for name in ("root", "ns/mnt", "ns/user"):
        info = os.stat(proc(pid, name))
        result.append((info.st_dev, info.st_ino))
    return tuple(result)
