"""Who could have written this: ownership, mode and ACL of a file and of every directory above it.

A path is walked from "/" with one openat(2) per component (O_NOFOLLOW, so no symbolic link is
followed on the way), and each object is judged on the descriptor that is then used for the next
step: what was judged is what is opened. A directory that somebody else may write is refused even
with the sticky bit set, since others could still put new names into it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from certexec.errors import TrustError
from certexec.kernel.procfs import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

ROOT_ONLY = frozenset({0})
"""The owners that a file of the run path may have."""
_ALL_UIDS = 2**32 - 1
"""How many uids the identity map of the initial user namespace covers."""
ACL_XATTR = "system.posix_acl_access"
_ACL_HEADER = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")  # tag, permission bits, id (linux/posix_acl_xattr.h)
_ACL_VERSION = 2
_ACL_USER_OBJ = 0x01
_ACL_USER = 0x02
_ACL_GROUP_OBJ = 0x04
_ACL_GROUP = 0x08
_ACL_MASK = 0x10
_ACL_OTHER = 0x20
_ACL_WRITE = 0x02
_NO_ACL = (errno.ENODATA, errno.EOPNOTSUPP)
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def root_owners() -> frozenset[int]:
    """Return the owners that count as root for this process's user namespace.

    In the initial namespace that is uid 0. In any other one it is that namespace's uid 0, and the
    overflow uid under which files of outside owners appear (user_namespaces(7)): nobody inside can
    write as one of them. The overflow uid does not count where it is also somebody inside.
    """
    try:
        ranges = [line.split() for line in read_file("/proc/self/uid_map").splitlines()]
        if any(int(count) == _ALL_UIDS and inside == outside for inside, outside, count in ranges):
            return ROOT_ONLY
        overflow = int(read_file("/proc/sys/fs/overflowuid"))
    except (OSError, ValueError):
        return ROOT_ONLY
    for inside, _, count in ranges:
        if int(inside) <= overflow < int(inside) + int(count):
            return ROOT_ONLY
    return ROOT_ONLY | {overflow}


def acl_lets_others_write(acl: bytes, owner_ok: Collection[int] = ROOT_ONLY) -> bool:
    """Tell whether a POSIX ACL, as its extended attribute holds it, lets anybody else write.

    Anybody else is a named user outside ``owner_ok``, any group, or the others. The mask limits
    what named users and groups get (acl(5)). An attribute that cannot be understood counts as
    writable.
    """
    if len(acl) < _ACL_HEADER.size or (len(acl) - _ACL_HEADER.size) % _ACL_ENTRY.size:
        return True
    if _ACL_HEADER.unpack_from(acl)[0] != _ACL_VERSION:
        return True
    entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_HEADER.size :]))
    mask = _ACL_WRITE
    for tag, permissions, _ in entries:
        if tag == _ACL_MASK:
            mask = permissions & _ACL_WRITE
    for tag, permissions, number in entries:
        if not permissions & _ACL_WRITE or tag in (_ACL_USER_OBJ, _ACL_MASK):
            continue
        if tag == _ACL_OTHER:
            return True
        if tag == _ACL_USER and number in owner_ok:
            continue
        if tag not in (_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP) or mask:
            return True
    return False


def _read_acl(fd: int) -> bytes:
    try:
        # by name in /proc, because fgetxattr(2) refuses a descriptor opened with O_PATH
        return os.getxattr(f"/proc/self/fd/{fd}", ACL_XATTR)
    except OSError as error:
        if error.errno in _NO_ACL:
            return b""
        raise


def check_object(
    fd: int, shown: str, owner_ok: Collection[int] = ROOT_ONLY, *, sticky_ok: bool = False
) -> os.stat_result:
    """Judge one open file or directory and return its fstat(2) result.

    ``sticky_ok``: a directory that others may write is good enough when its sticky bit is set:
    what stands in it and belongs to an acceptable owner cannot be exchanged by others. Raises
    TrustError("trust-unsafe") when its owner is not in ``owner_ok``, or anybody else may write
    it, by mode or by ACL. ``shown`` is its path in messages.
    """
    status = os.fstat(fd)
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    if status.st_uid not in owner_ok:
        raise TrustError(
            "trust-unsafe",
            f'{kind} "{shown}" belongs to uid {status.st_uid}',
            f'it must belong to root: "chown root {shown}"',
        )
    try:
        acl = _read_acl(fd)
    except OSError as error:
        raise TrustError(
            "trust-unsafe", f'the ACL of "{shown}" cannot be read: {error.strerror}'
        ) from None
    if acl and acl_lets_others_write(acl, owner_ok):
        raise TrustError(
            "trust-unsafe",
            f'an ACL lets others write {kind} "{shown}"',
            f'remove it with "setfacl -b {shown}"',
        )
    if sticky_ok and kind == "directory" and status.st_mode & stat.S_ISVTX:
        return status
    if status.st_mode & _WRITABLE:
        who = "everybody" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
        hint = f'take that away with "chmod go-w {shown}"'
        if status.st_mode & stat.S_ISVTX:  # shared on purpose: /tmp must stay as it is
            hint = "use a place that nobody else can write to"
        raise TrustError("trust-unsafe", f'{kind} "{shown}" can be written by {who}', hint)
    return status


def _open_at(name: str, flags: int, parent: int | None, shown: str) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            reason = "it is a symbolic link or not a directory"
            raise TrustError("trust-unsafe", f'"{shown}" is not followed: {reason}') from None
        raise TrustError("unreadable", f'cannot open "{shown}": {error.strerror}') from None


def _components(path: str) -> list[str]:
    parts = path.split("/")
    if not path or parts[0] or "\0" in path or "." in parts or ".." in parts:
        raise TrustError("trust-unsafe", f'"{path}" is not an absolute path without "." and ".."')
    return [part for part in parts if part]


class PersonalOwners(frozenset[int]):
    """The acceptable owners of somebody's own store, which grants nothing.

    Directories such as /tmp may stand on the way to it, but not at its end: what belongs to an
    acceptable owner in a sticky directory cannot be exchanged by others.
    """


def check_chain(path: str, owner_ok: Collection[int] = ROOT_ONLY) -> int:
    """Judge the directory ``path`` and every directory above it; return it opened for reading.

    The caller closes the descriptor (O_RDONLY | O_DIRECTORY | O_CLOEXEC). Root is always an
    acceptable owner of the directories above; of ``path`` itself and above, so is every uid in
    ``owner_ok`` (see PersonalOwners for sticky directories). Raises TrustError: "trust-unsafe",
    or "unreadable" where one is missing.
    """
    owners = frozenset(owner_ok) | ROOT_ONLY
    sticky_ok = isinstance(owner_ok, PersonalOwners)
    parts = _components(path)
    shown = "/"
    # 1. "/" itself; O_PATH, because searching a directory does not need the right to list it
    last = os.O_RDONLY | os.O_DIRECTORY
    fd = _open_at("/", os.O_PATH | os.O_DIRECTORY if parts else last, None, "/")
    try:
        check_object(fd, shown, owners)
        # 2. one component at a time, each opened in the directory that was just judged
        for index, part in enumerate(parts):
            shown = "/" + "/".join(parts[: index + 1])
            final = index == len(parts) - 1
            below = _open_at(part, last if final else os.O_PATH | os.O_DIRECTORY, fd, shown)
            os.close(fd)
            fd = below
            check_object(fd, shown, owners, sticky_ok=sticky_ok and not final)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_file(path: str, owner_ok: Collection[int] = ROOT_ONLY) -> int:
    """Judge the regular file ``path`` and every directory above it; return it opened for reading.

    The caller closes the descriptor. Raises TrustError as ``check_chain`` does, and
    "trust-unsafe" for anything that is not a regular file.
    """
    owners = frozenset(owner_ok) | ROOT_ONLY
    directory, _, name = path.rpartition("/")
    if not name:
        raise TrustError("trust-unsafe", f'"{path}" does not name a file')
    parent = check_chain(directory or "/", owners)
    try:
        fd = _open_at(name, os.O_RDONLY | os.O_NONBLOCK, parent, path)
    finally:
        os.close(parent)
    try:
        if not stat.S_ISREG(check_object(fd, path, owners).st_mode):
            raise TrustError("trust-unsafe", f'"{path}" is not a regular file')
    except BaseException:
        os.close(fd)
        raise
    return fd
