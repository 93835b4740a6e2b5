"""The door to the scheduler that Python's os leaves closed: where a thread runs, and its limits.

Sources: sched(7), getcpu(2), getrlimit(2), proc_loadavg(5).
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
_LOAD_ROOM = 64
"""bytes of /proc/loadavg, which is shorter."""
_processor = ctypes.create_string_buffer(4)


def processor() -> int:
    """Return the number of the processor that this thread runs on. Raises OSError."""
    syscall(_GETCPU, _processor, None, None)
    return int.from_bytes(_processor.raw, "little")


def may_leave_idle_class() -> bool:
    """Tell whether this process may go back from SCHED_IDLE to SCHED_OTHER with its nice value.

    Who may raise its limits lets itself, as far as that and no further. Raises OSError.
    """
    needed = _NICE_OFFSET - os.getpriority(os.PRIO_PROCESS, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NICE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    try:
        if hard != resource.RLIM_INFINITY:
            hard = max(hard, needed)
        resource.setrlimit(resource.RLIMIT_NICE, (needed, hard))
    except ValueError:  # that needs CAP_SYS_RESOURCE
        return False
    return True


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
