"""The mounts that names lead through here, and what a descriptor's mount says of it.

A real path tells which object is meant only where everybody's mounts are ours. A descriptor or a
magic link can lead into another mount namespace, in which whoever made it mounts any directory on
any name: there /tmp/x may be /etc/shadow. The kernel's word on a descriptor is the id of its mount.

Source: proc_pid_mountinfo(5), statx(2).
"""

from __future__ import annotations

import _thread
import errno
import os
import select
import stat

from certexec.kernel.filesystem import NO_MAGICLINKS, identify, mount_and_mode, openat2
from certexec.kernel.procfs import own_fd, proc
from certexec.run.step import OPEN_PATH

_CHUNK = 1 << 16
_WALKS = 8
"""descriptors after which the table is read: until then to walk to their places takes less."""
_AT_FDCWD = -100
_STRAIGHT = NO_MAGICLINKS | 0x04 | 0x20
"""And no links, and nothing that anybody would have to be waited for (RESOLVE_CACHED)."""
_NULL_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
_PTS_MAJORS = range(136, 144)
_ESCAPED = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def spot(fd: int) -> tuple[object, ...]:
    """Tell an object apart by where it is seen: device, inode and mount. Raises OSError."""
    found = identify(fd)
    return found.device, found.inode, found.mount


class Mount:
    """One mount of ours: ``root`` is the path in its file system that stands at ``point``."""

    __slots__ = ("point", "root")

    def __init__(self, root: bytes, point: bytes) -> None:
        self.root = root
        self.point = point


class Mounts:
    """This process's mount table, read when it is needed and whenever it has changed."""

    __slots__ = ("_fd", "_lock", "_poll", "_table", "_walks")

    def __init__(self) -> None:
        """Raises OSError."""
        self._fd = os.open(proc("self", "mountinfo"), os.O_RDONLY | os.O_CLOEXEC)
        self._lock = _thread.allocate_lock()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)
        self._table: dict[int, bytes] | None = None
        self._walks = 0

    def of(self, fd: int) -> Mount | None:
        """Return the mount that an open file was reached by; None when it is none of ours.

        Raises OSError when the table cannot be read.
        """
        line = self._of_number(mount_and_mode(fd)[0])
        if line is None:
            return None
        words = line.split(b" ")
        return Mount(_unescape(words[3]), _unescape(words[4]))

    def _of_number(self, number: int | None) -> bytes | None:
        """Return what the table says of a mount, None where it is none of ours."""
        with self._lock:  # ids are used again: nobody may look at a table that is out of date
            if self._poll.poll(0) or self._table is None:
                self._table = self._read()
            return None if number is None else self._table.get(number)

    def stay_home(self, fd: int) -> int:
        """Return an open file's st_mode; raise PermissionError where it is in another namespace.

        A walk that begins at home stays there, so this is asked of what did not come from a walk:
        of bases, and of what magic links lead to.
        """
        number, mode = mount_and_mode(fd)
        if self._table is None and number is not None and self._is_reached(fd, number):
            return mode
        if self._of_number(number) is not None:
            return mode
        if not os.readlink(own_fd(fd)).startswith("/"):
            return mode  # a pipe, a socket: it has no name anywhere
        info = os.fstat(fd)
        if info.st_nlink == 0 and not stat.S_ISDIR(info.st_mode):
            return mode  # no name any more, or never one: a memory file
        if stat.S_ISCHR(info.st_mode) and _is_harmless(info.st_rdev):
            return mode  # a standard descriptor that was opened before the namespace was made
        raise PermissionError(errno.EACCES, "in another mount namespace")

    def _is_reached(self, fd: int, number: int) -> bool:
        """Tell whether a walk of ours to the name of ``fd`` comes to the same mount.

        Then it is ours: no two mounts that are open have the same number. False: it may still be.
        """
        self._walks += 1
        if self._walks > _WALKS:
            return False
        try:
            name = os.fsencode(os.readlink(own_fd(fd)))
            there = openat2(_AT_FDCWD, name, OPEN_PATH, _STRAIGHT)
        except OSError:
            return False  # not in the kernel's memory, or under another name here
        try:
            return name.startswith(b"/") and mount_and_mode(there)[0] == number
        finally:
            os.close(there)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)

    def _read(self) -> dict[int, bytes]:
        """Return each mount's line; most are only asked whether they are there.

        A name may hold what ends a line elsewhere (a carriage return), which is not escaped.
        """
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = b""
        while chunk := os.read(self._fd, _CHUNK):
            text += chunk
        return {int(line[: line.index(b" ")]): line for line in text.split(b"\n") if line}


def _is_harmless(device: int) -> bool:
    """Tell whether a device is the same whatever it is called: the null kind, or a terminal."""
    return device in _NULL_DEVICES or os.major(device) in _PTS_MAJORS


def _unescape(word: bytes) -> bytes:
    if b"\\" in word:
        for escaped, plain in _ESCAPED:
            word = word.replace(escaped, plain)
    return word
