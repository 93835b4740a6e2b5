"""utime, utimes, futimesat and utimensat, on the very object that was judged."""

from __future__ import annotations

import errno
import os
import struct

from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, OnObject, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_UTIMENSAT = 280
_SECONDS = struct.Struct("=2q")
"""struct utimbuf: access time, modification time."""
_PAIRS = struct.Struct("=4q")
"""struct timeval[2] or timespec[2]."""
_MICROSECONDS = range(1_000_000)
_UTIME_OMIT = (1 << 30) - 2


class Utimes(OnObject):
    """All forms; ``times`` is the struct timespec[2] to set, None for now.

    Without a name futimesat and utimensat are about the descriptor (futimens(3)): they have no
    file name then. Where both times are to be left alone, nothing at all is looked at.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        at = call.name in ("futimesat", "utimensat")
        dirfd = call.int_arg(0) if at else AT_FDCWD
        flags = call.int_arg(3) if call.name == "utimensat" else 0
        self.fd = -1
        self.times = _times(call, 2 if at else 1)
        self.idle = call.name == "utimensat" and _leaves_alone(self.times)
        if self.idle:
            self._without_object(call, {"filename": [""]})
            return
        if dirfd != AT_FDCWD and call.arg(1) == 0:
            if flags:
                raise Fault(errno.EINVAL)
            self._without_object(call, {})
            self.fd = copy_descriptor(call, dirfd)
            return
        if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, dirfd, int(at), flags)

    def _without_object(self, call: Call, values: dict[str, list[str]]) -> None:
        Operation.__init__(self, call)
        self.found = Resolved("", -1, -1, b"", errno.ENOENT)
        self.values = values

    def perform(self) -> None:
        """Set the times."""
        if self.fd >= 0:
            syscall(_UTIMENSAT, self.fd, None, self.times, 0)
        elif not self.idle:
            syscall(_UTIMENSAT, AT_FDCWD, self.link(), self.times, 0)
        self.call.finish(0)

    def close(self) -> None:
        """Give back what was pinned, or copied."""
        super().close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _times(call: Call, index: int) -> bytes | None:
    if call.arg(index) == 0:
        return None
    if call.foreign:
        from certexec.run import foreign_layout

        given = call.block(index, foreign_layout.times_size(call.foreign))
        return _of_parts(call.name, foreign_layout.times_of(call.foreign, given))
    if call.name == "utime":
        accessed, modified = _SECONDS.unpack(call.block(index, _SECONDS.size))
        return _PAIRS.pack(accessed, 0, modified, 0)
    return _of_parts(call.name, _PAIRS.unpack(call.block(index, _PAIRS.size)))


def _of_parts(name: str, times: Sequence[int]) -> bytes:
    """Return two seconds, each with its part, as struct timespec[2]. Raises Fault(EINVAL)."""
    accessed, access_part, modified, modify_part = times
    if name in ("utimensat", "utime"):
        return _PAIRS.pack(*times)
    if access_part not in _MICROSECONDS or modify_part not in _MICROSECONDS:
        raise Fault(errno.EINVAL)
    return _PAIRS.pack(accessed, access_part * 1000, modified, modify_part * 1000)


def _leaves_alone(times: bytes | None) -> bool:
    if times is None:
        return False
    _, accessed, _, modified = _PAIRS.unpack(times)
    return bool(accessed == modified == _UTIME_OMIT)
