"""What a process lives under, all of it in one look: ids, namespaces, root, program, limits.

All of it is the kernel's word, and about one process: its directory in /proc is opened once, and
answers nothing more when that process has ended. Only scheduler, limits and nice value are asked by
number; whoever looks has to know that the number is still its own afterwards (a pidfd).

Sources: proc(5), statx(2), prlimit(2), getpriority(2), sched_getscheduler(2).
"""

from __future__ import annotations

import os
import resource

from certexec.kernel.doors import compiled
from certexec.kernel.filesystem import identify
from certexec.kernel.procfs import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    Spot = tuple[tuple[int, int], int, int | None]
    Facts = tuple[
        bytes, tuple[bytes, ...], Spot, bytes, Spot, int, tuple[tuple[int, int], ...], int, bytes,
        bytes, bytes,
    ]  # fmt: skip

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
LIMITS = 16
STATUS, SPACES, ROOT, LABEL, PROGRAM, SCHEDULER, RLIMITS, NICE, OOM, LOGIN, CGROUPS = range(11)
"""Which place has which fact; where the kernel has no such thing, there is nothing in it."""
_CHUNK = 16384


class Circumstances:
    """The facts about one process.

    Attributes:
        status: the text of its status file; rest: all others, for comparing.
        namespaces: what the links of NAMESPACES say; root, program: as ``spot`` says; label: a
            security module's; scheduler: its class; limits: soft and hard ones by number; nice:
            as of getpriority(2); oom, login, cgroups: the texts of these files.
    """

    __slots__ = (
        "cgroups", "label", "limits", "login", "namespaces", "nice", "oom", "program", "rest",
        "root", "scheduler", "status",
    )  # fmt: skip

    def __init__(self, pid: int) -> None:
        """Look. Raises OSError when the process is gone."""
        facts = _look(proc(pid).encode(), pid)
        self.rest = facts[1:]
        (
            self.status, self.namespaces, self.root, self.label, self.program, self.scheduler,
            self.limits, self.nice, self.oom, self.login, self.cgroups,
        ) = facts  # fmt: skip


def spot(path: str) -> Spot:
    """Tell a file apart by device, inode and mount, without waiting for its file system."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _spot(fd, b"")
    finally:
        os.close(fd)


def _look(directory: bytes, pid: int) -> Facts:
    """Return the facts; ``directory``: where this process's proc file system has that of ``pid``.

    Nothing here waits for anybody: not for the caller's memory, nor for a file system that it may
    have made. Raises OSError.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return (
            _read(fd, "status"),
            tuple([_namespace(fd, name) for name in NAMESPACES]),
            _spot(fd, b"root"),
            _label(fd),
            _spot(fd, b"exe"),
            os.sched_getscheduler(pid),
            tuple([resource.prlimit(pid, number) for number in range(LIMITS)]),
            os.getpriority(os.PRIO_PROCESS, pid),
            _read(fd, "oom_score_adj"),
            _login(fd),
            _read(fd, "cgroup"),
        )
    finally:
        os.close(fd)


def _spot(fd: int, name: bytes) -> Spot:
    found = identify(fd, name, patient=False)
    return found.device, found.inode, found.mount


def _namespace(fd: int, name: str) -> bytes:
    try:
        return os.readlink(f"ns/{name}".encode(), dir_fd=fd)
    except FileNotFoundError:
        return b""  # a kernel without this kind


def _label(fd: int) -> bytes:
    try:
        return _read(fd, "attr/current")
    except OSError:
        return b""  # no security module gives any


def _login(fd: int) -> bytes:
    try:
        return _read(fd, "loginuid")
    except FileNotFoundError:
        return b""  # a kernel without audit


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        text = b""
        while chunk := os.read(fd, _CHUNK):
            text += chunk
        return text
    finally:
        os.close(fd)


if compiled is not None:
    _look = compiled.look
