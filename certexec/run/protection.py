"""Keep the confined program's hands off its own supervisor.

Signals, limits and scheduling of the supervisor's process could be reached by number from the
same uid, and by root everything could. These calls name their target in registers, so the verdict
holds when the kernel then runs the call; a pidfd names it by a descriptor that another thread
could exchange, so that call is carried out here, on a copy.
"""

from __future__ import annotations

import errno
import os

from certexec.errors import RunError
from certexec.kernel.filesystem import NO_XDEV, openat2
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import Status, proc, read_file, read_status
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.proc_place import is_procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.transitions import Transitions

_PIDFD_SEND_SIGNAL = 424
_TGKILL = 234
_EVERYBODY = -1
_PRIO_USER = 2
_PRIO_PGRP = 1
_IOPRIO_WHO_PGRP = 2
_IOPRIO_WHO_USER = 3
_SIGINFO_SIZE = 128
_PIDFD_SIGNAL_ONE = 3
"""PIDFD_SIGNAL_THREAD and PIDFD_SIGNAL_THREAD_GROUP."""
CAP_KILL = 1 << 5
_NOT_SEEN = 0
"""What fdinfo says of a process in a PID namespace that is neither ours nor within it."""
_STATUS_HEAD = 4096

PID_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "kill": (0,),
    "tkill": (0,),
    "tgkill": (0, 1),
    "rt_sigqueueinfo": (0,),
    "rt_tgsigqueueinfo": (0, 1),
    "pidfd_open": (0,),
    "ptrace": (1,),
    "process_vm_readv": (0,),
    "process_vm_writev": (0,),
    "prlimit64": (0,),
    "sched_setscheduler": (0,),
    "sched_setparam": (0,),
    "sched_setattr": (0,),
    "sched_setaffinity": (0,),
    "kcmp": (0, 1),
    "migrate_pages": (0,),
    "move_pages": (0,),
}
"""Which registers hold a process or thread id."""
INTO_OTHERS = frozenset(("ptrace", "process_vm_readv", "process_vm_writev"))
"""The calls by which a process reaches into another, and could do what that one may."""
GROUP_KILLS = frozenset(("kill",))
"""The calls for which a negative number means a process group, and -1 everybody."""


def concerns_supervisor(call: Call, own_tgid: int) -> int:
    """Return the errno to deny with, or 0 when the call does not touch the supervisor."""
    name = call.name
    if name == "fcntl":  # F_SETOWN: any other process may be outside, and 0 is nobody
        own = (0, call.task.tgid, call.notification.tid)
        return 0 if call.int_arg(2) in own else errno.EPERM
    if name in PID_ARGUMENTS:
        for index in PID_ARGUMENTS[name]:
            number = call.int_arg(index)
            if number == call.notification.tid:
                continue  # the caller itself, who waits, so that nobody else has this number
            code = _judge_number(number, own_tgid, name in GROUP_KILLS)
            if code:
                return code
        return 0
    if name in ("setpriority", "ioprio_set"):
        return _judge_priority(call, own_tgid)
    # pidfd_getfd, process_madvise and whatever else holds a pidfd: the target could be exchanged
    # between here and the kernel; where it needs no right over the target, dumpable 0 protects
    return errno.EPERM


def concerns_others(call: Call, transitions: Transitions) -> int:
    """Return the errno for getting into a process that is under another policy, 0 for none."""
    if transitions.one_policy or call.name not in INTO_OTHERS:
        return 0
    target = call.int_arg(PID_ARGUMENTS[call.name][0])
    try:
        spaces = (proc(each, "ns/pid") for each in ("self", call.task.tid))
        if not os.path.samestat(*map(os.stat, spaces)):
            return errno.EPERM  # the number means somebody else there
        tgid = read_status(target).tgid if target > 0 else target
    except (OSError, KeyError, ValueError):
        return errno.ESRCH
    return 0 if transitions.of(tgid) == transitions.of(call.task.tgid) else errno.EPERM


def send_signal(call: Call, own_tgid: int) -> None:
    """Carry out pidfd_send_signal(2) on a copy of the pidfd; Fault(EPERM) for the supervisor's.

    The kernel would count the supervisor's real uid, which a program's rights do not replace. So
    the permission is decided here, by kill(2)'s rule on the program's own ids.
    """
    if call.int_arg(3) & ~_PIDFD_SIGNAL_ONE:
        raise Fault(errno.EINVAL)  # a process group has many members, with ids of their own
    fd = copy_descriptor(call, call.int_arg(0))
    try:
        pid = _pid_of(fd)
        if pid == _NOT_SEEN:
            raise Fault(errno.EPERM)
        if pid > 0:
            target = _status(pid)
            if target.tgid == own_tgid or not may_signal(call, pid, target):
                raise Fault(errno.EPERM)
        if call.foreign and call.arg(2):
            raise RunError("unsupported", f"{call.foreign} with a siginfo of the 32-bit ABI")
        info = call.block(2, _SIGINFO_SIZE) if call.arg(2) else None
        call.still_waits()
        flags = call.int_arg(3)
        call.task.touch(syscall, _PIDFD_SEND_SIGNAL, fd, call.int_arg(1), info, flags)
    finally:
        os.close(fd)
    call.finish(0)


def _pid_of(fd: int) -> int:
    """Return the thread that a pidfd or a /proc/PID directory stands for; -1: it has ended.

    Raises Fault(EBADF) when it is neither.
    """
    try:
        text = read_file(proc("self", "fdinfo", fd))
        if b"\nPid:" not in text:
            if not is_procfs(fd):
                raise Fault(errno.EBADF)
            # what the program may have mounted over it says nothing
            status = openat2(fd, b"status", os.O_RDONLY | os.O_CLOEXEC, NO_XDEV)
            try:
                text = os.read(status, _STATUS_HEAD)
            finally:
                os.close(status)
        return int(text.partition(b"\nPid:")[2].partition(b"\n")[0])
    except (OSError, ValueError):
        raise Fault(errno.EBADF) from None


def _status(pid: int) -> Status:
    try:
        return read_status(pid)
    except (OSError, KeyError, ValueError):
        raise Fault(errno.ESRCH) from None


def may_signal(call: Call, pid: int, target: Status) -> bool:
    """kill(2): the same thread group, the real or effective uid is the target's real or saved one,
    or CAP_KILL, here only over the program's own user namespace.
    """
    status = call.status
    if target.tgid == status.tgid:
        return True
    if status.caps["eff"] & CAP_KILL:
        spaces = (proc(each, "ns/user") for each in (pid, call.task.tid))
        if os.path.samestat(*(call.task.touch(os.stat, space) for space in spaces)):
            return True
    return not {status.uids[0], status.uids[1]}.isdisjoint((target.uids[0], target.uids[2]))


def _judge_number(number: int, own_tgid: int, groups: bool) -> int:
    if number == 0:
        return 0  # the caller itself, or its own process group, which is never the supervisor's
    if groups and number == _EVERYBODY:
        return errno.EPERM
    if number < 0:
        # a process group; the supervisor leads a session and a group of its own
        return errno.EPERM if groups and -number == own_tgid else 0
    # signal 0 only asks whether there is somebody
    try:
        syscall(_TGKILL, own_tgid, number, 0)
        return errno.EPERM
    except ProcessLookupError:
        pass  # none of our threads
    try:
        os.kill(number, 0)
    except PermissionError:
        return 0  # somebody else's
    except ProcessLookupError:
        # nobody has this number now: answered here, for a thread of ours could get it next
        return errno.ESRCH
    return 0


def _judge_priority(call: Call, own_tgid: int) -> int:
    which, who = call.int_arg(0), call.int_arg(1)
    user, group = _PRIO_USER, _PRIO_PGRP
    if call.name == "ioprio_set":
        user, group = _IOPRIO_WHO_USER, _IOPRIO_WHO_PGRP
    if which == user:
        return errno.EPERM  # all of a user's processes, the supervisor among them
    if which == group:
        return errno.EPERM if who == own_tgid else 0
    return _judge_number(who, own_tgid, False)
