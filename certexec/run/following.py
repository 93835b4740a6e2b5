"""Stay on one processor with the caller: a descriptor is handed over at half the price then.

Answers wake a caller on the processor of who answers (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP), and so
do calls, but a descriptor is installed by the caller itself, which is woken for it as usual: it
moves to a processor that has nothing to do, and so does the supervisor that it wakes from there.
Two wake-ups of a sleeping processor cost more than all else that an open costs.

So while one thread keeps the supervisor busy, and there are processors with nothing to do, the
supervisor does for each descriptor

    1. stay where that thread has woken it (its own affinity, no other's);
    2. count as idle (SCHED_IDLE), so that the kernel takes its processor for a free one, and
       leaves the caller there;
    3. hand the descriptor over;
    4. return to its class, and read back that it is there;
    5. run wherever it could before.

It never waits for a call, answers one or starts a thread between 1 and 5. Step 2 is made only by
who has proven, within the last milliseconds, that it may make step 4 with the rights of now.

Whoever else becomes runnable on that processor would pass an idle supervisor by. So this is for
times at which all runnable tasks find a processor. That is looked at again every few milliseconds,
and a call is made as ever then: what takes longer than that one did ends it for a while. Where
anything of it cannot be had, calls cost what they cost.
"""

from __future__ import annotations

import os
from _thread import get_ident
from time import monotonic

from certexec.kernel.notify import Listener
from certexec.kernel.scheduling import (
    enter_idle_class,
    leave_idle_class,
    limit_lets_leave,
    processor,
    raise_limit,
    rights_let_leave,
    runnable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from certexec.kernel.credentials import Mask
    from certexec.kernel.notify import Notification

STREAK = 3
"""calls of one thread, with no other's between them, before it is followed."""
LEASE = 0.004
"""seconds for which nothing is looked at again: the kernel looks for balance as often."""
PATIENCE = 8
"""times as long as a call took that was slower than one made as ever, nobody is followed."""


class FollowingListener(Listener):
    """A listener whose one thread, the one that receives, follows the callers.

    ``mask``: whose rights that thread has; ``note``: is told what an administrator should know.
    """

    __slots__ = (
        "_follows", "_gives_way", "_limit_allows", "_note", "_prepared", "_streak", "_stuck",
        "_thread", "_tid", "_until", "mask",
    )  # fmt: skip
    usual = 0.0
    """seconds that a call took which was made as ever, the last one of this process."""

    def __init__(self, fd: int, mask: Mask, note: Callable[[str], None]) -> None:
        super().__init__(fd)
        self.mask = mask
        self._note = note
        self._thread = 0
        self._tid = 0
        self._streak = 0
        self._prepared = False
        self._follows = False
        self._gives_way = self._limit_allows = False
        self._until = 0.0
        self._stuck = False

    def wake_synchronously(self) -> bool:
        """Ask for same-CPU wake-ups; only where there are any, callers are followed."""
        if not super().wake_synchronously():
            return False
        self._thread = get_ident()
        return True

    def expect(self, tid: int) -> None:
        """Follow a tree's first thread, which has not called yet, from its first call on.

        Only where it is known what a call takes that is made as ever. With all our own rights.
        """
        if self._thread and self.usual:
            self._tid = tid
            self._streak = STREAK
            self._prepare()
            self._look_again(monotonic(), beside=1)

    def receive(self) -> Notification | None:
        """Take the next notification, and see whose it is."""
        if self._stuck:
            self._come_back()  # here, with all our own rights
        notification = super().receive()
        if notification is not None and self._thread:
            if notification.tid == self._tid:
                self._streak += 1
                if self._streak == STREAK and not self._prepared:
                    self._prepare()  # here, with all our own rights
            else:
                self._tid = notification.tid
                self._streak = 0
                self._follows = False
        return notification

    def install_fd(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        """Install a copy of ``fd`` in the caller, which waits on. Raises OSError (EMFILE, ...)."""
        if self._streak < STREAK or get_ident() != self._thread:
            return super().install_fd(cookie, fd, close_on_exec)
        began = monotonic()
        if began >= self._until:  # as ever: what the next ones are measured by
            self._look_again(began)  # while the caller sleeps
            began = monotonic()
            number = super().install_fd(cookie, fd, close_on_exec)
            FollowingListener.usual = monotonic() - began
            return number
        if not self._follows or self._gives_way and not self._may_come_back():
            return super().install_fd(cookie, fd, close_on_exec)
        try:
            return self._install_beside(cookie, fd, close_on_exec)
        finally:
            ended = monotonic()
            if ended - began > self.usual:  # it did harm: others have come, say
                self._follows = False
                self._until = ended + max(LEASE, PATIENCE * (ended - began))

    def _install_beside(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        # 1. from where we may run now: an administrator may have moved us since the last call
        everywhere, home = self._stay()
        try:
            # 2. as late, and 4. as early as can be: who is idle may be passed by in between
            idle = home >= 0 and self._gives_way and enter_idle_class()
            try:
                # 3.
                return super().install_fd(cookie, fd, close_on_exec)
            finally:
                # 4.
                if idle and not leave_idle_class():
                    self._thread = 0  # somebody has just taken the way back: never again
                    self._stuck = True
        finally:
            # 5.
            self._return_to(everywhere, home)

    def _stay(self) -> tuple[set[int], int]:
        """Stay on this processor; return where this thread could run before, and its number."""
        try:
            everywhere, home = os.sched_getaffinity(0), processor()
            os.sched_setaffinity(0, (home,))
        except OSError:
            self._thread = 0
            return set(), -1
        return everywhere, home

    def _return_to(self, everywhere: set[int], home: int) -> None:
        try:
            if os.sched_getaffinity(0) == {home}:  # else we never did, or somebody has moved us
                os.sched_setaffinity(0, everywhere)
        except OSError:
            self._thread = 0  # none of these is left to us (cpuset(7)); the kernel knows better

    def _come_back(self) -> None:
        """Leave the idle class by whatever our own rights allow, or be heard. Once per call."""
        try:
            raise_limit()
        except OSError:
            pass
        self._stuck = not leave_idle_class()
        if self._stuck:
            self._note("somebody keeps the supervisor in the scheduler's idle class")

    def _prepare(self) -> None:
        """See to it that there is a way back by limits, for a tree that calls often enough.

        Such a one holds with any caller's rights.
        """
        self._prepared = True
        try:
            if not limit_lets_leave():
                raise_limit()
        except OSError:
            self._thread = 0

    def _may_come_back(self) -> bool:
        """Tell whether what was proven holds for the rights of just now."""
        return self._limit_allows or not self.mask.changed

    def _look_again(self, now: float, beside: int = 0) -> None:
        """See whether the caller can be followed for a while, and would be in nobody's way.

        ``beside``: how many of those who run now will sleep while it is: the caller, or nobody.
        """
        self._until = now + LEASE
        self._follows = False
        if self._tid <= 0:
            return  # in another PID namespace: several callers may look like one
        try:
            if runnable() - beside >= len(os.sched_getaffinity(0)):
                return
            # with one processor the caller stays; else it would leave, and we would not follow
            self._gives_way = len(os.sched_getaffinity(self._tid)) > 1
        except (OSError, ValueError, IndexError):
            return
        try:
            self._limit_allows = limit_lets_leave()
            self._follows = (
                not self._gives_way or self._limit_allows
                or not self.mask.changed and rights_let_leave()
            )  # fmt: skip
        except OSError:
            self._thread = 0
