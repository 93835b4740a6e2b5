"""The door to ptrace(2): seize, interrupt, continue, detach, and the stops between.

Only SEIZE with EXITKILL is offered: a tracer that dies takes its tracee along, so nothing runs on
unwatched. Requests must come from the thread that seized.
"""

from __future__ import annotations

import ctypes
import os

from certexec.kernel.libc import syscall

_PTRACE = 101
_CONT = 7
_DETACH = 17
_GETEVENTMSG = 0x4201
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_LISTEN = 0x4208
_O_EXITKILL = 0x100000
EXECS = 0x10
"""What to stop at: PTRACE_O_TRACEEXEC."""
FORKS = 0x2 | 0x4 | 0x8
"""PTRACE_O_TRACEFORK, TRACEVFORK, TRACECLONE: at new processes, which are seized from birth."""
_EVENT_FORKS = (1, 2, 3)
_EVENT_EXEC = 4
_EVENT_STOP = 128
_WALL = 0x40000000
_SIGTRAP = 5
_STOP_SIGNALS = (19, 20, 21, 22)

EXEC_STOP = "exec-stop"
"""A new image is in place, its first instruction has not run."""
FORK_STOP = "fork-stop"
"""A child was made; neither it nor its parent has gone on."""
INTERRUPT_STOP = "interrupt-stop"
GROUP_STOP = "group-stop"
SIGNAL_STOP = "signal-stop"
ENDED = "ended"


class Event:
    """One report of waitpid(2): a tracee stopped or ended.

    Attributes:
        pid: the tracee; after an exec the thread group's id, whichever thread called.
        kind: one of the constants above.
        signal: the signal to forward at SIGNAL_STOP, else 0.
        status: the raw wait status.
    """

    __slots__ = ("kind", "pid", "signal", "status")

    def __init__(self, pid: int, kind: str, signal: int, status: int) -> None:
        self.pid = pid
        self.kind = kind
        self.signal = signal
        self.status = status


def seize(pid: int, stops: int = EXECS) -> None:
    """Trace ``pid`` without stopping it; it dies with this process. Raises OSError.

    ``stops``: EXECS or FORKS.
    """
    syscall(_PTRACE, _SEIZE, pid, 0, stops | _O_EXITKILL)


def child_of(pid: int) -> int:
    """Return the child about which ``pid`` stands at its FORK_STOP. Raises OSError."""
    message = ctypes.create_string_buffer(8)
    syscall(_PTRACE, _GETEVENTMSG, pid, 0, message)
    return int.from_bytes(message.raw, "little")


def interrupt(pid: int) -> None:
    """Make a seized ``pid`` stop as soon as it can (PTRACE_INTERRUPT). Raises OSError."""
    syscall(_PTRACE, _INTERRUPT, pid, 0, 0)


def resume(pid: int, signal: int = 0) -> None:
    """Let a stopped tracee run on, delivering ``signal`` first. Raises OSError."""
    syscall(_PTRACE, _CONT, pid, 0, signal)


def listen(pid: int) -> None:
    """Leave a tracee in its group stop, as ^Z left it (PTRACE_LISTEN). Raises OSError."""
    syscall(_PTRACE, _LISTEN, pid, 0, 0)


def detach(pid: int, signal: int = 0) -> None:
    """Release a stopped tracee. Raises OSError."""
    syscall(_PTRACE, _DETACH, pid, 0, signal)


def release(pid: int, signal: int = 0) -> None:
    """Detach from a stopped tracee; one that was killed meanwhile is seen to its end."""
    try:
        detach(pid, signal)
    except OSError:
        see_end(pid)


def see_end(pid: int) -> None:
    """Wait for the end of a tracee that was killed: its parent learns of that only after us."""
    event = wait(pid)
    while event is not None and event.kind != ENDED:
        event = wait(pid)


def wait(pid: int = -1, block: bool = True) -> Event | None:
    """Classify the next report of tracee ``pid`` (-1: any); None: nothing yet, or no tracee."""
    try:
        who, status = os.waitpid(pid, _WALL | (0 if block else os.WNOHANG))
    except ChildProcessError:
        return None
    if who == 0:
        return None
    if not os.WIFSTOPPED(status):
        return Event(who, ENDED, 0, status)
    signal = os.WSTOPSIG(status)
    event = status >> 16
    if event == _EVENT_EXEC:
        return Event(who, EXEC_STOP, 0, status)
    if event in _EVENT_FORKS:
        return Event(who, FORK_STOP, 0, status)
    if event == _EVENT_STOP:
        kind = GROUP_STOP if signal in _STOP_SIGNALS else INTERRUPT_STOP
        return Event(who, kind, 0, status)
    return Event(who, SIGNAL_STOP, 0 if event else signal, status)
