"""chdir and chroot: the kernel moves the thread, which is stopped before it runs on.

No process can move another. So when the name has been judged the kernel runs the call, for which it
reads the name anew; the thread stops before its next instruction, and must then be where it was,
where it was permitted to go, or in another place that the rules permit. Else it is killed.

Threads that share the working directory can look around from there until then. That tells them
nothing: a name is judged by what it leads to, wherever it begins. Another process has no part in
it: the filter refuses clone(2) with CLONE_FS for a new one (certexec.policy.decisions). A root
directory changes what names mean, so a process of several threads may not change it.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel import ptrace
from certexec.kernel.procfs import proc
from certexec.run.call import Call
from certexec.run.mounts import spot
from certexec.run.operations import OnObject
from certexec.run.resolve import AT_FDCWD, Resolver
from certexec.run.step import OPEN_PATH

_SIGKILL = 9
SHARED = "shared-directory"
"""Why a move is denied: threads of one process share what would move."""
ELSEWHERE = "moved-elsewhere"
"""Why a process was killed: the name was exchanged after it had been judged."""


class Move(OnObject):
    """chdir, chroot."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        super().__init__(call, resolver, AT_FDCWD, 0, 0)
        self.resolver = resolver
        self.place = "cwd" if call.name == "chdir" else "root"

    def perform(self) -> None:
        """Let the thread move, and see where it is."""
        if not stat.S_ISDIR(os.fstat(self.object()).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if self.judge is None:
            self.call.resume()  # any place will do
            return
        self.call.task.touch(self._move)

    def _move(self) -> None:
        call = self.call
        # both now: once the kernel goes on, nobody can tell whose number it is any more
        tid, tgid = call.task.tid, call.task.tgid
        if self.place == "root" and len(os.listdir(proc(tgid, "task"))) > 1:
            self._log(SHARED)
            raise OSError(errno.EPERM, "several threads share it")
        allowed = spot(self.found.fd), self._here()
        try:
            ptrace.seize(tid)
            ptrace.interrupt(tid)
        except OSError:
            raise OSError(errno.EPERM, "it is traced already") from None
        call.resume()
        event = ptrace.wait(tid)
        if event is None or event.kind == ptrace.ENDED:
            return
        # whichever stop this is: the call is over, the program has not gone on
        stays = False
        try:
            stays = self._may_stay(allowed)
            if not stays:
                self._log(ELSEWHERE)
        finally:
            if not stays:  # what cannot be judged does not run on, either
                os.kill(tgid, _SIGKILL)
                ptrace.see_end(tid)
        if stays:
            ptrace.release(tid, event.signal)

    def _may_stay(self, allowed: tuple[tuple[object, ...], ...]) -> bool:
        try:
            if self._here() in allowed:
                return True
        except OSError:
            return False
        if self.place == "root" or self.judge is None:
            return False
        now = self.resolver.descriptor(self.call.task, AT_FDCWD)
        self.values = {"filename": [now.text]}
        reached = now.fd >= 0
        now.close()
        verdict = self.judge.judge(self)
        return reached and verdict is not None and verdict.action == "permit"

    def _here(self) -> tuple[object, ...]:
        fd = os.open(proc(self.call.task.tid, self.place), OPEN_PATH)
        try:
            return spot(fd)
        finally:
            os.close(fd)

    def _log(self, reason: str) -> None:
        if self.judge is not None:
            self.judge.log(self.call, "deny", reason, errno.EPERM, self.values)
