"""mknod and mknodat: FIFOs, sockets, devices and plain files, in a pinned directory."""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel.libc import syscall
from certexec.policy.translators import mode_text
from certexec.run.call import Call, Fault
from certexec.run.operations import InDirectory
from certexec.run.resolve import AT_FDCWD, Resolver

_MKNODAT = 259
_WORD = 0xFFFFFFFF
_MODE = 0xFFFF
"""bits of the kernel's umode_t"""
_TYPES = (0, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)


class Mknod(InDirectory):
    """One node, with the caller's umask. For a device the kernel wants the caller's CAP_MKNOD."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "mknodat"
        self.mode = call.arg(1 + at) & _MODE
        self.device = call.arg(2 + at) & _WORD
        kind = stat.S_IFMT(self.mode)
        if kind not in _TYPES:
            raise Fault(errno.EPERM if kind == stat.S_IFDIR else errno.EINVAL)
        super().__init__(call, resolver, call.int_arg(0) if at else AT_FDCWD, int(at))
        self.values = {"filename": [self.found.text], "mode": [mode_text(self.mode)]}

    def perform(self) -> None:
        """Make the node in the pinned directory."""
        os.umask(self.call.status.umask)
        syscall(_MKNODAT, self.parent(), self.found.last, self.mode, self.device)
        self.call.finish(0)
