"""name_to_handle_at: the handle by which a file system knows the very object that was judged."""

from __future__ import annotations

import ctypes
import errno
import struct

from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault
from certexec.run.operations import (
    AT_EMPTY_PATH,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    OnObject,
)
from certexec.run.resolve import AT_FDCWD, Resolver

_NAME_TO_HANDLE_AT = 303
_UNIQUE = 0x001
"""AT_HANDLE_MNT_ID_UNIQUE: the mount's 64-bit id."""
_CONNECTABLE = 0x002
_FID = 0x200
_KNOWN = _UNIQUE | _CONNECTABLE | _FID | AT_SYMLINK_FOLLOW | AT_EMPTY_PATH
_HEAD = struct.Struct("=Ii")
"""struct file_handle without the handle: room for it in bytes, type."""
_ROOM_MAX = 128
"""bytes (MAX_HANDLE_SZ): where the caller has room for more, the kernel refuses."""


class Handle(OnObject):
    """name_to_handle_at; a symbolic link is followed only where the call asks for that."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.int_arg(4)
        if self.flags & ~_KNOWN:
            raise Fault(errno.EINVAL)
        if self.flags & _CONNECTABLE and self.flags & (_FID | AT_EMPTY_PATH):
            raise Fault(errno.EINVAL)
        flags = self.flags & AT_EMPTY_PATH
        if not self.flags & AT_SYMLINK_FOLLOW:
            flags |= AT_SYMLINK_NOFOLLOW
        super().__init__(call, resolver, call.int_arg(0), 1, flags)
        self.handle: ctypes.Array[ctypes.c_char] | None = None
        try:
            room = _HEAD.unpack(call.block(2, _HEAD.size))[0]
        except Fault:
            return  # the kernel looks at the object first: it will be given a bad address, too
        self.handle = ctypes.create_string_buffer(_HEAD.pack(room, 0), _HEAD.size + _ROOM_MAX)

    def perform(self) -> None:
        """Write the handle and the mount's id; when there is too little room, say how much."""
        handle, mount = self.handle, ctypes.create_string_buffer(8)
        flags = self.flags & (_UNIQUE | _CONNECTABLE | _FID) | AT_SYMLINK_FOLLOW
        code = 0
        try:
            syscall(_NAME_TO_HANDLE_AT, AT_FDCWD, self.link(), handle, mount, flags)
        except OSError as error:
            if error.errno != errno.EOVERFLOW:
                raise
            code = errno.EOVERFLOW
        self.call.write(3, mount.raw[: 8 if self.flags & _UNIQUE else 4])
        if handle is not None:
            length = 0 if code else _HEAD.unpack_from(handle.raw)[0]
            self.call.write(2, handle.raw[: _HEAD.size + length])
        if code:
            raise OSError(code, "too little room")
        self.call.finish(0)
