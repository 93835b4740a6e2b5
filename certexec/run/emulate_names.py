"""stat, statfs, access, readlink, mkdir, rmdir and unlink in all forms, on what was pinned."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from certexec.kernel.filesystem import STATFS_SIZE
from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, InDirectory, OnObject
from certexec.run.proc_place import OWN_PROC, SELF_LINKS, is_everyones_own, is_procfs
from certexec.run.resolve import AT_FDCWD, Resolver

AT_REMOVEDIR = 0x200
AT_EACCESS = 0x200
_AT_NO_AUTOMOUNT = 0x800
_AT_STATX_SYNC = 0x6000
_STATX_RESERVED = 0x80000000
_STAT_SIZE = 144
"""bytes of x86-64's struct stat."""
_STATX_SIZE = 256
_STATFS64_SIZE = 84
"""bytes of the 32-bit ABI's struct statfs64, which its callers have to name."""
_FSTATFS = 138
_NEWFSTATAT = 262
_READLINKAT = 267
_STATX = 332
_FACCESSAT2 = 439
_READLINK_MAX = 4096


class Stat(OnObject):
    """stat, lstat, newfstatat: struct stat of the object."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        if call.name == "newfstatat":
            flags = call.int_arg(3)
            if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | _AT_NO_AUTOMOUNT):
                raise Fault(errno.EINVAL)
            # Linux 6.11 takes a null pointer for the empty name beside AT_EMPTY_PATH
            super().__init__(call, resolver, call.int_arg(0), 1, flags, null=True)
        else:
            flags = AT_SYMLINK_NOFOLLOW if call.name == "lstat" else 0
            super().__init__(call, resolver, AT_FDCWD, 0, flags)

    def perform(self) -> None:
        """Write struct stat where the caller wants it."""
        filled: bytes | bytearray = bytearray(_STAT_SIZE)
        syscall(_NEWFSTATAT, self.object(), b"", filled, AT_EMPTY_PATH)
        if self.call.foreign:
            from certexec.run.foreign_layout import stat_of

            filled = stat_of(self.call.foreign, bytes(filled))
        self.call.write(2 if self.call.name == "newfstatat" else 1, filled)
        self.call.finish(0)


class Statx(OnObject):
    """statx: the extended attributes of the object."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.int_arg(2)
        known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | _AT_NO_AUTOMOUNT | _AT_STATX_SYNC
        sync = self.flags & _AT_STATX_SYNC
        if self.flags & ~known or sync == _AT_STATX_SYNC or call.arg(3) & _STATX_RESERVED:
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, call.int_arg(0), 1, self.flags, null=True)

    def perform(self) -> None:
        """Write struct statx where the caller wants it."""
        buffer = bytearray(_STATX_SIZE)
        flags = AT_EMPTY_PATH | self.flags & _AT_STATX_SYNC
        syscall(_STATX, self.object(), b"", flags, self.call.int_arg(3) & 0xFFFFFFFF, buffer)
        self.call.write(4, buffer)
        self.call.finish(0)


class Statfs(OnObject):
    """statfs: the file system that the object is on."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        if call.foreign == "statfs64" and call.arg(2) != _STATFS64_SIZE:
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, AT_FDCWD, 0, 0)

    def perform(self) -> None:
        """Write struct statfs where the caller wants it."""
        buffer = ctypes.create_string_buffer(STATFS_SIZE)
        syscall(_FSTATFS, self.object(), buffer)
        filled = buffer.raw
        if self.call.foreign:
            from certexec.run.foreign_layout import statfs_of

            filled = statfs_of(self.call.foreign, filled)
        self.call.write(1, filled)
        self.call.finish(0)


class Access(OnObject):
    """access, faccessat, faccessat2: what the caller's ids may do with the object.

    The supervising thread has assumed the caller's real ids (or effective ones for AT_EACCESS)
    as its effective ones, so the kernel is always asked about effective ids.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name != "access"
        self.mode = call.int_arg(2 if at else 1)
        self.flags = call.int_arg(3) if call.name == "faccessat2" else 0
        if self.mode & ~7 or self.flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS):
            raise Fault(errno.EINVAL)
        dirfd = call.int_arg(0) if at else AT_FDCWD
        super().__init__(call, resolver, dirfd, 1 if at else 0, self.flags)

    def perform(self) -> None:
        """Answer 0 or the reason why not."""
        asked = (_FACCESSAT2, self.object(), b"", self.mode, AT_EMPTY_PATH | AT_EACCESS)
        if is_everyones_own(self.found.text):
            self.call.task.touch(syscall, *asked)
        elif self.found.text.startswith(OWN_PROC):
            self.call.task.look_at_itself(syscall, *asked)
        else:
            syscall(*asked)
        self.call.finish(0)


def wants_real_ids(call: Call) -> bool:
    """Tell whether the call is judged by the caller's real ids (access(2) without AT_EACCESS)."""
    if call.name == "faccessat2":
        return not call.int_arg(3) & AT_EACCESS
    return call.name in ("access", "faccessat")


class Readlink(OnObject):
    """readlink, readlinkat: the text of a symbolic link, the caller's own for /proc/self."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "readlinkat"
        dirfd = call.int_arg(0) if at else AT_FDCWD
        self.buffer_index = 2 if at else 1
        self.size = call.int_arg(self.buffer_index + 1)
        if self.size <= 0:
            raise Fault(errno.EINVAL)
        # an empty name is the link that a descriptor stands for: no flag asks for that here
        flags = AT_SYMLINK_NOFOLLOW | (AT_EMPTY_PATH if at else 0)
        super().__init__(call, resolver, dirfd, 1 if at else 0, flags)

    def perform(self) -> None:
        """Write the link's text, cut to the caller's buffer."""
        fd = self.object()
        last = self.path.rpartition(b"/")[2]
        task = self.call.task
        if last in SELF_LINKS and is_procfs(fd) and stat.S_ISLNK(os.fstat(fd).st_mode):
            text = str(task.tgid).encode()
            if last == b"thread-self":
                text += b"/task/" + str(task.tid).encode()
        else:
            buffer = ctypes.create_string_buffer(_READLINK_MAX)
            own = self.found.text.startswith(OWN_PROC) and "/map_files/" not in self.found.text
            size = task.touch(self._read, fd, buffer) if own else self._read(fd, buffer)
            text = buffer.raw[:size]
        text = text[: self.size]
        self.call.write(self.buffer_index, text)
        self.call.finish(len(text))

    def _read(self, fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        try:
            return syscall(_READLINKAT, fd, b"", buffer, _READLINK_MAX)
        except OSError as error:
            # of a descriptor that is no link the kernel says ENOENT, of a name EINVAL
            code = errno.EINVAL if error.errno == errno.ENOENT and self.path else error.errno
            raise OSError(code, "no link") from None


class Mkdir(InDirectory):
    """mkdir, mkdirat."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "mkdirat"
        self.mode = call.int_arg(2 if at else 1) & 0o7777
        super().__init__(call, resolver, call.int_arg(0) if at else AT_FDCWD, 1 if at else 0)

    def perform(self) -> None:
        """Make the directory with the caller's umask."""
        os.umask(self.call.status.umask)
        os.mkdir(self.found.last, self.mode, dir_fd=self.parent())
        self.call.finish(0)


class Unlink(InDirectory):
    """unlink, unlinkat, rmdir."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "unlinkat"
        flags = call.int_arg(2) if at else AT_REMOVEDIR if call.name == "rmdir" else 0
        if flags & ~AT_REMOVEDIR:
            raise Fault(errno.EINVAL)
        self.directory = bool(flags)
        super().__init__(call, resolver, call.int_arg(0) if at else AT_FDCWD, 1 if at else 0)

    def perform(self) -> None:
        """Remove the name from the pinned directory."""
        if self.directory:
            os.rmdir(self.found.last, dir_fd=self.parent())
        else:
            os.unlink(self.found.last, dir_fd=self.parent())
        self.call.finish(0)


