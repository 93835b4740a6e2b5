"""mount, umount2, move_mount, mount_setattr, fspick: between pinned places of one mount table.

What is mounted, and where, is pinned: a bind mount binds the very directory that was judged. A new
file system is mounted only where nothing but its name says what it is. Others take their device's
name, or descriptors and further names in their options, which nobody judged: such a call is denied.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from certexec.kernel.filesystem import identify, openat2
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import go_home, own_fd
from certexec.policy.guards import UNSUPPORTED
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.emulate_xattr import copy_struct
from certexec.run.mounts import spot
from certexec.run.namespaces import shares_namespaces
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver
from certexec.run.step import OPEN_PATH

_MOUNT = 165
_UMOUNT2 = 166
_MOVE_MOUNT = 429
_FSPICK = 433
_MOUNT_SETATTR = 442
_CAP_SYS_ADMIN = 1 << 21
_NO_SYMLINKS = 0x04
_PAGE = 4096

_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_MOVE = 0x2000
_MS_CHANGE = 0x20000 | 0x40000 | 0x80000 | 0x100000
"""MS_UNBINDABLE, PRIVATE, SLAVE, SHARED: what becomes of mounts below."""
_MS_MAGIC, _MS_MAGIC_MASK = 0xC0ED0000, 0xFFFF0000
_MS_NOUSER = 1 << 31
_BY_NAME_ALONE = (b"tmpfs", b"ramfs", b"proc", b"sysfs", b"devpts", b"mqueue", b"cgroup2")
"""File systems that take neither a device nor descriptors, and no file's name in their options."""

_UMOUNT_NOFOLLOW = 8
_UMOUNT_KNOWN = 0xF

_F_SYMLINKS, _F_EMPTY_PATH, _T_SYMLINKS, _T_EMPTY_PATH = 0x01, 0x04, 0x10, 0x40
_SET_GROUP, _BENEATH = 0x100, 0x200
_MOVE_KNOWN = 0x377

_PICK_CLOEXEC, _PICK_NOFOLLOW, _PICK_NO_AUTOMOUNT, _PICK_EMPTY_PATH = 1, 2, 4, 8

_AT_RECURSIVE = 0x8000
_AT_NO_AUTOMOUNT = 0x800
_ATTR = struct.Struct("=4Q")
"""struct mount_attr: what to set, what to clear, propagation, a descriptor of a user namespace."""
_ATTR_IDMAP = 0x00100000


def _refuse_others(call: Call) -> None:
    """Raise Fault(EPERM) for who may not change mounts: the kernel asks before much else."""
    if not call.status.caps["eff"] & _CAP_SYS_ADMIN:
        raise Fault(errno.EPERM)


class Mount(OnObject):
    """mount: ``filename`` is what is mounted, as it was named where that is no file's name."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.arg(3)
        if self.flags & _MS_MAGIC_MASK == _MS_MAGIC:
            self.flags &= ~_MS_MAGIC_MASK
        self.kind = _string(call, 2)
        source = _string(call, 0)
        self.data = _string(call, 4)
        super().__init__(call, resolver, AT_FDCWD, 1, 0)
        self.source, self.raw = Resolved("", -1, -1, b"", 0), source
        binds = self.flags & (_MS_REMOUNT | _MS_BIND) == _MS_BIND
        moves = not self.flags & (_MS_REMOUNT | _MS_BIND | _MS_CHANGE) and self.flags & _MS_MOVE
        self.pins = bool(binds or moves)
        try:
            text = os.fsdecode(source or b"")
            if self.pins and source:
                self.source = resolver.object(call.task, AT_FDCWD, call.given(source), True)
                text = self.source.text
        except BaseException:
            self.close()
            raise
        self.values = {"filename": [text, self.found.text]}

    def perform(self) -> None:
        """Mount on the pinned place."""
        target = self.link()
        if self.flags & _MS_NOUSER:
            raise OSError(errno.EINVAL, "not a flag for programs")
        _refuse_others(self.call)
        source = self.raw
        if self.pins and source:
            if self.source.fd < 0:
                raise OSError(self.source.error or errno.ENOENT, "missing")
            source = own_fd(self.source.fd).encode()
        elif not self.pins and not self._is_plain():
            if self.judge is not None:
                log = self.judge.log  # with our own rights: it looks at the caller, too
                self.call.task.touch(log, self.call, "deny", UNSUPPORTED, errno.EPERM, self.values)
            raise OSError(errno.EPERM, "what its options name was not judged")
        syscall(_MOUNT, source, target, self.kind, self.flags, self.data)
        self.call.finish(0)

    def _is_plain(self) -> bool:
        """Tell whether nothing beside the judged place and a name says what is mounted."""
        if self.flags & _MS_REMOUNT:
            return bool(self.flags & _MS_BIND) or not self.data
        if self.flags & _MS_CHANGE or self.kind is None:
            return True
        # such a file system shows the namespaces of who mounts it
        return self.kind in _BY_NAME_ALONE and shares_namespaces(self.call.task)

    def close(self) -> None:
        """Give back what was pinned."""
        super().close()
        self.source.close()


def _string(call: Call, index: int) -> bytes | None:
    """Copy a string that may be missing. Raises Fault(EFAULT, EINVAL: too long)."""
    if call.arg(index) == 0:
        return None
    try:
        text = call.memory.read_string(call.arg(index), _PAGE)
    except OSError:
        raise Fault(errno.EFAULT) from None
    if text is None:
        raise Fault(errno.EINVAL)
    return text


class Umount(OnObject):
    """umount2, by last component in a pinned directory.

    A mount that is pinned is busy, so the directory that it stands in is pinned in its place.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.int_arg(1)
        if self.flags & ~_UMOUNT_KNOWN:
            raise Fault(errno.EINVAL)
        flags = AT_SYMLINK_NOFOLLOW if self.flags & _UMOUNT_NOFOLLOW else 0
        self.resolver, self.parent, self.last = resolver, -1, b""
        super().__init__(call, resolver, AT_FDCWD, 0, flags)
        try:
            self._pin_holder()
        except BaseException:
            self.close()
            raise

    def _pin_holder(self) -> None:
        """Exchange the pinned mount for the directory in which its name is.

        Where the name leads to another mount by now, or to none, the kernel is left to say so.
        """
        found, call = self.found, self.call
        if found.fd < 0:
            return
        try:
            direct = self.resolver.parent(call.task, AT_FDCWD, self.path)
            self.parent, direct.parent = direct.parent, -1
            self.last = direct.last.rstrip(b"/")
            if self.parent < 0 or direct.text != found.text or self.last in (b"", b".", b".."):
                self._pin_real_path()
        except OSError as error:
            found.error = error.errno or errno.EINVAL
        finally:
            os.close(found.fd)
            found.fd = -1

    def _pin_real_path(self) -> None:
        """Take the directory of the real path, if that is still the way to the object."""
        if self.parent >= 0:
            os.close(self.parent)
            self.parent = -1
        path = os.fsencode(self.found.text)
        directory, _, self.last = path.rpartition(b"/")
        if path == b"/":
            return
        self.parent = openat2(AT_FDCWD, directory or b"/", OPEN_PATH, _NO_SYMLINKS)
        if stat.S_ISDIR(os.fstat(self.found.fd).st_mode):
            above = os.open("..", OPEN_PATH, dir_fd=self.found.fd)
            try:
                same = spot(above) == spot(self.parent)
            finally:
                os.close(above)
        else:
            same = identify(self.parent, self.last).mount == identify(self.found.fd).mount
        if not same:
            raise OSError(errno.EINVAL, "another mount hides it")

    def perform(self) -> None:
        """Unmount what stands at the judged name."""
        if self.found.error:
            raise OSError(self.found.error, "no mount")
        try:
            if self.parent >= 0:
                os.fchdir(self.parent)
            syscall(_UMOUNT2, self.last or b"/", self.flags | _UMOUNT_NOFOLLOW)
        finally:
            go_home()
        self.call.finish(0)

    def close(self) -> None:
        """Give back what was pinned."""
        super().close()
        if self.parent >= 0:
            os.close(self.parent)
            self.parent = -1


class MoveMount(Operation):
    """move_mount: ``filename`` is the mount, "" for one that stands nowhere yet, then its place."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        _refuse_others(call)
        self.flags = call.int_arg(4)
        both = _SET_GROUP | _BENEATH
        if self.flags & ~_MOVE_KNOWN or self.flags & both == both:
            raise Fault(errno.EINVAL)
        super().__init__(call)
        self.resolver, self.fd = resolver, -1
        self.source = Resolved("", -1, -1, b"", 0)
        self.target = self._look_up(2, _T_SYMLINKS, _T_EMPTY_PATH)
        try:
            if self.target.fd >= 0:
                self._look_up_source()
        except BaseException:
            self.close()
            raise
        self.values = {"filename": [self.source.text, self.target.text]}

    def _look_up_source(self) -> None:
        call = self.call
        dirfd = call.int_arg(0)
        if self.flags & _F_EMPTY_PATH and dirfd != AT_FDCWD and not call.path(1):
            self.fd = copy_descriptor(call, dirfd)
            if self.resolver.mounts.of(self.fd) is None:
                return  # it is detached: its descriptor is all that there is of it
            os.close(self.fd)
            self.fd = -1
        self.source = self._look_up(0, _F_SYMLINKS, _F_EMPTY_PATH)

    def _look_up(self, register: int, follow: int, empty: int) -> Resolved:
        task, dirfd = self.call.task, self.call.int_arg(register)
        path = self.call.path(register + 1)
        if not path and self.flags & empty:
            found = self.resolver.descriptor(task, dirfd)
            if found.error == errno.EBADF:
                raise Fault(errno.EBADF)
            return found
        return self.resolver.object(task, dirfd, path, bool(self.flags & follow))

    def perform(self) -> None:
        """Move the mount."""
        for found in (self.target, self.source):
            if found.fd < 0 and (found is self.target or self.fd < 0):
                raise OSError(found.error or errno.ENOENT, "missing")
        source = self.fd if self.fd >= 0 else self.source.fd
        flags = self.flags & (_SET_GROUP | _BENEATH) | _F_EMPTY_PATH | _T_EMPTY_PATH
        syscall(_MOVE_MOUNT, source, b"", self.target.fd, b"", flags)
        self.call.finish(0)

    def close(self) -> None:
        """Give back what was pinned, or copied."""
        self.source.close()
        self.target.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _detached(call: Call, resolver: Resolver, dirfd: int) -> Resolved | None:
    """Pin a mount that stands nowhere yet; None where the descriptor is of none such."""
    copy = copy_descriptor(call, dirfd) if dirfd != AT_FDCWD else -1
    if copy >= 0 and resolver.mounts.of(copy) is None:
        return Resolved("", copy, -1, b"", 0)
    if copy >= 0:
        os.close(copy)
    return None


class SetMountAttributes(OnObject):
    """mount_setattr: of the mount that was judged, and with AT_RECURSIVE of those below it."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        flags, self.fd = call.int_arg(2), -1
        self.recursive = flags & _AT_RECURSIVE
        known = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | _AT_RECURSIVE | _AT_NO_AUTOMOUNT
        size = call.arg(4)
        if flags & ~known:
            raise Fault(errno.EINVAL)
        if size > _PAGE:
            raise Fault(errno.E2BIG)
        if size < _ATTR.size:
            raise Fault(errno.EINVAL)
        _refuse_others(call)
        self.attributes = copy_struct(call, 3, size, _ATTR.size)
        super().__init__(call, resolver, call.int_arg(0), 1, flags)
        try:
            self._copy_namespace()
        except BaseException:
            self.close()
            raise

    def _descriptor(self, resolver: Resolver, dirfd: int) -> Resolved:
        return _detached(self.call, resolver, dirfd) or super()._descriptor(resolver, dirfd)

    def _copy_namespace(self) -> None:
        set_, clear, propagation, number = _ATTR.unpack(self.attributes)
        if set_ & _ATTR_IDMAP and number < 1 << 31:
            self.fd = copy_descriptor(self.call, number)
            self.attributes = _ATTR.pack(set_, clear, propagation, self.fd)

    def perform(self) -> None:
        """Change the attributes; where nothing is to change the kernel looks at no mount."""
        where = self.object() if any(self.attributes[:24]) else -1
        flags = AT_EMPTY_PATH | self.recursive
        syscall(_MOUNT_SETATTR, where, b"", flags, self.attributes, _ATTR.size)
        self.call.finish(0)

    def close(self) -> None:
        """Give back what was pinned, or copied."""
        super().close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Pick(OnObject):
    """fspick: a descriptor by which the options of a mounted file system can be changed.

    Whoever uses it is asked for the right to do so again, by the kernel, with their own ids.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        _refuse_others(call)
        self.flags = call.int_arg(2)
        known = _PICK_CLOEXEC | _PICK_NOFOLLOW | _PICK_NO_AUTOMOUNT | _PICK_EMPTY_PATH
        if self.flags & ~known:
            raise Fault(errno.EINVAL)
        flags = AT_SYMLINK_NOFOLLOW if self.flags & _PICK_NOFOLLOW else 0
        flags |= AT_EMPTY_PATH if self.flags & _PICK_EMPTY_PATH else 0
        super().__init__(call, resolver, call.int_arg(0), 1, flags)

    def _descriptor(self, resolver: Resolver, dirfd: int) -> Resolved:
        return _detached(self.call, resolver, dirfd) or super()._descriptor(resolver, dirfd)

    def perform(self) -> None:
        """Pick the mount that was judged, and hand the descriptor over."""
        fd = syscall(_FSPICK, self.object(), b"", _PICK_CLOEXEC | _PICK_EMPTY_PATH)
        try:
            self.call.finish_with_fd(fd, bool(self.flags & _PICK_CLOEXEC))
        finally:
            os.close(fd)
