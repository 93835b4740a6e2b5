"""Mode, owner and inode flags of the very object that was judged: chmod, chown, file_setattr."""

from __future__ import annotations

import ctypes
import errno

from certexec.kernel.libc import syscall
from certexec.policy.translators import mode_text
from certexec.run.call import Call, Fault
from certexec.run.emulate_xattr import refuse_path_only
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_CHMOD = 90
_FCHOWNAT = 260
_FILE_GETATTR = 468
_FILE_SETATTR = 469
_FILE_ATTR_SIZE = 24
"""bytes of the first version of struct file_attr."""
_PAGE = 4096
_KNOWN_FLAGS = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH


class Chmod(OnObject):
    """chmod, fchmodat, fchmodat2. Which bits are cleared the kernel decides by the caller's ids."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name != "chmod"
        flags = call.int_arg(3) if call.name == "fchmodat2" else 0
        if flags & ~_KNOWN_FLAGS:
            raise Fault(errno.EINVAL)
        self.mode = call.int_arg(2 if at else 1) & 0o7777
        super().__init__(call, resolver, call.int_arg(0) if at else AT_FDCWD, int(at), flags)
        self.values = {"filename": [self.found.text], "mode": [mode_text(self.mode)]}

    def perform(self) -> None:
        """Change the mode; of a symbolic link the kernel refuses to."""
        syscall(_CHMOD, self.link(), self.mode)
        self.call.finish(0)


class Chown(OnObject):
    """chown, lchown, fchownat; -1 leaves an id as it is, as in systrace's text."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "fchownat"
        flags = AT_SYMLINK_NOFOLLOW if call.name == "lchown" else 0
        if at:
            flags = call.int_arg(4)
            if flags & ~_KNOWN_FLAGS:
                raise Fault(errno.EINVAL)
        self.uid, self.gid = call.int_arg(1 + at), call.int_arg(2 + at)
        super().__init__(call, resolver, call.int_arg(0) if at else AT_FDCWD, int(at), flags)
        self.values = {
            "filename": [self.found.text], "uid": [str(self.uid)], "gid": [str(self.gid)],
        }  # fmt: skip

    def perform(self) -> None:
        """Change owner and group."""
        syscall(_FCHOWNAT, self.object(), b"", self.uid, self.gid, AT_EMPTY_PATH)
        self.call.finish(0)


class FileAttributes(OnObject):
    """file_getattr, file_setattr (Linux 6.17): the flags and ids that lsattr(1) shows.

    The structure may be longer here than the kernel knows it; what that means it says itself.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        flags = call.int_arg(4)
        self.size = call.arg(3)
        if flags & ~_KNOWN_FLAGS:
            raise Fault(errno.EINVAL)
        if self.size > _PAGE:
            raise Fault(errno.E2BIG)
        if self.size < _FILE_ATTR_SIZE:
            raise Fault(errno.EINVAL)
        self.data = call.block(2, self.size) if call.name == "file_setattr" else b""
        super().__init__(call, resolver, call.int_arg(0), 1, flags, null=True)

    def _descriptor(self, resolver: Resolver, dirfd: int) -> Resolved:
        refuse_path_only(self.call.task, dirfd)
        return super()._descriptor(resolver, dirfd)

    def perform(self) -> None:
        """Set what was copied, or write what there is."""
        where = AT_FDCWD, self.link()
        if self.call.name == "file_setattr":
            syscall(_FILE_SETATTR, *where, self.data, self.size, 0)
        else:
            buffer = ctypes.create_string_buffer(self.size)
            syscall(_FILE_GETATTR, *where, buffer, self.size, 0)
            self.call.write(2, buffer.raw)
        self.call.finish(0)
