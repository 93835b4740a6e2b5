"""A call that may wait for somebody else, made in a thread of its own."""

from __future__ import annotations

import _thread
import errno
import os

from certexec.kernel.credentials import Mask, unshare_fs
from certexec.kernel.libc import syscall
from certexec.kernel.notify import ERESTARTSYS
from certexec.kernel.procfs import pending_signals
from certexec.run.call import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.operations import Operation
    from certexec.run.supervisor import Supervisor

WAKE_SIGNAL = 10
"""SIGUSR1, sent to a worker to break off its blocking call."""
_TGKILL = 234


class Worker:
    """A thread that carries out one call that may block, with rights of its own."""

    def __init__(self, supervisor: Supervisor, operation: Operation, real_ids: bool) -> None:
        self.supervisor = supervisor
        self.operation = operation
        self.real_ids = real_ids
        self.tid = 0
        self.done = False

    def start(self) -> None:
        """Run in a new thread. Raises GoneError when the caller is no longer there."""
        # by this thread: the loop keeps status files open, and whoever else read them meanwhile
        # could get another process's
        self.operation.call.status  # noqa: B018 - it is read, and stays known
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        call = self.operation.call
        try:
            unshare_fs()
            self.tid = _thread.get_native_id()
            mask = Mask(self.supervisor.privileged)
            call.task.mask = mask  # the loop's own one holds the rights of other callers
            try:
                mask.assume(self.operation.rights, self.real_ids)
                self.operation.perform()
            except Fault as fault:
                call.fail(fault.code)
            except OSError as error:
                self._fail(error.errno or errno.EIO)
            finally:
                mask.restore()
        except Exception:  # the caller is gone, or its rights cannot be taken, or worse
            if not call.answered:
                call.fail(errno.EPERM)
        finally:
            self.done = True

    def _fail(self, code: int) -> None:
        call = self.operation.call
        if call.answered:
            return
        if code == errno.EINTR and self.signal_pending():
            code = ERESTARTSYS  # only with the signal still pending: else the number would leak
        call.fail(code)

    def signal_pending(self) -> bool:
        """Tell whether a signal waits that would have interrupted the caller itself."""
        try:
            return bool(pending_signals(self.operation.call.task.tid))
        except (OSError, KeyError, ValueError):
            return True

    def settle(self) -> None:
        """The call was answered: give back what was pinned for it."""
        self.operation.close()
        self.supervisor.finished(self.operation.call)

    def interrupt(self) -> None:
        """Make the blocking call return EINTR; asked again at every tick until it has."""
        if self.tid:
            try:
                syscall(_TGKILL, os.getpid(), self.tid, WAKE_SIGNAL)
            except OSError:
                return  # it has just ended
