"""inotify_add_watch and fanotify_mark: watch the very object that was judged.

The watch is put on a copy of the caller's descriptor, which is the same open file: it belongs to
the program, and so do its events. Whether the object may be watched the kernel decides by the
caller's rights, which the thread has.
"""

from __future__ import annotations

import errno
import fcntl
import os

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import own_fd
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.emulate_xattr import refuse_path_only
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_INOTIFY_ADD_WATCH = 254
_FANOTIFY_MARK = 301
_WORD = 0xFFFFFFFF
_NO_FD = -1

_IN_DONT_FOLLOW = 0x02000000
_IN_MASK_CREATE = 0x10000000
_IN_MASK_ADD = 0x20000000
_IN_ISDIR = 0x40000000
_IN_KNOWN = 0xFFF | 0xE000 | 0xF7000000
"""ALL_INOTIFY_BITS of linux/inotify.h."""
_FAN_MARK_DONT_FOLLOW = 0x04
_FAN_MARK_FLUSH = 0x80
_FAN_MARK_MOUNT, _FAN_MARK_FILESYSTEM = 0x10, 0x100


class Watch(OnObject):
    """Base: an object, and a copy of the descriptor that is to be told of it."""

    fd = -1

    def watcher(self, call: Call, kind: str) -> None:
        """Copy the descriptor in register 0. Raises Fault(EBADF, EINVAL: it is of another kind)."""
        self.fd = copy_descriptor(call, call.int_arg(0))
        if fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_PATH:
            raise Fault(errno.EBADF)
        if os.readlink(own_fd(self.fd)) != f"anon_inode:{kind}":
            raise Fault(errno.EINVAL)

    def give_back(self) -> None:
        """Close the copy."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Give back what was pinned, and the copy."""
        super().close()
        self.give_back()


class AddWatch(Watch):
    """inotify_add_watch."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.mask = call.arg(2) & _WORD
        both = _IN_MASK_ADD | _IN_MASK_CREATE
        if not self.mask or self.mask & ~_IN_KNOWN:
            raise Fault(errno.EINVAL)
        try:
            self.watcher(call, "inotify")
            if self.mask & both == both:
                raise Fault(errno.EINVAL)
            flags = AT_SYMLINK_NOFOLLOW if self.mask & _IN_DONT_FOLLOW else 0
            super().__init__(call, resolver, AT_FDCWD, 1, flags)
        except BaseException:
            self.give_back()
            raise

    def perform(self) -> None:
        """Add the watch and tell its number."""
        mask = self.mask
        if mask & _IN_DONT_FOLLOW:
            # we follow our own magic link; the other bit says as little about what is watched
            mask = mask & ~_IN_DONT_FOLLOW | _IN_ISDIR
        self.call.finish(syscall(_INOTIFY_ADD_WATCH, self.fd, self.link(), mask))


class Mark(Watch):
    """fanotify_mark. Without a name it is about a descriptor, and judged by its real path.

    A mark on a whole mount or file system tells of all files there, and opens them for who reads of
    them: so it is judged as one on its topmost directory. Removing all marks is about no object.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags, self.mask = call.arg(1) & _WORD, call.arg(2)
        self.flushes = bool(self.flags & _FAN_MARK_FLUSH)
        try:
            self.watcher(call, "[fanotify]")
            if self.flushes:
                Operation.__init__(self, call)
                self.found = Resolved("", -1, -1, b"", errno.ENOENT)
                return
            self._try_out()
            dirfd, flags = call.int_arg(3), AT_EMPTY_PATH
            if call.arg(4):
                flags = AT_SYMLINK_NOFOLLOW if self.flags & _FAN_MARK_DONT_FOLLOW else 0
            elif dirfd == AT_FDCWD:
                raise Fault(errno.EBADF)
            else:
                refuse_path_only(call.task, dirfd)
            super().__init__(call, resolver, dirfd, 4, flags, null=True)
        except BaseException:
            self.give_back()
            raise
        whole = self.flags & (_FAN_MARK_MOUNT | _FAN_MARK_FILESYSTEM)
        if whole in (_FAN_MARK_MOUNT, _FAN_MARK_FILESYSTEM) and self.found.fd >= 0:
            mount = resolver.mounts.of(self.found.fd)
            seen = mount is not None and (whole == _FAN_MARK_MOUNT or mount.root == b"/")
            top = mount.point if mount is not None and seen else b"/"
            self.values = {"filename": [os.fsdecode(top)]}

    def _try_out(self) -> None:
        """Let the kernel look at flags and mask, which it does before it looks at any object."""
        try:
            syscall(_FANOTIFY_MARK, self.fd, self.flags, self.mask, _NO_FD, None)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise Fault(error.errno or errno.EINVAL) from None

    def perform(self) -> None:
        """Add or remove the mark."""
        where, name = (_NO_FD, None) if self.flushes else (AT_FDCWD, self.link())
        flags = self.flags & ~_FAN_MARK_DONT_FOLLOW
        syscall(_FANOTIFY_MARK, self.fd, flags, self.mask, where, name)
        self.call.finish(0)
