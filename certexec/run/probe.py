"""What the running kernel really does, asked by doing it once in a child that then is gone.

Release numbers mislead: distributions carry fixes back and switch features off. Every probe is
harmless, takes a few milliseconds, and says None where it cannot tell.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from certexec.kernel import binfmt
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import read_file
from certexec.run import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PRCTL = 157
_PTRACE = 101
_SECCOMP = 317
_LANDLOCK_CREATE_RULESET = 444
_MOUNT = 165
_UNSHARE = 272

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PTRACE_SEIZE = 0x4206
_PTRACE_O_EXITKILL = 0x100000
_LANDLOCK_CREATE_RULESET_VERSION = 1
_CLONE_NEWUSER_NEWNS = 0x10000000 | 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_GET_ACTION_AVAIL = 2
_RET_USER_NOTIF = 0x7FC00000
_RET_ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
_FLAG_NEW_LISTENER = 1 << 3
_FLAG_WAIT_KILLABLE_RECV = 1 << 5
_IOCTL_ADDFD = 0x40182103
_IOCTL_SET_FLAGS = 0x40082104
_ADDFD_FLAG_SEND = 2
_SYNC_WAKE_UP = 1

STRANGER = 12345
"""A uid that is nobody's, as the invoker in the identity probe."""
SERVICE = 12346
"""Another one, as the permitted identity."""
_STATUS_PROGRAM = ("/bin/cat", "/proc/self/status")
_SCRATCH = ("/dev/shm", "/tmp", "/run", "/var/tmp")  # noqa: S108


def _says(question: Callable[[], object]) -> bool | None:
    return {"True": True, "False": False}.get(child.ask(question) or "")


def sysctl(name: str) -> int | None:
    """Return the number in /proc/sys/``name``, None where this kernel has no such setting."""
    try:
        return int(read_file(f"/proc/sys/{name}"))
    except (OSError, ValueError):
        return None


def _exec_with_a_writer() -> bool:
    for directory in _SCRATCH:
        try:
            writer = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o700)
        except OSError:
            continue
        os.write(writer, b"not a program")
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
        try:
            os.execve(reader, ["probe"], {})  # noqa: S606
        except OSError as error:
            if error.errno in (errno.ETXTBSY, errno.ENOEXEC):
                return error.errno == errno.ETXTBSY
    raise RuntimeError("no directory lets a file be executed")


def exec_denies_writers() -> bool | None:
    """Tell whether exec and writing to the same file exclude each other (ETXTBSY, execve(2)).

    Linux 6.11.0 to 6.11.10, 6.12.0 and 6.12.1 lack it. The file is no program, so nothing runs.
    """
    return _says(_exec_with_a_writer)


def has_notification() -> bool:
    """Tell whether seccomp can hand calls to a supervisor (SECCOMP_RET_USER_NOTIF, Linux 5.0)."""
    try:
        syscall(_SECCOMP, _SECCOMP_GET_ACTION_AVAIL, 0, struct.pack("=I", _RET_USER_NOTIF))
    except OSError:
        return False
    return True


def has_wait_killable() -> bool:
    """Tell whether a notified call can be shielded from signals (Linux 5.19).

    The flags are judged before the filter is read: EFAULT means that they are known.
    """
    flags = _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV
    try:
        syscall(_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, None)
    except OSError as error:
        return error.errno == errno.EFAULT
    return False


def _listener() -> int:
    syscall(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    code = ctypes.create_string_buffer(_RET_ALLOW)
    program = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code))
    return syscall(_SECCOMP, _SECCOMP_SET_MODE_FILTER, _FLAG_NEW_LISTENER, program)


def _wakes_synchronously() -> bool:
    try:
        fcntl.ioctl(_listener(), _IOCTL_SET_FLAGS, _SYNC_WAKE_UP)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def has_sync_wake_up() -> bool | None:
    """Tell whether a supervisor can be woken on the caller's CPU (Linux 6.6)."""
    return _says(_wakes_synchronously)


def _adds_and_sends() -> bool:
    request = struct.pack("=QIIII", 0, _ADDFD_FLAG_SEND, 0, 0, 0)
    try:
        fcntl.ioctl(_listener(), _IOCTL_ADDFD, request)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        return error.errno == errno.ENOENT  # the flag is known, only such a call is not
    return True


def has_addfd_send() -> bool | None:
    """Tell whether a descriptor and the answer can be given in one step (Linux 5.14)."""
    return _says(_adds_and_sends)


def landlock_abi() -> int:
    """Return Landlock's ABI version, 0 where it is missing or switched off (landlock(7))."""
    try:
        return syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def _seize_child() -> bool:
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)
        os._exit(0)
    try:
        syscall(_PTRACE, _PTRACE_SEIZE, pid, 0, _PTRACE_O_EXITKILL)
    except OSError:
        return False
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0x40000000)
    return True


def can_trace_child() -> bool | None:
    """Tell whether a process may trace its own child (PTRACE_SEIZE with EXITKILL)."""
    return _says(_seize_child)


def _become_ordinary() -> None:
    if os.geteuid() == 0:
        uid = child.ordinary_uid()
        if uid is None:
            raise PermissionError("there is no ordinary user in this user namespace")
        child.drop_to(uid)
        syscall(_PRCTL, _PR_SET_DUMPABLE, 1, 0, 0, 0)  # dropping rights cleared it


def _seize_parent() -> bool:
    _become_ordinary()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            syscall(_PTRACE, _PTRACE_SEIZE, parent, 0, 0)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def can_trace_parent() -> bool | None:
    """Tell whether an ordinary user's process may trace the one that started it.

    That is how the supervisor of a certificate without a grant stands to the program. Yama at 1
    and above forbids it.
    """
    return _says(_seize_parent)


def _mount_own_binfmt() -> bool:
    _become_ordinary()
    uid, gid = os.getuid(), os.getgid()
    ids = (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"))
    kind = b"binfmt_misc"
    try:
        syscall(_UNSHARE, _CLONE_NEWUSER_NEWNS)
        for name, text in ids:
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode())
            os.close(fd)
        syscall(_MOUNT, b"none", b"/", None, _MS_REC_PRIVATE, None)
        syscall(_MOUNT, kind, binfmt.MOUNT_POINT.encode(), kind, 0, None)
    except OSError:
        return False
    return binfmt.writable()


def own_binfmt_in_user_namespace() -> bool | None:
    """Tell whether an ordinary user can have a binfmt_misc in a user namespace (Linux 6.7)."""
    return _says(_mount_own_binfmt)


def ids_after_exec(
    real: int, effective: int, no_new_privs: bool
) -> tuple[int, int, int, int] | None:
    """Execute a program with these ids; return its real, effective, saved and file-system uid.

    None where they cannot be taken: it needs root, and both ids in this user namespace.
    """

    def prepare() -> None:
        os.setgroups([])
        if no_new_privs:
            syscall(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.setresuid(real, effective, effective)

    if os.geteuid() != 0:
        return None
    outcome = child.run(_STATUS_PROGRAM, prepare=prepare)
    for line in outcome.output.splitlines():
        if outcome.code == 0 and line.startswith(b"Uid:"):
            ids = [int(word) for word in line.split()[1:]]
            return ids[0], ids[1], ids[2], ids[3]
    return None


def keeps_ids(no_new_privs: bool) -> bool | None:
    """Tell whether exec keeps effective ids that differ from the real one (design: identity).

    Asked for root and for an ordinary service id, each invoked by a stranger. Without
    no_new_privs every kernel must keep them; with it older kernels do not (before about 6.16).
    """
    for effective in (0, SERVICE):
        found = ids_after_exec(STRANGER, effective, no_new_privs)
        if found is None:
            return None
        if found != (STRANGER, effective, effective, effective):
            return False
    return True


def lease_granted(path: str) -> bool | None:
    """Tell whether a read lease can be had on a file (fcntl(2), F_SETLEASE); None: not by us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except PermissionError:
        return None
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
