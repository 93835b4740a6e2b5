"""Per-thread credentials: take a confined thread's rights for one call, and give them back.

Every request is a raw system call, because glibc's wrappers change all threads of the process.
Real and saved ids stay the supervisor's own: a user who could signal the program still cannot
signal its supervisor (kill(2) looks at the target's real and saved ids).
"""

from __future__ import annotations

import ctypes
import os
import struct

from certexec.errors import KernelError
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import Status

_SETREUID_NONE = 0xFFFFFFFF
_SETGROUPS = 116
_SETRESUID = 117
_SETRESGID = 119
_SETFSUID = 122
_SETFSGID = 123
_CAPGET = 125
_CAPSET = 126
_PRCTL = 157
_UNSHARE = 272
_CLONE_FS = 0x200
_CAPABILITY_VERSION_3 = 0x20080522
PR_SET_DUMPABLE = 4


def unshare_fs() -> None:
    """Give this thread a working directory, root and umask of its own (CLONE_FS)."""
    syscall(_UNSHARE, _CLONE_FS)


def forbid_attach() -> None:
    """Keep others of the same uid from tracing this process or reading its memory."""
    syscall(_PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0)
    if syscall(_PRCTL, 3, 0, 0, 0, 0) != 0:  # PR_GET_DUMPABLE: read back
        raise KernelError("internal", "the supervisor cannot protect its own memory")


def _set_groups(groups: list[int]) -> None:
    packed = struct.pack(f"={len(groups)}I", *groups)
    syscall(_SETGROUPS, len(groups), packed)


def _capabilities() -> tuple[int, int, int]:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    syscall(_CAPGET, header, data)
    e0, p0, i0, e1, p1, i1 = struct.unpack("=6I", data.raw)
    return e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32


def _set_effective(effective: int) -> None:
    _, permitted, inheritable = _capabilities()
    effective &= permitted
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low = 0xFFFFFFFF
    data = struct.pack(
        "=6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    syscall(_CAPSET, header, data)


class Mask:
    """The supervisor's own rights, and the way back to them.

    For a supervisor that runs as the invoker there is nothing to take: its ids are the program's,
    which no_new_privs and the refusal of foreign user namespaces keep so.
    """

    __slots__ = ("_groups", "_privileged")

    def __init__(self, privileged: bool) -> None:
        self._privileged = privileged
        self._groups = os.getgroups() if privileged else []

    def assume(self, status: Status, real_uid: bool = False) -> None:
        """Take the effective rights of the thread that ``status`` describes.

        ``real_uid``: take its real ids instead, with the capabilities that access(2) would count.
        Raises KernelError when anything does not read back; the caller must then ``restore``.
        """
        if not self._privileged:
            return
        # 1. groups first: they need the capability that step 3 gives up
        _set_groups(status.groups)
        # 2. effective and file-system gid, then uid; real and saved stay root's
        gid = status.gids[0] if real_uid else status.gids[1]
        uid = status.uids[0] if real_uid else status.uids[1]
        syscall(_SETRESGID, _SETREUID_NONE, gid, _SETREUID_NONE)
        syscall(_SETRESUID, _SETREUID_NONE, uid, _SETREUID_NONE)
        if not real_uid and status.uids[3] != uid:
            syscall(_SETFSUID, status.uids[3])
        if not real_uid and status.gids[3] != gid:
            syscall(_SETFSGID, status.gids[3])
        # 3. the capabilities that are effective there (access(2): permitted if real root, none else)
        wanted = status.caps["eff"]
        if real_uid:
            wanted = status.caps["prm"] if uid == 0 else 0
        _set_effective(wanted)
        effective, permitted, _ = _capabilities()
        if effective & ~wanted or permitted == 0 or os.geteuid() != uid:
            raise KernelError("internal", "the supervisor could not take the program's rights")

    def restore(self) -> None:
        """Return to root's rights; on failure the whole process ends, which ends the program."""
        if not self._privileged:
            return
        try:
            _, permitted, _ = _capabilities()
            _set_effective(permitted)
            syscall(_SETRESUID, _SETREUID_NONE, 0, _SETREUID_NONE)
            syscall(_SETRESGID, _SETREUID_NONE, 0, _SETREUID_NONE)
            _set_groups(self._groups)
            _set_effective(permitted)
        except OSError:
            os._exit(125)  # fail closed: the listener closes, every supervised call fails
