"""The extended attributes of the very object that was judged: set, get, list and remove.

Which attributes there are for whom the kernel decides by the caller's rights, which the thread has.
Name and value are copied before the object's name is looked up, as in the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc, read_file
from certexec.run.call import Call, Fault
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver
from certexec.run.task import Task

_SETXATTR = 188
_GETXATTR = 191
_LISTXATTR = 194
_REMOVEXATTR = 197
_NAME_ROOM = 256
"""bytes of a name with its NUL (XATTR_NAME_MAX + 1)."""
_SIZE_MAX = 65536
"""bytes of a value, and of a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX)."""
_FLAGS_KNOWN = 3
"""XATTR_CREATE and XATTR_REPLACE."""
_ARGS = struct.Struct("=QII")
"""struct xattr_args: value, size, flags."""
_PAGE = 4096
_OF_LINKS = ("lsetxattr", "lgetxattr", "llistxattr", "lremovexattr")
_KNOWN_AT = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH


class OnAttributes(OnObject):
    """Base: the three names of each call, which differ in how they name the object."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.at = call.name.endswith("at")
        self.resolver = resolver
        flags = AT_SYMLINK_NOFOLLOW if call.name in _OF_LINKS else 0
        if self.at:
            flags = call.int_arg(2)
            self.copy_args(call)
            if flags & ~_KNOWN_AT:
                raise Fault(errno.EINVAL)
        self.copy(call)
        dirfd = call.int_arg(0) if self.at else AT_FDCWD
        super().__init__(call, resolver, dirfd, int(self.at), flags, null=self.at)

    def copy_args(self, call: Call) -> None:
        """Copy the struct xattr_args of setxattrat and getxattrat."""

    def copy(self, call: Call) -> None:
        """Copy whatever else lies in the caller's memory."""

    def _descriptor(self, resolver: Resolver, dirfd: int) -> Resolved:
        if dirfd == AT_FDCWD and self.call.name in ("listxattrat", "removexattrat"):
            raise Fault(errno.EBADF)  # these two take a descriptor only, in today's kernels
        refuse_path_only(self.call.task, dirfd)
        return super()._descriptor(resolver, dirfd)


def refuse_path_only(task: Task, fd: int) -> None:
    """Raise Fault(EBADF) for a descriptor that stands for a name alone (O_PATH), or for nothing."""
    if fd == AT_FDCWD:
        return
    try:
        text = task.touch(read_file, proc(task.tid, "fdinfo", fd))
        flags = int(text.partition(b"flags:")[2].split(None, 1)[0], 8)
    except (OSError, ValueError, IndexError):
        raise Fault(errno.EBADF) from None
    if flags & os.O_PATH:
        raise Fault(errno.EBADF)


def _copy_name(call: Call, index: int) -> bytes:
    try:
        name = call.memory.read_string(call.arg(index), _NAME_ROOM)
    except OSError:
        raise Fault(errno.EFAULT) from None
    if not name:
        raise Fault(errno.ERANGE)  # empty, or too long
    return name


def copy_struct(call: Call, index: int, size: int, known: int) -> bytes:
    """Copy a structure that may be longer here than the kernel knows it, as far as it is known.

    Raises Fault(EINVAL) for one that is too short, E2BIG where the rest is too long or not zero.
    Source: copy_struct_from_user in linux/uaccess.h.
    """
    if size < known:
        raise Fault(errno.EINVAL)
    if size > _PAGE:
        raise Fault(errno.E2BIG)
    data = call.block(index, size)
    if any(data[known:]):
        raise Fault(errno.E2BIG)
    return data[:known]


class SetXattr(OnAttributes):
    """setxattr, lsetxattr, setxattrat."""

    def copy_args(self, call: Call) -> None:
        """Copy where the value is."""
        data = copy_struct(call, 4, call.arg(5), _ARGS.size)
        self.address, self.size, self.flags = _ARGS.unpack(data)

    def copy(self, call: Call) -> None:
        """Copy name and value."""
        if not self.at:
            self.address, self.size, self.flags = call.arg(2), call.arg(3), call.int_arg(4)
        if self.flags & ~_FLAGS_KNOWN:
            raise Fault(errno.EINVAL)
        self.name = _copy_name(call, 3 if self.at else 1)
        if self.size > _SIZE_MAX:
            raise Fault(errno.E2BIG)
        try:
            self.value = call.memory.read(self.address, self.size) if self.size else b""
        except OSError:
            raise Fault(errno.EFAULT) from None

    def perform(self) -> None:
        """Set the attribute."""
        syscall(_SETXATTR, self.link(), self.name, self.value, len(self.value), self.flags)
        self.call.finish(0)


class GetXattr(OnAttributes):
    """getxattr, lgetxattr, getxattrat."""

    def copy_args(self, call: Call) -> None:
        """Copy where the value is to go."""
        data = copy_struct(call, 4, call.arg(5), _ARGS.size)
        self.address, self.size, flags = _ARGS.unpack(data)
        if flags:
            raise Fault(errno.EINVAL)

    def copy(self, call: Call) -> None:
        """Copy the name."""
        if not self.at:
            self.address, self.size = call.arg(2), call.arg(3)
        self.name = _copy_name(call, 3 if self.at else 1)

    def perform(self) -> None:
        """Write the value where the caller wants it; without room tell only how long it is."""
        room = min(self.size, _SIZE_MAX)
        buffer = ctypes.create_string_buffer(room or 1)
        length = syscall(_GETXATTR, self.link(), self.name, buffer, room)
        _give(self.call, self.address, buffer.raw[:length] if room else b"")
        self.call.finish(length)


class ListXattr(OnAttributes):
    """listxattr, llistxattr, listxattrat."""

    def perform(self) -> None:
        """Write the names where the caller wants them; without room tell only how long they are."""
        first = 3 if self.at else 1
        room = min(self.call.arg(first + 1), _SIZE_MAX)
        buffer = ctypes.create_string_buffer(room or 1)
        length = syscall(_LISTXATTR, self.link(), buffer, room)
        _give(self.call, self.call.arg(first), buffer.raw[:length] if room else b"")
        self.call.finish(length)


class RemoveXattr(OnAttributes):
    """removexattr, lremovexattr, removexattrat."""

    def copy(self, call: Call) -> None:
        """Copy the name."""
        self.name = _copy_name(call, 3 if self.at else 1)

    def perform(self) -> None:
        """Remove the attribute."""
        syscall(_REMOVEXATTR, self.link(), self.name)
        self.call.finish(0)


def _give(call: Call, address: int, data: bytes) -> None:
    """Write to the caller's memory, at an address that need not be in a register."""
    call.still_waits()
    try:
        call.task.touch(call.memory.write, address, data)
    except OSError:
        raise Fault(errno.EFAULT) from None
