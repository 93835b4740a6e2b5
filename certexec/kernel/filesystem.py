"""What file system a file is on, what identifies the file, and what exec protects there.

Sources: statfs(2), statx(2), linux/magic.h, linux/stat.h.
"""

from __future__ import annotations

import struct

from certexec.errors import KernelError
from certexec.kernel.libc import syscall

NAMES: dict[int, str] = {
    0xEF53: "ext4",  # ext2 and ext3 have the same number
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs",
    0x65735546: "fuse",
    0x6969: "nfs",
    0xFE534D42: "smb2",
    0xFF534D42: "cifs",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x2FC12FC1: "zfs",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x28CD3D45: "cramfs",
    0x9660: "iso9660",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x7366746E: "ntfs3",
    0x858458F6: "ramfs",
    0x958458F6: "hugetlbfs",
    0xF15F: "ecryptfs",
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x1CD1: "devpts",
    0x42494E4D: "binfmt_misc",
    0x73636673: "securityfs",
    0x6E736673: "nsfs",
    0x50494446: "pidfs",
    0x09041934: "anon_inodefs",
    0x50495045: "pipefs",
    0x534F434B: "sockfs",
}

STATFS_SIZE = 120
"""bytes; sizeof(struct statfs) on x86-64, f_type comes first."""
_FSID_AT = 56
"""f_fsid in it: behind f_type, f_bsize and five counts."""

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_STATX_DONT_SYNC = 0x4000
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000
_MOUNTS = STATX_MNT_ID | STATX_MNT_ID_UNIQUE
STATX_SIZE = 256
"""bytes; sizeof(struct statx)."""

_OPENAT2 = 437
_HOW = struct.Struct("=QQQ")
NO_XDEV = 0x01
"""RESOLVE_NO_XDEV: cross no mount."""
NO_MAGICLINKS = 0x02
"""RESOLVE_NO_MAGICLINKS: jump to no object of a process's."""

_STATX = struct.Struct("<IIQIIIHHQQQQ" + "qIi" * 4 + "IIIIQ")
_MOUNT_AND_MODE = struct.Struct("<I24xH114xQ")
"""stx_mask, stx_mode and stx_mnt_id."""
_STATX_CALL = 332
_FSTATFS_CALL = 138

WRITE_DENYING = frozenset(("ext4", "xfs", "btrfs", "tmpfs"))
"""Where an executed file cannot be opened for writing. Not overlayfs: a writer gets the upper
layer's inode, exec denies on the overlay's (measured, Linux 6.18)."""

UNDENIED_RELEASES = ((6, 11, 0, 10), (6, 12, 0, 1))
"""(major, minor, first, last patch level) without the denial: Linux commit 2a010c412853 dropped
it in 6.11, 3b832035387f restored it, backported to 6.11.11 and 6.12.2."""


class FileIdentity:
    """What tells one state of one file from every other: statx(2) through a descriptor.

    Attributes:
        device: (major, minor) of the file system.
        inode, size: numbers; size in bytes.
        mode, uid, gid, links: as in stat(2).
        birth, changed, modified: nanoseconds since 1970; birth is None where the file system
            does not record it. An inode number that was reused has another birth.
        mount: the mount's id, None before Linux 5.8. It says by which way the file was reached,
            so it is not part of ``key``.
        attributes: STATX_ATTR_* bits that are set.
        complete: the file system told all that stat(2) has; what it did not tell is 0.
    """

    __slots__ = (
        "attributes", "birth", "changed", "complete", "device", "gid", "inode", "links", "mode",
        "modified", "mount", "size", "uid",
    )  # fmt: skip

    def __init__(self, record: bytes | bytearray) -> None:
        (
            mask, _, self.attributes, self.links, self.uid, self.gid, self.mode, _,
            self.inode, self.size, _, _,
            _, _, _,
            birth, birth_ns, _,
            changed, changed_ns, _,
            modified, modified_ns, _,
            _, _, major, minor, mount,
        ) = _STATX.unpack_from(record)  # fmt: skip
        self.device: tuple[int, int] = (major, minor)
        self.birth: int | None = birth * 10**9 + birth_ns if mask & STATX_BTIME else None
        self.changed: int = changed * 10**9 + changed_ns
        self.modified: int = modified * 10**9 + modified_ns
        self.complete = mask & STATX_BASIC_STATS == STATX_BASIC_STATS
        self.mount: int | None = mount if mask & _MOUNTS else None

    def key(self) -> tuple[object, ...]:
        """Return what must be equal for the file to be the same one, unchanged."""
        return (
            self.device, self.inode, self.birth, self.size, self.modified, self.changed,
            self.mode, self.uid, self.gid,
        )  # fmt: skip

    def same_file(self, other: FileIdentity) -> bool:
        """Tell whether both are the same inode, whatever happened to its content."""
        return (self.device, self.inode, self.birth) == (other.device, other.inode, other.birth)


def identify(
    fd: int, path: bytes = b"", *, follow: bool = True, unique_mount: bool = False,
    patient: bool = True,
) -> FileIdentity:  # fmt: skip
    """Return the identity of an open file, or of ``path`` relative to the directory ``fd``.

    ``unique_mount``: a number of the mount that is never used again until the next boot, where
    the kernel has such (Linux 6.8). ``patient``: False does not wait for a file system in user
    space or on the network to answer; then only device, inode and mount are to be relied on.
    Raises OSError (statx(2)).
    """
    buffer = bytearray(STATX_SIZE)
    flags = (0 if path else AT_EMPTY_PATH) | (0 if follow else AT_SYMLINK_NOFOLLOW)
    flags |= 0 if patient else AT_STATX_DONT_SYNC
    mask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID
    if unique_mount:
        mask |= STATX_MNT_ID_UNIQUE
    syscall(_STATX_CALL, fd, path, flags, mask, buffer)
    return FileIdentity(buffer)


def mount_and_mode(fd: int) -> tuple[int | None, int]:
    """Return the id of the mount that an open file was reached by, and the file's st_mode.

    The id is None before Linux 5.8. Raises OSError (statx(2)).
    """
    buffer = bytearray(STATX_SIZE)
    syscall(_STATX_CALL, fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, buffer)
    mask, mode, mount = _MOUNT_AND_MODE.unpack_from(buffer)
    return mount if mask & STATX_MNT_ID else None, mode


def openat2(dirfd: int, path: bytes, flags: int, resolve: int) -> int:
    """Open with RESOLVE_* restrictions (openat2(2)); raises OSError."""
    return syscall(_OPENAT2, dirfd, path, _HOW.pack(flags, 0, resolve), _HOW.size)


def type_number(fd: int) -> int:
    """Return the magic number of the file system that an open file is on; raises KernelError."""
    # struct statfs keeps the number in a long; only 32 bits are in use.
    return int.from_bytes(_statfs(fd)[:4], "little")


def _statfs(fd: int) -> bytearray:
    buffer = bytearray(STATFS_SIZE)
    try:
        syscall(_FSTATFS_CALL, fd, buffer)
    except OSError as error:
        raise KernelError(
            "kernel-unsupported", f"cannot tell a file's file system: {error.strerror}"
        ) from None
    return buffer


def number_of_file_system(fd: int) -> int:
    """Return what statfs(2) calls f_fsid: made from the UUID, or the device where there is none.

    Raises KernelError.
    """
    return int.from_bytes(_statfs(fd)[_FSID_AT : _FSID_AT + 8], "little")


def type_name(fd: int) -> str:
    """Return the file system's name, or its number as 0x... where the table has none."""
    number = type_number(fd)
    return NAMES.get(number, f"{number:#x}")


def parse_release(release: str) -> tuple[int, int, int] | None:
    """Return (major, minor, patch level) of a kernel release such as ``6.12.1-2-amd64``.

    A missing patch level counts as 0 ("6.12-rc3"). None when it does not start with two numbers.
    """
    numbers: list[int] = []
    for piece in release.split(".", 2):
        digits = piece[: len(piece) - len(piece.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != piece:
            break
    if len(numbers) < 2:
        return None
    return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0


def exec_write_denied(fd: int, release: str) -> bool:
    """Tell whether the kernel keeps writers away from this file while it is executed.

    Only then may a binary be hashed at the exec stop, in place: nobody can change it between the
    hash and its exit. Distributions that number their kernels 6.11.0-N are taken for affected.
    A file under a fanotify pre-content watch, which only root can set, is not protected either.

    Args:
        fd: the binary.
        release: ``os.uname().release``.
    """
    version = parse_release(release)
    if version is None:
        return False
    for major, minor, first, last in UNDENIED_RELEASES:
        if version[:2] == (major, minor) and first <= version[2] <= last:
            return False
    return type_name(fd) in WRITE_DENYING
