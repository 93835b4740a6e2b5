"""Certificate files as they are named, and as they are found in directories."""

from __future__ import annotations

import errno
import os
import stat

from certexec.certificate.envelope import MAX_SIZE, PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
NAMED, FOUND, CLOSED = "named", "found", "closed"
NOT_A_CERTIFICATE = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR)
"""What opening a file that was found in a directory says if it is gone, or something else now."""


class Item:
    """One file to be judged, or one place that could not be looked into.

    Attributes:
        path: as it was typed, or below what was typed.
        how: NAMED by the caller; FOUND in a directory, where it may turn out to be no certificate;
            CLOSED: a directory that cannot be listed.
        number: the errno of CLOSED.
        data: the content, where it has been read already.
    """

    __slots__ = ("data", "how", "number", "path")

    def __init__(
        self, path: str, how: str = NAMED, number: int = 0, data: bytes | None = None
    ) -> None:
        self.path = path
        self.how = how
        self.number = number
        self.data = data

    def __reduce__(self) -> tuple[type[Item], tuple[str, str, int, bytes | None]]:
        """Tell how to make it in another process, which many are."""
        return Item, (self.path, self.how, self.number, self.data)

    def read(self) -> bytes | None:
        """Return the content, None for what was found and is no certificate. Raises OSError.

        At most one byte more than a certificate may have, so that the reader sees the excess.
        """
        if self.data is not None:
            return self.data
        if self.how == CLOSED:
            raise OSError(self.number, os.strerror(self.number))
        return read_named(self.path) if self.how == NAMED else _read_found(self.path)


def read_named(path: str) -> bytes:
    """Read a file that somebody named, as ``Item.read``; what is no regular file is an error."""
    fd = os.open(path, FLAGS)
    try:
        size = _size(fd)
        if size is None:
            raise OSError(errno.EINVAL, "it is not a regular file")
        return _read(fd, size)
    finally:
        os.close(fd)


def _read_found(path: str) -> bytes | None:
    """Read a file of a directory: links are not followed, and most files are no certificates."""
    try:
        fd = os.open(path, FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in NOT_A_CERTIFICATE:
            return None
        raise
    try:
        size = _size(fd)
        if size is None:
            return None
        if size > MAX_SIZE and os.pread(fd, len(PREFIX), 0) != PREFIX:
            return None  # most binaries: not worth 64 KiB
        data = _read(fd, size)
        return data if data.startswith(PREFIX) else None
    finally:
        os.close(fd)


def _size(fd: int) -> int | None:
    info = os.fstat(fd)
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def _read(fd: int, size: int) -> bytes:
    """Read to the end, which may have moved since ``size`` was its place."""
    wanted = min(size, MAX_SIZE) + 1
    data = os.read(fd, wanted)
    while len(data) <= MAX_SIZE:
        more = os.read(fd, MAX_SIZE + 1 - len(data))
        if not more:
            break
        data += more
    return data


def expand(paths: Iterable[str]) -> Iterator[Item]:
    """Replace directories by the files in them and below, in the order of their names.

    Files come before the directories beside them. Links are not followed, so there is no loop; a
    directory that cannot be listed is an item of its own, as certificates may be in there. One
    directory's names are in memory at a time, and those of the directories above it.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _below(path)
        else:
            yield Item(path)


def _below(top: str) -> Iterator[Item]:
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        files, below = [], []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
        except OSError as error:
            yield Item(directory, CLOSED, error.errno or errno.EIO)
        for name in sorted(files):
            yield Item(os.path.join(directory, name), FOUND)
        waiting += [os.path.join(directory, name) for name in sorted(below, reverse=True)]
