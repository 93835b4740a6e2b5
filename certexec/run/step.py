"""One step of a walk along a name: a component, a symbolic link, a magic link.

Each does what the kernel would do for the thread whose rights are taken, and checks what it would
check there.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel.filesystem import NO_MAGICLINKS, openat2
from certexec.kernel.procfs import proc, read_file
from certexec.run.proc_place import is_procfs

OPEN_PATH = os.O_PATH | os.O_CLOEXEC
_STICKY_FOR_ALL = stat.S_ISVTX | stat.S_IWOTH
_ST_NOSYMFOLLOW = 0x2000


def step(current: int, name: bytes) -> int:
    """Open one component (O_PATH); "..", like the kernel's, stops at the root."""
    if name == b".." and os.path.samestat(os.fstat(current), os.stat("/")):
        return os.dup(current)
    return os.open(name, OPEN_PATH | os.O_NOFOLLOW, dir_fd=current)


def jump(current: int, name: bytes) -> int:
    """Follow a magic link (/proc/PID/fd/N, exe, cwd, root, ns); -1 when it is a plain one."""
    if not is_procfs(current):
        return -1
    try:
        os.close(openat2(current, name, OPEN_PATH, NO_MAGICLINKS))
    except OSError as error:
        if error.errno == errno.ELOOP:
            return os.open(name, OPEN_PATH, dir_fd=current)
    return -1


def follow_link(directory: int, link: int) -> bytes:
    """Return the target of a symbolic link, given as O_PATH descriptors of its directory and it.

    Raises OSError where the kernel would not follow it: on mounts without symbolic links (ELOOP),
    and somebody else's in a sticky directory that all may write to (EACCES, proc_sys_fs(5),
    protected_symlinks).
    """
    if os.fstatvfs(directory).f_flag & _ST_NOSYMFOLLOW:
        raise OSError(errno.ELOOP, "a mount without symbolic links")
    around = os.fstat(directory)
    if around.st_mode & _STICKY_FOR_ALL == _STICKY_FOR_ALL:
        owner = os.fstat(link).st_uid
        if owner not in (os.geteuid(), around.st_uid) and _symlinks_are_protected():
            raise PermissionError(errno.EACCES, "somebody else's symbolic link")
    return os.readlink(b"", dir_fd=link)


def _symlinks_are_protected() -> bool:
    try:
        return read_file(proc("sys", "fs", "protected_symlinks")).strip() != b"0"
    except OSError:
        return True


def dangling(parent: int, name: bytes) -> bytes | None:
    """Return the target when ``name`` is a symbolic link; raises OSError as ``follow_link``."""
    try:
        link = os.open(name, OPEN_PATH | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        return None
    try:
        return follow_link(parent, link) if stat.S_ISLNK(os.fstat(link).st_mode) else None
    finally:
        os.close(link)
