"""acct, swapon and swapoff: what the whole machine uses is the very file that was judged.

Beside them uselib, which no x86-64 kernel of today has.
"""

from __future__ import annotations

import errno
import os

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc
from certexec.run.call import Call, Fault
from certexec.run.operations import OnObject, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_ACCT = 163
_SWAPON = 167
_SWAPOFF = 168
_NUMBERS = {"acct": _ACCT, "swapon": _SWAPON, "swapoff": _SWAPOFF}
_BAD_ADDRESS = 8
_WORD = 0xFFFFFFFF


class Administration(OnObject):
    """One of the three. Whether the caller may do it at all the kernel says before it looks.

    acct without a name ends the accounting: then there is no file name.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.number = _NUMBERS[call.name]
        self.flags = call.arg(1) & _WORD if call.name == "swapon" else 0
        self.ends = call.name == "acct" and call.arg(0) == 0
        if self.ends:
            Operation.__init__(self, call)
            self.found = Resolved("", -1, -1, b"", errno.ENOENT)
            return
        try:
            syscall(self.number, _BAD_ADDRESS, self.flags)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise Fault(error.errno or errno.EPERM) from None
        super().__init__(call, resolver, AT_FDCWD, 0, 0)

    def may_block(self) -> bool:
        """Swapping everything in again takes its time."""
        return self.call.name == "swapoff"

    def perform(self) -> None:
        """Use the pinned file. Accounts are those of the caller's own numbering of processes."""
        if self.call.name == "acct" and not self._same_numbers():
            raise OSError(errno.EPERM, "in another PID namespace")
        syscall(self.number, None if self.ends else self.link(), self.flags)
        self.call.finish(0)

    def _same_numbers(self) -> bool:
        task = self.call.task
        theirs = task.touch(os.stat, proc(task.tid, "ns", "pid"))
        return os.path.samestat(theirs, os.stat(proc("self", "ns", "pid")))


def no_such_call(call: Call, resolver: Resolver) -> Operation:
    """Answer uselib as kernels without it do (CONFIG_USELIB was for libc5)."""
    raise Fault(errno.ENOSYS)
