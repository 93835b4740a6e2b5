"""One at a time reads a file once more and replaces it: a lock on the file's directory.

The file itself is replaced, so a lock on it would be one on what is there no more; a lock file
would be left behind. Whoever may read a directory may lock it, so nobody is waited for without end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = 10.0
"""seconds to wait for others, who hold the lock for one comparison and one write"""
_STEP = 0.02
"""seconds between two tries"""


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file, which need not be there; links are followed.

    Where there is none to be had (a file system without, or somebody who keeps it) go on without.
    """
    directory = os.path.dirname(os.path.realpath(path))
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # what is wrong with the directory is told by who writes in it
        return
    try:
        _take(fd)
        yield
    finally:
        os.close(fd)


def _take(fd: int) -> None:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_STEP)
        except OSError:
            return
        else:
            return
