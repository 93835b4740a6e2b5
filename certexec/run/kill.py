"""The action ``kill``: the whole process of who calls ends, before its call has an answer."""

from __future__ import annotations

import errno
import os

from certexec.kernel.libc import syscall
from certexec.run.call import Call

_PIDFD_SEND_SIGNAL = 424
_SIGKILL = 9


def kill_caller(call: Call) -> None:
    """Kill the process that waits for this answer; its call never happens.

    By pidfd, taken while the caller certainly waits: a number could be another process's by now.
    Raises OSError where it may not be killed; the call is denied then, too.
    """
    try:
        pidfd = os.pidfd_open(call.task.tgid)
        try:
            call.still_waits()
            syscall(_PIDFD_SEND_SIGNAL, pidfd, _SIGKILL, None, 0)
        finally:
            os.close(pidfd)
    finally:
        # only now: an answer before the signal would let the caller take a few steps more
        if not call.answered:
            call.fail(errno.EPERM)
