"""Stay on one processor with the caller: a descriptor is handed over at half the price then.

Answers wake a caller on the processor of who answers (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP), but a
descriptor is installed by the caller itself, which is woken for it as usual: it moves to a
processor that has nothing to do, and so does the supervisor that it wakes from there. Two wake-ups
of a sleeping processor cost more than all else that an open costs.

So while one thread keeps the supervisor busy, and there are processors with nothing to do,

    1. the supervisor stays where that thread has woken it (its own affinity, no other's);
    2. it counts as idle (SCHED_IDLE) as long as it hands the descriptor over, so that the kernel
       takes its processor for a free one, and leaves the caller there.

Whoever else becomes runnable there would pass an idle supervisor by. So this is for times at which
all runnable tasks find a processor, it is looked at again after a few milliseconds, and it ends for
long where it made a call slow. Where anything of it cannot be had, calls cost what they cost.
"""

from __future__ import annotations

import os
from _thread import get_ident
from time import monotonic

from certexec.kernel.credentials import CAP_SYS_NICE, own_capabilities
from certexec.kernel.notify import Listener
from certexec.kernel.scheduling import may_leave_idle_class, processor, runnable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.credentials import Mask
    from certexec.kernel.notify import Notification

STREAK = 3
"""calls of one thread, with no other's between them, before it is followed."""
LEASE = 0.004
"""seconds for which nothing is looked at again: the kernel looks for balance as often."""
STALL = 0.001
"""seconds: who needs that long for a descriptor had to wait for others; usual are some 10 us."""
PATIENCE = 8
"""times as long as such a call took nobody is followed: at worst a ninth of the time is lost."""
_STARTING = frozenset((59, 322, 11, 358, 157))
"""execve and execveat of both ABIs, and what a launcher inside asks by (prctl): to judge them takes
threads, which inherit where they may run."""
_NORMAL = os.sched_param(0)


class FollowingListener(Listener):
    """A listener whose one thread, the one that receives, follows the callers.

    ``mask``: whose rights that thread has.
    """

    __slots__ = (
        "_everywhere", "_gives_way", "_held", "_home", "_limit_allows",
        "_ready", "_rights_allow", "_streak", "_thread", "_tid", "_until", "mask",
    )  # fmt: skip

    def __init__(self, fd: int, mask: Mask) -> None:
        super().__init__(fd)
        self.mask = mask
        self._thread = 0
        self._tid = 0
        self._streak = 0
        self._ready = False
        self._limit_allows = self._rights_allow = self._gives_way = False
        self._everywhere: set[int] = set()
        self._home = -1
        self._held = False
        self._until = 0.0

    def wake_synchronously(self) -> bool:
        """Ask for same-CPU wake-ups; only where there are any, callers are followed."""
        if not super().wake_synchronously():
            return False
        self._thread = get_ident()
        return True

    def receive(self) -> Notification | None:
        """Take the next notification, and see whose it is."""
        if self._held and monotonic() >= self._until:
            self.let_go()  # before it waits: the next caller wakes it where that one runs
        notification = super().receive()
        if notification is not None and self._thread:
            if notification.tid == self._tid and notification.nr not in _STARTING:
                self._streak += 1
                if self._streak == STREAK and not self._ready:
                    self._prepare()  # here, with all our own rights
            else:
                self._tid = notification.tid
                self._streak = 0
                if self._held:
                    self.let_go()
        return notification

    def install_fd(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        """Install a copy of ``fd`` in the caller, which waits on. Raises OSError (EMFILE, ...)."""
        if self._streak < STREAK or get_ident() != self._thread:
            return super().install_fd(cookie, fd, close_on_exec)
        now = monotonic()
        if not self._held and (now < self._until or not self._stay(now)):
            return super().install_fd(cookie, fd, close_on_exec)
        gives_way = self._gives_way and self._may_give_way() and _change_class(os.SCHED_IDLE)
        try:
            return super().install_fd(cookie, fd, close_on_exec)
        finally:
            if gives_way and not _change_class(os.SCHED_OTHER):
                self._thread = 0  # somebody has lowered our limit
            self._look_back(now, monotonic())

    def let_go(self) -> None:
        """Run wherever there is room again; whatever this thread starts does so from birth."""
        if not self._held:
            return
        self._held = False
        try:
            if os.sched_getaffinity(0) == {self._home}:  # else somebody else has moved us
                os.sched_setaffinity(0, self._everywhere)
        except OSError:
            self._thread = 0  # none of these is left to us (cpuset(7)); the kernel knows better

    def end(self) -> None:
        """Follow nobody any more. To be called by the thread that did."""
        self.let_go()
        self._thread = 0

    def _prepare(self) -> None:
        """See what can be had, for a tree that calls often enough."""
        self._ready = True
        try:
            if os.sched_getscheduler(0) != os.SCHED_OTHER:
                self._thread = 0  # somebody has chosen something else for us
                return
            self._limit_allows = may_leave_idle_class()
            self._rights_allow = bool(own_capabilities()[0] & CAP_SYS_NICE)
        except OSError:
            self._thread = 0

    def _may_give_way(self) -> bool:
        """Tell whether this thread can leave the idle class again, with the rights of just now."""
        return self._limit_allows or self._rights_allow and not self.mask.changed

    def _stay(self, now: float) -> bool:
        """Stay on this processor for a while, unless that would be in somebody's way."""
        self._until = now + LEASE
        if self._tid <= 0:
            return False  # in another PID namespace: several callers may look like one
        try:
            everywhere, theirs = os.sched_getaffinity(0), os.sched_getaffinity(self._tid)
            home, free = processor(), len(theirs) > 1
            if (
                home not in theirs
                or free and not self._may_give_way()  # it would leave, and we would not follow
                or runnable() >= len(everywhere)
            ):
                return False
            os.sched_setaffinity(0, (home,))
        except (OSError, ValueError, IndexError):
            return False
        self._everywhere, self._home, self._gives_way, self._held = everywhere, home, free, True
        return True

    def _look_back(self, began: float, now: float) -> None:
        """Be patient where it did harm: others have come, and wait for each other."""
        if now - began < STALL:
            return
        self.let_go()
        self._until = now + PATIENCE * (now - began)


def _change_class(policy: int) -> bool:
    try:
        os.sched_setscheduler(0, policy, _NORMAL)
    except OSError:
        return False
    return True
