"""What /proc says of a process: ids, signals, terminal, memory.

All of it is the kernel's word. It is only about the process that was meant while something else
proves that the id still belongs to it: a valid seccomp notification, a ptrace stop, or a pidfd.
"""

from __future__ import annotations

import ctypes
import os
import struct

from certexec.kernel.libc import syscall

_OPEN_TREE = 428
_OPEN_TREE_CLONE = 1
_MOUNT_SETATTR = 442
_MS_PRIVATE = struct.pack("=4Q", 0, 0, 1 << 18, 0)
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
PAGE = 4096
_PROCESS_VM_WRITEV = 311
_MAX_STATUS = 1 << 20
"""bytes; a process in 65,536 groups has a status file of some 500 KB."""


class _View:
    """Where this process sees the proc file system: by its usual name until ``settle_in``."""

    __slots__ = ("fd", "place")

    def __init__(self) -> None:
        self.place = "/proc"
        self.fd = -1


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


class Status:
    """The fields of /proc/PID/status that certexec judges.

    Attributes:
        uids, gids: (real, effective, saved, file-system).
        groups: supplementary groups.
        tgid: thread group; ppid: its parent; tracer: 0 or the tracer's id.
        caps: {"inh", "prm", "eff", "bnd", "amb"} as bit masks.
        umask: file mode creation mask; threads: how many share the address space or more.
        pending: signals that wait for this thread or its group and are not blocked, bit mask.
    """

    __slots__ = (
        "caps",
        "gids",
        "groups",
        "no_new_privs",
        "pending",
        "ppid",
        "tgid",
        "tracer",
        "uids",
        "umask",
    )

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self.uids = _four(fields[b"Uid"])
        self.gids = _four(fields[b"Gid"])
        self.groups = [int(word) for word in fields[b"Groups"].split()]
        self.tgid = int(fields[b"Tgid"])
        self.ppid = int(fields[b"PPid"])
        self.tracer = int(fields[b"TracerPid"])
        self.umask = int(fields.get(b"Umask", b"022"), 8)
        self.no_new_privs = int(fields.get(b"NoNewPrivs", b"0"))
        waiting = int(fields[b"SigPnd"], 16) | int(fields[b"ShdPnd"], 16)
        self.pending = waiting & ~int(fields[b"SigBlk"], 16) & ~int(fields[b"SigIgn"], 16)
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
    fields = {}
    for line in read_file(proc(tid, "status")).split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value
    return Status(fields)


def read_tty(pid: int) -> int:
    """Return the device number of the controlling terminal of ``pid``, 0 for none (proc(5))."""
    text = read_file(proc(pid, "stat"))
    return int(text[text.rindex(b")") + 2 :].split()[4])


def read_argv(pid: int, limit: int = 4 << 20) -> list[bytes]:
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


class Memory:
    """The address space of one process, read through /proc/TID/mem.

    It is opened per call: a descriptor kept over an exec would show the old address space.
    """

    __slots__ = ("fd", "tid")

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self.fd = os.open(proc(tid, "mem"), os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def read(self, address: int, size: int) -> bytes:
        """Read exactly ``size`` bytes; raises OSError (EFAULT, EIO) for a bad address."""
        data = os.pread(self.fd, size, address) if address < 1 << 63 else b""
        if len(data) != size:
            raise OSError(14, "bad address")
        return data

    def read_string(self, address: int, limit: int) -> bytes | None:
        """Read bytes up to the NUL; None when there is no NUL within ``limit`` bytes.

        Raises OSError for a bad address.
        """
        chunks = []
        while limit > 0:
            size = min(PAGE - address % PAGE, limit)
            if address >= 1 << 63:
                raise OSError(14, "bad address")
            try:
                chunk = os.pread(self.fd, size, address)
            except OSError:
                raise OSError(14, "bad address") from None
            if not chunk:
                raise OSError(14, "bad address")
            end = chunk.find(b"\0")
            if end >= 0:
                chunks.append(chunk[:end])
                return b"".join(chunks)
            chunks.append(chunk)
            address += len(chunk)
            limit -= len(chunk)
        return None

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` as the process itself could; raises OSError (EFAULT).

        process_vm_writev honours page protection; /proc/TID/mem does not.
        """
        if not data:
            return
        local = ctypes.create_string_buffer(data, len(data))
        vector = (ctypes.c_ulong * 2)(ctypes.addressof(local), len(data))
        remote = (ctypes.c_ulong * 2)(address, len(data))
        done = syscall(
            _PROCESS_VM_WRITEV,
            self.tid,
            ctypes.addressof(vector),
            1,
            ctypes.addressof(remote),
            1,
            0,
        )
        if done != len(data):
            raise OSError(14, "bad address")
