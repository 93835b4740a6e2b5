"""Whether a name leads to its object by symbolic links that only root could have put there.

Rules on UNIX sockets are written against well-known names, some of which are links (/dev/log). Such
a name may stand for what it leads to; a link that the program made itself may not.
"""

from __future__ import annotations

import os
import stat

from certexec.run.proc_place import is_procfs
from certexec.run.resolve import LINKS_MAX
from certexec.run.step import OPEN_PATH, step

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def leads_by_roots_links(
    path: bytes, target: int, for_good: bool = False, owner: int = _ROOT
) -> bool:
    """Tell whether an absolute path leads to the O_PATH descriptor ``target`` by root's links only.

    The walk pins each component as the program would find it: a link counts as root's when root
    owns it and its directory, and nobody else may write to that. ``for_good``: nobody but root and
    ``owner`` could ever make the path lead elsewhere, at any directory on the way.
    """
    current = os.open("/", OPEN_PATH)
    pending = path.split(b"/")[::-1]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if is_procfs(current):
                return False  # its links lead everybody elsewhere
            following = step(current, name)
            try:
                if for_good and not _keeps(os.fstat(current), os.fstat(following), owner):
                    return False
                if not stat.S_ISLNK(os.fstat(following).st_mode):
                    current, following = following, current
                    continue
                links += 1
                if links > LINKS_MAX or not _is_roots(current, following):
                    return False
                to = os.readlink(b"", dir_fd=following)
            finally:
                os.close(following)
            pending.extend(to.split(b"/")[::-1])
            if to.startswith(b"/"):
                os.close(current)
                current = -1
                current = os.open("/", OPEN_PATH)
        return os.path.samestat(os.fstat(current), os.fstat(target))
    except OSError:
        return False
    finally:
        if current >= 0:
            os.close(current)


def _is_roots(directory: int, link: int) -> bool:
    return os.fstat(link).st_uid == _ROOT and _is_roots_alone(os.fstat(directory))


def _is_roots_alone(info: os.stat_result) -> bool:
    """Tell whether nobody but root may change what stands in a directory.

    What an ACL gives others shows in the mode of the group.
    """
    return info.st_uid == _ROOT and not info.st_mode & _OTHERS_WRITE


def _keeps(directory: os.stat_result, entry: os.stat_result, owner: int) -> bool:
    """Tell whether nobody but root and ``owner`` may put something else in the place of an entry.

    In a directory with the sticky bit its owner, the entry's and root may (unlink(2), rename(2)).
    """
    ours = (_ROOT, owner)
    if directory.st_uid not in ours:
        return False
    if not directory.st_mode & _OTHERS_WRITE:
        return True
    return bool(directory.st_mode & stat.S_ISVTX) and entry.st_uid in ours
