"""truncate, on the very file that was judged and within the caller's limit on file sizes."""

from __future__ import annotations

import errno
import resource

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc, read_file
from certexec.run.call import Call, Fault
from certexec.run.operations import OnObject
from certexec.run.resolve import AT_FDCWD, Resolver

_TRUNCATE = 76
_TGKILL = 234
_SIGXFSZ = 25
_SIGN_BIT = 1 << 63
_LIMIT_LINE = b"\nMax file size"
UNLIMITED = (1 << 64) - 1
"""RLIM_INFINITY."""


class Truncate(OnObject):
    """truncate. It stays in the loop's thread: the limit is set for the whole supervisor."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        self.length = call.arg(1)
        if self.length & _SIGN_BIT:
            raise Fault(errno.EINVAL)
        super().__init__(call, resolver, AT_FDCWD, 0, 0)

    def perform(self) -> None:
        """Change the size. RLIMIT_FSIZE is the calling process's own, and so is its SIGXFSZ."""
        link, task = self.link(), self.call.task
        limit = task.touch(file_size_limit, task.tid)
        self.call.still_waits()
        try:
            _limited(limit, link, self.length)
        except OSError as error:
            if error.errno == errno.EFBIG and self.length > limit:
                self.call.still_waits()
                task.touch(syscall, _TGKILL, task.tgid, task.tid, _SIGXFSZ)
            raise
        self.call.finish(0)


def file_size_limit(tid: int) -> int:
    """Return a thread's soft RLIMIT_FSIZE in bytes, UNLIMITED for none; raises OSError."""
    text = read_file(proc(tid, "limits"))
    word = text.partition(_LIMIT_LINE)[2].split(None, 1)[0]
    return UNLIMITED if word == b"unlimited" else int(word)


def _limited(limit: int, path: bytes, length: int) -> None:
    """Truncate under a limit, so that the kernel compares it with the size of that very moment."""
    own, most = resource.getrlimit(resource.RLIMIT_FSIZE)  # -1: unlimited
    wanted = min(limit, most & UNLIMITED)
    if wanted == own & UNLIMITED:
        syscall(_TRUNCATE, path, length)
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1 if wanted == UNLIMITED else wanted, most))
    try:
        syscall(_TRUNCATE, path, length)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (own, most))
