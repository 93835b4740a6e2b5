"""rename, link and symlink in all their forms, in pinned directories.

A rename acts on two names in two pinned directories and follows neither. A hard link is made to
the very object that was judged, through its descriptor. The kernel checks what it would check for
the caller, whose rights the thread has: sticky directories, protected_hardlinks, quotas.
"""

from __future__ import annotations

import errno
import os

from certexec.kernel.filesystem import parse_release
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import own_fd
from certexec.run.call import Call, Fault
from certexec.run.operations import (
    AT_EMPTY_PATH,
    AT_SYMLINK_FOLLOW,
    InDirectory,
    Operation,
    parent_of,
)
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_LINKAT = 265
_SYMLINKAT = 266
_RENAMEAT2 = 316
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_RENAME_WHITEOUT = 4
_RENAME_KNOWN = _RENAME_NOREPLACE | _RENAME_EXCHANGE | _RENAME_WHITEOUT
_FACCESSAT2 = 439
_AT_EACCESS = 0x200
_CAP_DAC_READ_SEARCH = 1 << 2
_FLINK_RELEASE = (6, 10, 0)
"""Since then AT_EMPTY_PATH asks for no capability when who opened the file links it (commit
42bd2af59504)."""


class TwoNames(Operation):
    """Base of the calls that take an old and a new name: ``filename`` and ``filename[1]``.

    The old one's error comes first, as in the kernel, also before a bad pointer to the new one.
    """

    def __init__(self, call: Call, resolver: Resolver, at: bool) -> None:
        super().__init__(call)
        self.resolver = resolver
        self.new = Resolved("", -1, -1, b"", errno.ENOENT)
        self.old = self.look_up_old(call.int_arg(0) if at else AT_FDCWD, 1 if at else 0)
        try:
            try:
                path = call.path(3 if at else 1)
            except Fault:
                self.check_old()
                raise
            self.new = resolver.parent(call.task, call.int_arg(2) if at else AT_FDCWD, path)
        except BaseException:
            self.close()
            raise
        self.values = {"filename": [self.old.text, self.new.text]}

    def look_up_old(self, dirfd: int, path_index: int) -> Resolved:
        """Pin what the old name is about."""
        raise AssertionError(self.call.name)

    def check_old(self) -> None:
        """Raise Fault where the kernel would not get beyond the old name."""
        if self.old.error:
            raise Fault(self.old.error)

    def new_parent(self) -> int:
        """Return the pinned directory of the new name.

        Raises OSError or Fault with what the caller would get.
        """
        if self.new.parent < 0:
            self.check_old()
        return parent_of(self.new)

    def close(self) -> None:
        """Give back what was pinned."""
        self.old.close()
        self.new.close()


class Rename(TwoNames):
    """rename, renameat, renameat2.

    An exchange renames both ways, so it is judged both ways.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.int_arg(4) if call.name == "renameat2" else 0
        beside = self.flags & (_RENAME_NOREPLACE | _RENAME_WHITEOUT)
        if self.flags & ~_RENAME_KNOWN or self.flags & _RENAME_EXCHANGE and beside:
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, call.name != "rename")
        if self.flags & _RENAME_EXCHANGE:
            self.also = [{"filename": [self.new.text, self.old.text]}]

    def look_up_old(self, dirfd: int, path_index: int) -> Resolved:
        """Pin the directory of the old name."""
        return self.resolver.parent(self.call.task, dirfd, self.call.path(path_index))

    def check_old(self) -> None:
        """Raise Fault where the kernel would not get beyond the old name's directory."""
        super().check_old()
        try:
            syscall(_FACCESSAT2, self.old.parent, b"", os.X_OK, AT_EMPTY_PATH | _AT_EACCESS)
        except OSError as error:
            raise Fault(error.errno or errno.EACCES) from None

    def perform(self) -> None:
        """Rename between the pinned directories."""
        old, new = parent_of(self.old), self.new_parent()
        syscall(_RENAMEAT2, old, self.old.last, new, self.new.last, self.flags)
        self.call.finish(0)


class Link(TwoNames):
    """link, linkat: the old name is judged as the object that gets another name."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.flags = call.int_arg(4) if call.name == "linkat" else 0
        if self.flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, call.name == "linkat")

    def look_up_old(self, dirfd: int, path_index: int) -> Resolved:
        """Pin the object, which may be a symbolic link."""
        call = self.call
        path = call.path(path_index)
        if self.flags & AT_EMPTY_PATH and not may_link_descriptors(call.status.caps["eff"]):
            raise Fault(errno.ENOENT)
        if not path and self.flags & AT_EMPTY_PATH:
            return self.resolver.descriptor(call.task, dirfd)
        follow = bool(self.flags & AT_SYMLINK_FOLLOW)
        return self.resolver.object(call.task, dirfd, path, follow)

    def perform(self) -> None:
        """Make the new name in the pinned directory."""
        if self.old.fd < 0:
            raise OSError(self.old.error or errno.ENOENT, "missing")
        new = self.new_parent()
        # by magic link: that asks for no capability, and leads to the inode whatever it is called
        source = own_fd(self.old.fd).encode()
        syscall(_LINKAT, AT_FDCWD, source, new, self.new.last, AT_SYMLINK_FOLLOW)
        self.call.finish(0)


def may_link_descriptors(capabilities: int) -> bool:
    """Tell whether linkat(2) takes AT_EMPTY_PATH from a thread with these effective capabilities.

    Who opened the descriptor cannot be told from here. It is taken for the thread itself: through
    /proc/self/fd it could link the file in any case.
    """
    if capabilities & _CAP_DAC_READ_SEARCH:
        return True
    release = parse_release(os.uname().release)
    return release is not None and release >= _FLINK_RELEASE


class Symlink(InDirectory):
    """symlink, symlinkat: ``string`` is the text of the new link, which leads nowhere yet."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name == "symlinkat"
        self.target = call.string(0)
        if not self.target:
            raise Fault(errno.ENOENT)
        super().__init__(call, resolver, call.int_arg(1) if at else AT_FDCWD, 2 if at else 1)
        self.values = {"string": [os.fsdecode(self.target)], "filename": [self.found.text]}

    def perform(self) -> None:
        """Make the link in the pinned directory."""
        syscall(_SYMLINKAT, self.target, self.parent(), self.found.last)
        self.call.finish(0)
