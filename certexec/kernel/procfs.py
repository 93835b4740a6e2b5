"""What /proc says of a process: ids, signals, terminal, memory.

All of it is the kernel's word. It is only about the process that was meant while something else
proves that the id still belongs to it: a valid seccomp notification, a ptrace stop, or a pidfd.
"""

from __future__ import annotations

import os
import struct

from certexec.kernel.libc import syscall

_TGKILL = 234
_OPEN_TREE = 428
_OPEN_TREE_CLONE = 1
_MOUNT_SETATTR = 442
_MS_PRIVATE = struct.pack("=4Q", 0, 0, 1 << 18, 0)
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
ARGUMENTS_MAX = 6 << 20
"""bytes; three quarters of _STK_LIM, beyond which execve answers E2BIG (fs/exec.c)."""
_MAX_STATUS = 1 << 20
"""bytes; a process in 65,536 groups has a status file of some 500 KB."""
KEPT_MAX = 16
"""status files that are kept open: those of the threads that called last."""
NUMBERS_MAX = 64
"""kinds of users whose numbers are remembered; a server's callers are few."""
_STATUS_ROOM = 8192
"""bytes; a status file that is longer, for many groups, is read in another way."""
_CAPS_SIZE = 160
"""bytes of the five lines of capabilities and that of no_new_privs."""


class _View:
    """Where this process sees the proc file system: by its usual name until ``settle_in``."""

    __slots__ = ("fd", "own", "own_pid", "place")

    def __init__(self) -> None:
        self.place = "/proc"
        self.fd = -1
        self.own = self.own_pid = -1


_view = _View()


def settle_in() -> None:
    """Make a private copy of the mount on /proc this process's working directory.

    A program that may mount could cover /proc, or a directory in it, and so tell its supervisor
    what it likes about itself. Nothing can be mounted on the copy, which nobody else can reach.
    Who may not make one has no program that may mount, either: the directory itself is kept.
    Threads that share no working directory yet come back to it by ``go_home``. Raises OSError.
    """
    try:
        # with what stands on it now: in a user namespace no part may be copied without
        fd = syscall(
            _OPEN_TREE, _AT_FDCWD, b"/proc", _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
        )
        flags = _AT_EMPTY_PATH | _AT_RECURSIVE
        syscall(_MOUNT_SETATTR, fd, b"", flags, _MS_PRIVATE, len(_MS_PRIVATE))
    except OSError:
        fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(fd)
    _view.fd, _view.place = fd, "."


def keep_view_as(number: int) -> None:
    """Keep what ``settle_in`` opened under this number, for children that close all others."""
    if _view.fd == number:
        return
    os.dup2(_view.fd, number, inheritable=False)
    os.close(_view.fd)
    _view.fd = number


def go_home() -> None:
    """Return to the working directory of ``settle_in``."""
    if _view.fd >= 0:
        os.fchdir(_view.fd)


def proc(*names: object) -> str:
    """Return the name of something in /proc, as this process is to use it."""
    return "/".join((_view.place, *map(str, names)))


def own_fd(fd: int) -> str:
    """Return the magic link to an open file of this process."""
    return f"{_view.place}/self/fd/{fd}"


def own_directory() -> int:
    """Return an O_PATH descriptor, to be kept, of the directory of this process's own descriptors.

    The number of one is its name there, a magic link. To walk there each time by ``own_fd`` takes
    the kernel half as long again. A child opens its own: its parent's leads to the parent's files.
    Raises OSError.
    """
    pid = os.getpid()
    if _view.own_pid != pid:
        path = f"{_view.place}/self/fd"
        _view.own = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _view.own_pid = pid
    return _view.own


def own_link(fd: int) -> str:
    """Return what the magic link to an open file of this process says. Raises OSError."""
    return os.readlink(str(fd), dir_fd=own_directory())


def executed_by(pid: int) -> str:
    """Return the path of what a process executes, "" when it has ended or is not for us to see."""
    try:
        return os.readlink(proc(pid, "exe"))
    except OSError:
        return ""


class Status:
    """The fields of /proc/PID/status that certexec judges.

    Attributes:
        uids, gids: (real, effective, saved, file-system).
        groups: supplementary groups.
        tgid: thread group; ppid: its parent; tracer: 0 or the tracer's id.
        caps: {"inh", "prm", "eff", "bnd", "amb"} as bit masks.
        umask: file mode creation mask.
        no_new_privs: 0 or 1; seccomp: 0 without any, 2 under a filter.
    """

    __slots__ = (
        "caps", "gids", "groups", "no_new_privs", "ppid", "seccomp", "tgid", "tracer", "uids",
        "umask",
    )  # fmt: skip

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self.tgid = int(fields[b"Tgid"])
        self.ppid = int(fields[b"PPid"])
        self.tracer = int(fields[b"TracerPid"])
        self.umask = int(fields.get(b"Umask", b"022"), 8)
        self.seccomp = int(fields.get(b"Seccomp", b"0"))
        rights = tuple([fields.get(name) for name in _RIGHTS])
        known = _numbers.get(rights)
        if known is None:
            known = _Numbers(fields)
            if len(_numbers) < NUMBERS_MAX:
                _numbers[rights] = known
        self.uids, self.gids, self.no_new_privs = known.uids, known.gids, known.no_new_privs
        self.groups, self.caps = list(known.groups), dict(known.caps)


class _Numbers:
    """Ids and capabilities in numbers: the same words again mean the same again."""

    __slots__ = ("caps", "gids", "groups", "no_new_privs", "uids")

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self.uids = _four(fields[b"Uid"])
        self.gids = _four(fields[b"Gid"])
        self.groups = [int(word) for word in fields[b"Groups"].split()]
        self.no_new_privs = int(fields.get(b"NoNewPrivs", b"0"))
        self.caps = {
            "inh": int(fields[b"CapInh"], 16),
            "prm": int(fields[b"CapPrm"], 16),
            "eff": int(fields[b"CapEff"], 16),
            "bnd": int(fields[b"CapBnd"], 16),
            "amb": int(fields[b"CapAmb"], 16),
        }


def _four(line: bytes) -> tuple[int, int, int, int]:
    real, effective, saved, filesystem = (int(word) for word in line.split())
    return real, effective, saved, filesystem


_JUDGED = (
    b"Umask", b"Tgid", b"PPid", b"TracerPid", b"Uid", b"Gid", b"Groups", b"CapInh", b"CapPrm",
    b"CapEff", b"CapBnd", b"CapAmb", b"NoNewPrivs", b"Seccomp",
)  # fmt: skip
"""What a Status says, a quarter of the lines."""
_RIGHTS = (
    b"Uid", b"Gid", b"Groups", b"NoNewPrivs", b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb",
)  # fmt: skip
_numbers: dict[tuple[bytes | None, ...], _Numbers] = {}
_WAITING = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn")
_STARTS = {name: b"\n%b:" % name for name in (*_JUDGED, *_WAITING)}


def _fields(text: bytes, names: tuple[bytes, ...] = _JUDGED) -> dict[bytes, bytes]:
    """Return what these lines say. The first line, a name, holds no line end: it is escaped."""
    fields = {}
    for name in names:
        start = text.find(_STARTS[name])
        if start >= 0:
            start += len(name) + 2
            fields[name] = text[start : text.find(b"\n", start)]
    return fields


def read_file(path: str, limit: int = _MAX_STATUS) -> bytes:
    """Read a whole small file in one go; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        room = limit
        while room > 0:
            chunk = os.read(fd, min(room, 65536))
            if not chunk:
                break
            chunks.append(chunk)
            room -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def read_status(tid: int) -> Status:
    """Read and parse /proc/``tid``/status; raises OSError when the thread is gone."""
    return Status(_fields(read_file(proc(tid, "status"))))


def status_of(text: bytes) -> Status:
    """Parse a status file that has been read whole; raises KeyError and ValueError."""
    return Status(_fields(text))


def rights_in(text: bytes) -> bytes:
    """Return all that a status file says of ids, groups, capabilities, no_new_privs and filters.

    b"" where it is not written as known, so that nothing can be left out.
    """
    ids, end = text.find(b"\nUid:"), text.find(b"\nNStgid:")
    caps, last = text.find(b"\nCapInh:"), text.find(b"\nSeccomp_filters:")
    return text[ids:end] + text[caps:last] if 0 < ids < end < caps < last else b""


def is_main_thread(tid: int) -> bool:
    """Tell whether ``tid`` is the number of its process, too; False where that is not certain.

    A signal 0 for a thread of that process is none: the kernel looks for the two numbers, and then
    whether we might (tgkill(2)). That takes a twentieth of the time of a status file.
    """
    try:
        syscall(_TGKILL, tid, tid, 0)
    except OSError:
        return False  # ESRCH; or EPERM, which a filter around us may say of any
    return True


class StatusReader:
    """Reads the status of threads that call again and again: the files are kept open.

    Nothing is taken from memory: each time the kernel says everything anew, and only where that is
    word for word what it said before is it not parsed again. A file of a thread that has ended
    cannot be read any more, whoever has its number by then. For one thread of ours alone.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def read(self, tid: int) -> Status:
        """Return what ``read_status`` would; raises as it does."""
        kept = self._kept.get(tid)
        text = b"" if kept is None else _read_again(kept.fd)
        if kept is None or not text:
            self._forget(tid)
            kept = _Kept(os.open(proc(tid, "status"), os.O_RDONLY | os.O_CLOEXEC))
            if len(self._kept) >= KEPT_MAX:
                self._forget(next(iter(self._kept)))
            self._kept[tid] = kept
            text = _read_again(kept.fd) or read_file(proc(tid, "status"))
        end, caps = text.find(b"\nNStgid:"), text.find(b"\nCapInh:")
        said = text[:end], text[caps : caps + _CAPS_SIZE]
        if kept.status is None or said != kept.said or end < 0 or caps < 0:
            kept.status = Status(_fields(text))
            kept.said = said
        return kept.status

    def reads_on(self, tid: int) -> bool:
        """Tell whether the thread that was read under this number last is still there.

        False, too, where it has a status that is too long to be kept.
        """
        kept = self._kept.get(tid)
        return kept is not None and _read_again(kept.fd) != b""

    def close(self) -> None:
        """Give all files back."""
        for tid in list(self._kept):
            self._forget(tid)

    def _forget(self, tid: int) -> None:
        kept = self._kept.pop(tid, None)
        if kept is not None:
            os.close(kept.fd)


class _Kept:
    """A status file, and what it said last."""

    __slots__ = ("fd", "said", "status")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.said = (b"", b"")
        self.status: Status | None = None


def _read_again(fd: int) -> bytes:
    """Read an open status file from its beginning; b"" when it is long, or its thread gone."""
    try:
        text = os.pread(fd, _STATUS_ROOM, 0)
    except OSError:
        return b""
    return text if len(text) < _STATUS_ROOM else b""


def pending_signals(tid: int) -> int:
    """Return the signals that wait for a thread or its group and are not blocked, as a bit mask.

    Raises OSError when the thread is gone.
    """
    fields = _fields(read_file(proc(tid, "status")), _WAITING)
    waiting = int(fields[b"SigPnd"], 16) | int(fields[b"ShdPnd"], 16)
    return waiting & ~int(fields[b"SigBlk"], 16) & ~int(fields[b"SigIgn"], 16)


def read_tty(pid: int) -> int:
    """Return the device number of the controlling terminal of ``pid``, 0 for none (proc(5))."""
    text = read_file(proc(pid, "stat"))
    return int(text[text.rindex(b")") + 2 :].split()[4])


def read_argv(pid: int, limit: int = ARGUMENTS_MAX) -> list[bytes]:
    """Return the arguments on the stack of ``pid``, at most ``limit`` bytes of them."""
    text = read_file(proc(pid, "cmdline"), limit)
    return text.split(b"\0")[:-1] if text.endswith(b"\0") else text.split(b"\0")


def in_initial_user_namespace() -> bool:
    """Tell whether /proc/self/uid_map is the identity (user_namespaces(7))."""
    try:
        words = read_file("/proc/self/uid_map").split()
    except OSError:
        return True  # a kernel without user namespaces has only the initial one
    return words == [b"0", b"0", b"4294967295"]
