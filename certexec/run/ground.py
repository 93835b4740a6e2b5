"""Where a file that was judged once is known again by its inode and times.

Only where root alone can change it, or exchange it for another one, and where every change shows.
"""

from __future__ import annotations

import os

from certexec.errors import CertexecError
from certexec.kernel import filesystem
from certexec.kernel.ownership import ROOT_ONLY, check_chain, check_object

HOLDING = frozenset(("ext4", "xfs", "btrfs"))
"""File systems where every write moves the change time. On tmpfs a store through a mapping does
not (measured, Linux 6.18), overlayfs has another inode below, others have other writers."""


def why_not_ground(fd: int, path: str, kinds: frozenset[str] = HOLDING) -> str:
    """Say why others than root can change an open file, or a change would not show; "" if not so.

    Raises OSError and KernelError.
    """
    if filesystem.type_name(fd) not in kinds:
        return f'"{path}" is on a file system where not every change shows'
    if os.fstatvfs(fd).f_flag & os.ST_NOSUID:
        # such a mount may hold what somebody else made, with root as the owner of everything
        return f'"{path}" is on a mount with nosuid, which others may have filled'
    try:
        check_object(fd, path, ROOT_ONLY)
    except CertexecError as error:
        return error.message
    return ""


def why_not_standing(fd: int, path: str) -> str:
    """Say why an open program cannot be known by its inode and times; "" where it can.

    Raises OSError and KernelError.
    """
    why = why_not_ground(fd, path)
    if why:
        return why
    try:
        os.close(check_chain(os.path.dirname(path), ROOT_ONLY))
    except CertexecError as error:
        return error.message
    return ""
