"""quotactl(2): on the device that was judged, and with the very file that is to hold the quotas.

What its last argument points to depends on the command: nothing, the name of a file (Q_QUOTAON), or
a structure that goes in or comes out. Without a device it is about all file systems: then it names
nothing, and is left to the kernel.
"""

from __future__ import annotations

import ctypes
import errno

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import own_fd
from certexec.run.call import Call, Fault
from certexec.run.operations import OnObject, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_QUOTACTL = 179
_TYPES = 3
"""kinds of quotas (MAXQUOTAS): of users, groups, projects."""
_QUOTAON = 0x800002
_IN, _OUT = 1, 2
_STRUCTURES = {
    0x800004: (_OUT, 4), 0x800005: (_OUT, 24), 0x800006: (_IN, 24),  # GETFMT, GETINFO, SETINFO
    0x800007: (_OUT, 72), 0x800008: (_IN, 72), 0x800009: (_OUT, 72),  # GET-, SET-, GETNEXTQUOTA
    0x5801: (_IN, 4), 0x5802: (_IN, 4), 0x5806: (_IN, 4),  # XQUOTAON, XQUOTAOFF, XQUOTARM
    0x5803: (_OUT, 112), 0x5804: (_IN, 112), 0x5809: (_OUT, 112),  # XGETQUOTA, XSETQLIM, XGETNEXT
    0x5805: (_OUT, 80), 0x5808: (_IN | _OUT, 160),  # XGETQSTAT, XGETQSTATV
}  # fmt: skip
"""Command (without the kind of quota) to direction and bytes of its structure (linux/quota.h,
linux/dqblk_xfs.h). Of others the kernel wants nothing, or knows nothing."""
_BAD_ADDRESS = 8


class Quota(OnObject):
    """One command: ``filename`` is the device, ``filename[1]`` the file that will hold quotas."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.command = call.int_arg(0) & 0xFFFFFFFF
        self.file = Resolved("", -1, -1, b"", errno.ENOENT)
        self.given: bytes | None = None
        if self.command & 0xFF >= _TYPES:
            raise Fault(errno.EINVAL)
        if call.arg(1) == 0:
            Operation.__init__(self, call)
            self.found = Resolved("", -1, -1, b"", errno.ENODEV)
            return
        self.starts = self.command >> 8 == _QUOTAON
        self.direction, self.size = _STRUCTURES.get(self.command >> 8, (0, 0))
        try:
            if self.starts:
                self._find_file(call, resolver)
            elif self.direction & _IN:
                self._copy_structure(call)
            super().__init__(call, resolver, AT_FDCWD, 1, 0)
        except BaseException:
            self.file.close()
            raise
        if self.starts:
            self.values = {"filename": [self.found.text, self.file.text]}

    def _find_file(self, call: Call, resolver: Resolver) -> None:
        """Pin the file. What is wrong with it the kernel says only after all else."""
        try:
            path = call.string(3)
        except Fault as fault:
            self.file.error = fault.code
        else:
            self.file = resolver.object(call.task, AT_FDCWD, call.given(path), True)

    def _copy_structure(self, call: Call) -> None:
        try:
            self.given = call.block(3, self.size)
        except Fault:
            self.given = None  # the kernel is given a bad address, too

    def may_block(self) -> bool:
        """Quotas are written out, or all files counted: that takes its time."""
        return True

    def perform(self) -> None:
        """Give the command for the pinned device."""
        call = self.call
        if call.arg(1) == 0:
            call.resume()  # it names nothing, and the kernel reads nothing
            return
        device, number = self.link(), call.arg(2) & 0xFFFFFFFF
        if self.starts:
            try:
                syscall(_QUOTACTL, self.command, device, number, own_fd(self.file.fd).encode())
            except FileNotFoundError:
                raise OSError(self.file.error or errno.ENOENT, "missing") from None
        elif not self.direction or (self.direction & _IN and self.given is None):
            syscall(_QUOTACTL, self.command, device, number, _BAD_ADDRESS)
        else:
            buffer = ctypes.create_string_buffer(self.given or b"", self.size)
            syscall(_QUOTACTL, self.command, device, number, buffer)
            if self.direction & _OUT:
                call.write(3, buffer.raw)
        call.finish(0)

    def close(self) -> None:
        """Give back what was pinned."""
        super().close()
        self.file.close()
