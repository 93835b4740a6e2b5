"""Which namespaces a caller shares with its supervisor, and what hangs on them when it is opened.

Most files are the same to all who name them. Settings of the network and of System V IPC in
/proc/sys, the objects of IPC in /proc/sysvipc and tunnels are those of the thread that opens them,
and in control groups the root of its namespace bounds what may be changed: by its supervisor a
program in namespaces of its own would get at the machine's.
"""

from __future__ import annotations

import os
import stat

from certexec.kernel.filesystem import type_number
from certexec.kernel.procfs import own_link, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.mounts import Mounts
    from certexec.run.task import Task

SHOWN = ("pid", "net", "ipc", "cgroup")
"""The namespaces that file systems show, besides those that a program can be at home in."""
_TUN = os.makedev(10, 200)
_NO_DEVICE = 0
"""The major number of file systems that are on no block device."""
_PROC, _CGROUPS = 0x9FA0, frozenset((0x63677270, 0x27E0EB))
"""Magic numbers of statfs(2): proc, cgroup2 and cgroup."""
_SETTINGS = "/sys/"
_SHOWN_IN_PROC = (
    "/sysvipc", "/sys/net", "/sys/fs/mqueue", "/sys/kernel/shm", "/sys/kernel/msg",
    "/sys/kernel/sem",
)  # fmt: skip
"""What begins so in a proc file system is of a namespace; of the other settings only few are."""


def shares_namespaces(task: Task) -> bool:
    """Tell whether a thread is in the same ones of SHOWN as this process. Raises OSError."""
    return all(
        os.path.samestat(
            task.touch(os.stat, proc(task.tid, "ns", name)), os.stat(proc("self", "ns", name))
        )
        for name in SHOWN
    )


def hangs_on_namespaces(
    fd: int, info: os.stat_result, mounts: Mounts, writes: bool
) -> bool:
    """Tell whether what an open of ``fd``, an O_PATH descriptor, gets is of who opens it.

    ``info``: what fstat(2) says of it. Raises OSError when it cannot be told.
    """
    if stat.S_ISCHR(info.st_mode):
        return info.st_rdev == _TUN
    if info.st_size or os.major(info.st_dev) != _NO_DEVICE:  # nothing in either has a size
        return False
    kind = type_number(fd)
    if kind != _PROC:
        return writes and kind in _CGROUPS
    mount = mounts.of(fd)
    if mount is None:
        return True
    point = os.fsdecode(mount.point.rstrip(b"/"))
    inside = os.fsdecode(mount.root.rstrip(b"/")) + own_link(fd)[len(point) :]
    return inside.startswith(_SHOWN_IN_PROC) or (writes and inside.startswith(_SETTINGS))
