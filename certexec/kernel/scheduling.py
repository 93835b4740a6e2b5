"""The door to the scheduler that Python's os leaves closed: where a thread runs, and its classes.

Whoever enters the idle class (SCHED_IDLE) needs no right, but whoever leaves it does: the limit
RLIMIT_NICE has to admit the nice value that it has, or CAP_SYS_NICE has to be among its rights in
the initial user namespace. What capget(2) says does not tell whether it is: root of any other user
namespace has that bit, too, and can enter the class but not leave it.

Sources: sched(7), getcpu(2), getrlimit(2), setpriority(2), user_namespaces(7), proc_loadavg(5).
"""

from __future__ import annotations

import ctypes
import os
import resource

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc

_GETCPU = 309
_NICE_OFFSET = 20
"""RLIMIT_NICE is this less the lowest nice value that may be taken."""
_NICE_LOWEST = -20
_LOAD_ROOM = 64
"""bytes of /proc/loadavg, which is shorter."""
_NORMAL = os.sched_param(0)
_processor = ctypes.create_string_buffer(4)


def processor() -> int:
    """Return the number of the processor that this thread runs on. Raises OSError."""
    syscall(_GETCPU, _processor, None, None)
    return int.from_bytes(_processor.raw, "little")


def limit_lets_leave() -> bool:
    """Tell whether RLIMIT_NICE lets this thread leave the idle class, whatever rights it has.

    Raises OSError.
    """
    soft = resource.getrlimit(resource.RLIMIT_NICE)[0]
    return soft == resource.RLIM_INFINITY or soft >= _needed()


def raise_limit() -> None:
    """Let RLIMIT_NICE admit the nice value there is, and no lower one, where that may be done.

    Raises OSError.
    """
    hard = resource.getrlimit(resource.RLIMIT_NICE)[1]
    if hard != resource.RLIM_INFINITY:
        hard = max(hard, _needed())
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (_needed(), hard))
    except ValueError:
        return  # that needs CAP_SYS_RESOURCE, of the initial user namespace


def _needed() -> int:
    return _NICE_OFFSET - os.getpriority(os.PRIO_PROCESS, 0)


def rights_let_leave() -> bool:
    """Tell whether this thread, with the rights of now, may leave the idle class; by a proof.

    A lower nice value asks the kernel for what leaving that class asks for, and one can return
    from it with no right at all. Raises OSError where that return failed.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice <= _NICE_LOWEST:
        return False  # nothing is lower: the kernel would say yes, and prove nothing
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice - 1)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    return True


def enter_idle_class() -> bool:
    """Enter the idle class, from the normal one only. To be called by who has proven a way back."""
    try:
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False  # somebody has chosen something else for us
        os.sched_setscheduler(0, os.SCHED_IDLE, _NORMAL)
    except OSError:
        return False
    return True


def leave_idle_class() -> bool:
    """Return to the normal class with the nice value of before, and read back that it is so."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, _NORMAL)
        return os.sched_getscheduler(0) == os.SCHED_OTHER
    except OSError:
        return False


def runnable() -> int:
    """Return how many tasks of the machine run or wait for a processor, this one included.

    Raises OSError, ValueError or IndexError where that cannot be had.
    """
    # whoever may mount may have put a FIFO there: it must not make us wait
    load = os.open(proc("loadavg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return int(os.read(load, _LOAD_ROOM).split(None, 4)[3].partition(b"/")[0])
    finally:
        os.close(load)
