"""Structures of the 32-bit ABI (i386) that differ from those of x86-64: one made into the other.

Results are those of the kernel's own conversions, errors too: what does not fit answers EOVERFLOW.

Sources: fs/stat.c (cp_compat_stat), arch/x86/kernel/sys_ia32.c (cp_stat64), fs/statfs.c,
fs/utimes.c, net/compat.c; asm/compat.h.
"""

from __future__ import annotations

import errno
import struct

from certexec.kernel.procfs import read_file
from certexec.run.call import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STAT = struct.Struct("=QQQIII4xQqqq6q")
"""x86-64's struct stat: dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, times."""
_STAT_32 = struct.Struct("=IIHHHHIIII6I8x")
_STAT_64 = struct.Struct("=Q4xIIIIIQ4xqIq6IQ")
"""struct stat64 of i386, which is packed: st_ino stands in it twice."""
_STATFS = struct.Struct("=qqQQQQQ8sqqq")
_STATFS_32 = struct.Struct("=7I8s3I16x")
_STATFS_64 = struct.Struct("=2I5Q8s3I16x")
_WORD = 0xFFFFFFFF
_UNKNOWN = (1 << 64) - 1
_NON_LFS_MAX = 0x7FFFFFFF
"""bytes of the largest file that struct stat can tell of (MAX_NON_LFS)."""
_ID_MAX = 0xFFFF
_OVERFLOW_UID, _OVERFLOW_GID = "/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid"
_TIMES = struct.Struct("=4i")
_WIDE_TIMES = struct.Struct("=qQqQ")
TIMES = struct.Struct("=4q")
_SECONDS = struct.Struct("=2i")
HEADER = struct.Struct("=IiIIIII")
"""struct msghdr: name and its size, pieces and how many, control and its size, flags."""
MMSG_SIZE = 32
"""bytes of struct mmsghdr."""
PIECE = struct.Struct("=II")
"""struct iovec."""
_CONTROL = struct.Struct("=Iii")
"""struct cmsghdr: length with this header, level, type."""
_CONTROL_ALIGNED = 4

OLD_STAT = frozenset(("stat", "lstat"))
"""The calls (of i386) that fill the older of the two structures."""


def stat_of(name: str, native: bytes) -> bytes:
    """Return x86-64's struct stat as the 32-bit call ``name`` fills it in.

    Raises Fault(EOVERFLOW).
    """
    fields = _STAT.unpack_from(native)
    dev, ino, links, mode, uid, gid, rdev, size, block, blocks = fields[:10]
    times = [one & _WORD for one in fields[10:]]
    if name not in OLD_STAT:
        return _STAT_64.pack(
            dev, ino & _WORD, mode, links & _WORD, uid, gid, rdev, size, block & _WORD, blocks,
            *times, ino,
        )  # fmt: skip
    if ino > _WORD or links > _ID_MAX or not 0 <= size <= _NON_LFS_MAX:
        raise Fault(errno.EOVERFLOW)
    return _STAT_32.pack(
        dev & _WORD, ino, mode, links, _old_id(uid, _OVERFLOW_UID), _old_id(gid, _OVERFLOW_GID),
        rdev & _WORD, size, block & _WORD, blocks & _WORD, *times,
    )  # fmt: skip


def _old_id(number: int, overflow: str) -> int:
    return number if number <= _ID_MAX else int(read_file(overflow)) & _ID_MAX


def statfs_of(name: str, native: bytes) -> bytes:
    """Return x86-64's struct statfs as the 32-bit call ``name`` fills it in.

    Raises Fault(EOVERFLOW).
    """
    kind, size, *counts, fsid, longest, fragment, flags = _STATFS.unpack_from(native)
    if (size | fragment) >> 32:
        raise Fault(errno.EOVERFLOW)
    plain = (longest & _WORD, fragment, flags & _WORD)
    if name == "statfs64":
        return _STATFS_64.pack(kind & _WORD, size, *counts, fsid, *plain)
    if any(count >> 32 for count in counts[:3]) or any(
        count >> 32 and count != _UNKNOWN for count in counts[3:]
    ):
        raise Fault(errno.EOVERFLOW)
    return _STATFS_32.pack(
        kind & _WORD, size, *(count & _WORD for count in counts), fsid, *plain
    )


def times_size(name: str) -> int:
    """Return how many bytes of times the 32-bit call ``name`` is given."""
    if name == "utime":
        return _SECONDS.size
    return TIMES.size if name == "utimensat_time64" else _TIMES.size


def times_of(name: str, given: bytes) -> Sequence[int]:
    """Return the two seconds and parts of a second that the 32-bit call ``name`` was given."""
    if name == "utime":
        accessed, modified = _SECONDS.unpack(given)
        return accessed, 0, modified, 0
    if name == "utimensat_time64":
        accessed, access_part, modified, modify_part = _WIDE_TIMES.unpack(given)
        return accessed, access_part & _WORD, modified, modify_part & _WORD
    return _TIMES.unpack(given)


def control_items(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return (level, type, data) of each 32-bit control message. Raises Fault(EINVAL)."""
    items: list[tuple[int, int, bytes]] = []
    at = 0
    while len(data) - at >= _CONTROL.size:
        length, level, kind = _CONTROL.unpack_from(data, at)
        if not _CONTROL.size <= length <= len(data) - at:
            raise Fault(errno.EINVAL)
        items.append((level, kind, data[at + _CONTROL.size : at + length]))
        at += length + -length % _CONTROL_ALIGNED
    if not items:
        raise Fault(errno.EINVAL)
    return items
