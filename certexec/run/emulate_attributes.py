"""chmod and chown in all their forms, on the very object that was judged."""

from __future__ import annotations

import errno

from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject
from certexec.run.resolve import AT_FDCWD, Resolver

_CHMOD = 90
_FCHOWNAT = 260
_KNOWN_FLAGS = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH


def mode_text(mode: int) -> str:
    """Return systrace's text for a file mode: octal, without the file's type and a leading 0."""
    return f"{mode & 0o7777:o}"


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
