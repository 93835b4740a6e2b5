"""Read leases: the kernel's word that nobody has a file open for writing (fcntl(2)).

A lease is granted only while no descriptor and no shared mapping can write to the file. Whoever
opens it for writing then waits until the lease is given back, or a time is over
(/proc/sys/fs/lease-break-time, 45 s). Overlayfs grants one although a mapping can write.
"""

from __future__ import annotations

import fcntl
import os

SIGURG = 23
"""What a break of the lease is told with: ignored unless somebody wants it, SIGIO would kill."""


class ReadLease:
    """A lease on an open file, for as long as it is not given back.

    Needs a descriptor for reading, and to own the file or CAP_LEASE. Raises OSError: EAGAIN where
    somebody can write to it, EACCES for other people's files, EINVAL where there are no leases.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETSIG, SIGURG)
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BaseException:
            os.close(self._fd)
            raise

    def holds(self) -> bool:
        """Tell whether nobody has asked for writing since."""
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    def give_back(self) -> None:
        """Let writers in."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(self._fd)
