"""Per-thread credentials: take a confined thread's rights for one call, and give them back.

Every request is a raw system call, because glibc's wrappers change all threads of the process.
Real and saved ids stay the supervisor's own: a user who could signal the program still cannot
signal its supervisor (kill(2) looks at the target's real and saved ids).
"""

from __future__ import annotations

import errno
import os
import struct

from certexec.errors import KernelError
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

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
_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
_CAPABILITIES = struct.Struct("=6I")
"""Effective, permitted, inheritable: the low words, then the high ones."""
PR_SET_DUMPABLE = 4
_CAP_SYS_PTRACE = 1 << 19


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


def own_capabilities() -> tuple[int, int, int]:
    """Return this thread's effective, permitted and inheritable capabilities as bit masks."""
    data = bytearray(_CAPABILITIES.size)
    syscall(_CAPGET, _CAPABILITY_HEADER, data)
    e0, p0, i0, e1, p1, i1 = _CAPABILITIES.unpack(data)
    return e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32


class Mask:
    """The supervisor's own rights, and the way back to them.

    A supervisor that runs as the invoker has no ids to take: its own are the program's, which
    no_new_privs and the refusal of foreign user namespaces keep so. Capabilities of the invoker's
    it has like the program, which may have dropped them since. Root's supervisor takes only what
    differs from its own, so that it also works where a user namespace maps one id.

    Attributes:
        takes_nothing: whether ``assume`` changes nothing, whoever calls.
        changed: whether other rights than our own are taken now.
    """

    __slots__ = (
        "_effective", "_groups", "_inheritable", "_needless", "_permitted",
        "_privileged", "_taken", "changed", "takes_nothing",
    )  # fmt: skip

    def __init__(self, privileged: bool) -> None:
        self._privileged = privileged
        self.changed = False
        self._taken: tuple[Status, bool] | None = None
        self._groups = sorted(os.getgroups()) if privileged else []
        self._effective, self._permitted, self._inheritable = own_capabilities()
        self.takes_nothing = not privileged and not self._effective
        # for whom nothing had to be taken: what a Status says does not change
        self._needless: tuple[Status, bool] | None = None

    def assume(self, status: Status, real_uid: bool = False) -> None:
        """Take the effective rights of the thread that ``status`` describes.

        ``real_uid``: take its real ids instead, with the capabilities that access(2) would count.
        Raises KernelError when anything does not read back; the caller must then ``restore``.
        """
        if self.takes_nothing:
            return
        known = self._needless
        if known is not None and known[0] is status and known[1] is real_uid:
            return
        uid, fs_uid = status.uids[1], status.uids[3]
        gid, fs_gid = status.gids[1], status.gids[3]
        wanted = status.caps["eff"]
        if real_uid:
            uid = fs_uid = status.uids[0]
            gid = fs_gid = status.gids[0]
            wanted = status.caps["prm"] if uid == 0 else 0
        wanted &= self._effective
        same_ids = not self._privileged or (uid, fs_uid, gid, fs_gid) == (0, 0, 0, 0)
        same_groups = not self._privileged or sorted(status.groups) == self._groups
        if same_ids and same_groups and wanted == self._effective:
            self._needless = status, real_uid
            return
        self.changed = True
        self._taken = status, real_uid
        try:
            # 1. groups first: they need the capability that step 3 gives up
            if not same_groups:
                _set_groups(status.groups)
            # 2. effective and file-system gid, then uid; real and saved stay root's
            if not same_ids:
                syscall(_SETRESGID, _SETREUID_NONE, gid, _SETREUID_NONE)
                syscall(_SETRESUID, _SETREUID_NONE, uid, _SETREUID_NONE)
                if (fs_uid, fs_gid) != (uid, gid):
                    # lost with euid 0; without, these do nothing
                    self._set_effective(self._effective)
                    syscall(_SETFSUID, fs_uid)
                    syscall(_SETFSGID, fs_gid)
                # the only way to read them back: an id that nobody has changes nothing
                if (
                    syscall(_SETFSUID, _SETREUID_NONE) != fs_uid
                    or syscall(_SETFSGID, _SETREUID_NONE) != fs_gid
                ):
                    raise OSError(errno.EPERM, "the file-system ids cannot be taken")
            # 3. the capabilities that are effective there
            self._set_effective(wanted)
            effective, permitted, _ = own_capabilities()
        except OSError as error:
            raise KernelError(
                "internal", f"the program's rights cannot be taken: {error.strerror}"
            ) from None
        if effective != wanted or permitted == 0:
            raise KernelError("internal", "the program's capabilities cannot be taken")
        if self._privileged and (os.geteuid(), os.getegid()) != (uid, gid):
            raise KernelError("internal", "the supervisor could not take the program's rights")

    def lifted(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call ``function`` with root's own rights, then take the thread's rights again.

        For what concerns the thread itself: its memory, its descriptors, its directory. Exec
        cleared dumpable where ids differ, and then even the program's own uid may not touch them.
        """
        taken = self._taken
        if not self.changed or taken is None:
            return function(*arguments)
        self.restore()
        try:
            return function(*arguments)
        finally:
            self.assume(*taken)

    def with_ptrace(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call ``function`` with the thread's rights and CAP_SYS_PTRACE.

        For what the kernel lets every program see of itself, such as /proc/self/maps: of us, who
        look at another process, it asks for that capability (ptrace_may_access).
        """
        return self.raised(_CAP_SYS_PTRACE, function, *arguments)

    def may_raise(self, capabilities: int) -> bool:
        """Tell whether all of these bits are among our own rights."""
        return self._effective & capabilities == capabilities

    def raised(
        self, capabilities: int, function: Callable[..., Result], *arguments: object
    ) -> Result:
        """Call ``function`` with the thread's rights and these of our own capabilities."""
        if not self.changed:
            return function(*arguments)
        before = own_capabilities()[0]
        self._set_effective(before | capabilities)
        try:
            return function(*arguments)
        finally:
            self._set_effective(before)

    def _set_effective(self, effective: int) -> None:
        """Make of what this thread may take just this effective."""
        effective &= self._permitted
        low = 0xFFFFFFFF
        data = _CAPABILITIES.pack(
            effective & low, self._permitted & low, self._inheritable & low,
            effective >> 32, self._permitted >> 32, self._inheritable >> 32,
        )  # fmt: skip
        syscall(_CAPSET, _CAPABILITY_HEADER, data)

    def restore(self) -> None:
        """Return to root's rights; on failure the whole process ends, which ends the program."""
        if not self.changed:
            return
        try:
            self._set_effective(self._permitted)
            if self._privileged:
                syscall(_SETRESUID, _SETREUID_NONE, 0, _SETREUID_NONE)
                syscall(_SETRESGID, _SETREUID_NONE, 0, _SETREUID_NONE)
                if sorted(os.getgroups()) != self._groups:
                    _set_groups(self._groups)
                if os.geteuid() != 0:
                    os._exit(125)
            self._set_effective(self._effective)
            if own_capabilities()[0] != self._effective:
                os._exit(125)
        except OSError:
            os._exit(125)  # fail closed: the listener closes, every supervised call fails
        self.changed = False
