"""fork(2) into another control group, without moving anybody: clone3(2) with CLONE_INTO_CGROUP.

To move a process afterwards stops all forks and exits of the machine for a moment, milliseconds
long (cgroup_threadgroup_rwsem).
"""

from __future__ import annotations

import ctypes
import os
import struct

_CLONE3 = 435
_INTO_CGROUP = 0x200000000
_ARGUMENTS = struct.Struct("=11Q")
"""struct clone_args: flags, pidfd, two ids' places, exit signal, stack and its size, tls, set_tid
and its size, cgroup."""
_SIGCHLD = 17
UNIFIED = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where the one hierarchy of version 2 is mounted, alone or beside those of version 1."""


def open_cgroup(path: str) -> int:
    """Open the directory of a control group of version 2, named as in /proc/PID/cgroup.

    Raises OSError where there is none.
    """
    for root in UNIFIED:
        if os.path.exists(f"{root}/cgroup.procs"):
            return os.open(root + path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    raise FileNotFoundError(2, "no cgroup2 is mounted")


def other_group(ours: str, theirs: str) -> str:
    """Return the control group of version 2 to fork into, "" where ours will do.

    Both are the content of /proc/PID/cgroup: a line for each hierarchy. Raises OSError where a
    hierarchy of version 1 differs: there one would have to move.
    """
    if ours == theirs:
        return ""
    unified = ""
    mine, others = ours.splitlines(), theirs.splitlines()
    for one, other in zip(mine, others, strict=False):
        if one != other and not (one.startswith("0::") and other.startswith("0::")):
            raise OSError("another control group")
        if other.startswith("0::"):
            unified = other[3:]
    if len(mine) != len(others):
        raise OSError("other hierarchies")
    return unified


def fork_into(cgroup: int) -> int:
    """Fork; the child is in the group whose directory is open as ``cgroup``.

    For a process with one thread. Raises OSError.
    """
    arguments = _ARGUMENTS.pack(_INTO_CGROUP, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup)
    # PyDLL keeps the interpreter's lock: nobody else could give it back in the child
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    pid = int(libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments))))
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return pid
