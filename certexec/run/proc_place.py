"""What a descriptor on a proc file system is about: which process, or none.

The text of such a descriptor is not enough: a part of /proc can be mounted elsewhere, and another
instance of it may number processes differently. The mount table tells where in its file system
the descriptor stands.
"""

from __future__ import annotations

import ctypes
import errno
import os

from certexec.kernel.filesystem import NO_XDEV, identify, openat2
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import own_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.mounts import Mounts

_FSTATFS = 138
_STATFS_SIZE = 128
_PROC_SUPER_MAGIC = 0x9FA0
_PROC_ROOT_INODE = 1
_NO_DEVICE = 0
"""The major number of file systems that are on no block device (UNNAMED_MAJOR)."""
_STATUS_HEAD = 4096
"""bytes of /proc/PID/status: the thread group stands in its first lines."""
_PROC = b"/proc"
OWN_PROC = "/proc/self/"
"""How names of the program's own directory in /proc begin, as policies see them."""
_EVERYONES_OWN = ("/fd", "/fdinfo")
_INSIDE = (b"mem", b"fd", b"map_files")
"""In the directory of a process: its memory, and ways to files that have no name."""
SELF_LINKS = (b"self", b"thread-self")
"""Links in the root of a proc file system that lead whoever follows them to himself."""


def is_everyones_own(text: str) -> bool:
    """Tell whether a name in OWN_PROC is open to every program about itself, whatever its mode.

    Where ids differ it is root's (fs/proc/fd.c and proc_tid_comm_permission).
    """
    if not text.startswith(OWN_PROC):
        return False
    return text.endswith(_EVERYONES_OWN) or (text.endswith("/comm") and "/task/" in text)


def is_procfs(fd: int, info: os.stat_result | None = None) -> bool:
    """Tell whether ``fd`` lies on a proc file system (fstatfs(2)).

    ``info``: what fstat(2) says of it. Such a file system is on no block device, so most files
    need no second call.
    """
    if os.major((os.fstat(fd) if info is None else info).st_dev) != _NO_DEVICE:
        return False
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    syscall(_FSTATFS, fd, buffer)
    return int.from_bytes(buffer.raw[:8], "little") == _PROC_SUPER_MAGIC


def is_proc_root(fd: int) -> bool:
    """Tell whether ``fd`` is the root directory of a proc file system, wherever it is mounted."""
    return is_procfs(fd) and os.fstat(fd).st_ino == _PROC_ROOT_INODE


def own_number(root: int) -> bytes:
    """Return our number in the proc file system with this root, b"" where we are not seen."""
    try:
        link = openat2(root, b"self", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, NO_XDEV)
    except FileNotFoundError:
        return b""
    try:
        return os.readlink(b"", dir_fd=link)
    finally:
        os.close(link)


def thread_group(root: int, number: bytes) -> bytes:
    """Return whose thread ``number`` is in the proc file system with this root.

    b"" when nobody's, or when it is hidden from the program, which we never are. Raises OSError
    when something was mounted over it (EXDEV), or it cannot be told.
    """
    try:
        fd = openat2(root, number + b"/status", os.O_RDONLY | os.O_CLOEXEC, NO_XDEV)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        text = os.read(fd, _STATUS_HEAD)
    except OSError:
        return b""  # it ended meanwhile
    finally:
        os.close(fd)
    return text.partition(b"\nTgid:\t")[2].partition(b"\n")[0]


def is_ours(root: int, number: bytes) -> bool:
    """Tell whether ``number`` is a thread of this process, in the instance with this root."""
    own = own_number(root)
    return own != b"" and thread_group(root, number) == own


class ProcPlace:
    """Where a descriptor on a proc file system stands.

    Attributes:
        tgid: the thread group that it is about, in our own numbering; 0 for none.
        rest: what comes below that process's directory, "" or with a leading "/".
        is_main: whether it was reached through the instance on /proc.
        is_inside: whether that process could be changed by it.
    """

    __slots__ = ("is_inside", "is_main", "rest", "tgid")

    def __init__(self, tgid: int, rest: bytes, is_main: bool) -> None:
        self.tgid = tgid
        self.rest = rest
        self.is_main = is_main
        self.is_inside = rest.rpartition(b"/")[2] in _INSIDE


NO_PROCESS = ProcPlace(0, b"", False)


def place_of(fd: int, mounts: Mounts) -> ProcPlace:
    """Return what a descriptor on a proc file system is about.

    Raises PermissionError when that is this process, and OSError when it cannot be told.
    """
    mount = mounts.of(fd)
    path = os.readlink(own_fd(fd).encode())
    if mount is None:
        raise PermissionError(errno.EACCES, "not a mount of ours")
    point = mount.point.rstrip(b"/")
    if path != point and not path.startswith(point + b"/"):
        raise PermissionError(errno.EACCES, "the mount was moved")
    inside = mount.root.rstrip(b"/") + path[len(point) :]
    number, slash, rest = inside[1:].partition(b"/")
    if not number.isdigit():
        return NO_PROCESS
    if mount.root != b"/":
        raise PermissionError(errno.EACCES, "a part of a process's directory, mounted elsewhere")
    root = os.open(mount.point, os.O_PATH | os.O_CLOEXEC)
    try:
        if identify(root).mount != identify(fd).mount:
            raise PermissionError(errno.EACCES, "the mount is covered by another")
        own, group = own_number(root), thread_group(root, number)
    finally:
        os.close(root)
    if own and group == own:
        raise PermissionError(errno.EACCES, "the supervisor's own process")
    same_numbers = own == str(os.getpid()).encode()
    tgid = int(group) if group and same_numbers else 0
    return ProcPlace(tgid, slash + rest, mount.point == _PROC)
