"""The mounts that names lead through here, and what a descriptor's mount says of it.

A real path tells which object is meant only where everybody's mounts are ours. A descriptor or a
magic link can lead into another mount namespace, in which whoever made it mounts any directory on
any name: there /tmp/x may be /etc/shadow. The kernel's word on a descriptor is the id of its mount.

Source: proc_pid_mountinfo(5), statx(2).
"""

from __future__ import annotations

import _thread
import os
import select

from certexec.kernel.filesystem import identify

MOUNTINFO = "/proc/self/mountinfo"
_CHUNK = 1 << 16
_ESCAPED = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


class Mount:
    """One mount of ours: ``root`` is the path in its file system that stands at ``point``."""

    __slots__ = ("point", "root")

    def __init__(self, root: bytes, point: bytes) -> None:
        self.root = root
        self.point = point


class Mounts:
    """This process's mount table, read anew whenever it has changed."""

    __slots__ = ("_fd", "_lock", "_poll", "_table")

    def __init__(self) -> None:
        """Read the table. Raises OSError."""
        self._fd = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        self._lock = _thread.allocate_lock()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)
        self._table = self._read()

    def of(self, fd: int) -> Mount | None:
        """Return the mount that an open file was reached by; None when it is none of ours.

        Raises OSError when the table cannot be read.
        """
        number = identify(fd).mount
        with self._lock:  # ids are used again: nobody may look at a table that is out of date
            if self._poll.poll(0):
                self._table = self._read()
            return None if number is None else self._table.get(number)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)

    def _read(self) -> dict[int, Mount]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = b""
        while chunk := os.read(self._fd, _CHUNK):
            text += chunk
        table = {}
        for line in text.splitlines():
            words = line.split(b" ")
            table[int(words[0])] = Mount(_unescape(words[3]), _unescape(words[4]))
        return table


def _unescape(word: bytes) -> bytes:
    if b"\\" in word:
        for escaped, plain in _ESCAPED:
            word = word.replace(escaped, plain)
    return word
