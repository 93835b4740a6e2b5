"""Which signals reach the resident server, and which a supervisor."""

from __future__ import annotations

import _signal
import os
import struct

from certexec.kernel.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGHUP, SIGINT, SIGTERM, SIGCHLD = 1, 2, 15, 17
LIBC_SIGNALS = (32, 33)
"""Real-time signals that the C library reserves for its threads and lets nobody set."""
_RT_SIGACTION = 13
_IGNORE = struct.pack("=4Q", 1, 0, 0, 0)  # struct kernel_sigaction: SIG_IGN, flags, restorer, mask
_SIGSET_SIZE = 8
AGAIN = (SIGHUP, SIGINT, SIGTERM)
"""What the end of an execution gives back to a process that serves several (warm.py)."""
_ignores = 0
"""The process that ignores all others already."""


def ignore_signals(wake: int) -> None:
    """Ignore whatever can be: with F_SETOWN a program may aim O_ASYNC's signal at a supervisor.

    ``wake`` only makes system calls return EINTR.
    """
    global _ignores
    own = os.getpid()
    if _ignores == own:  # by an execution before
        for number in AGAIN:
            _signal.signal(number, _signal.SIG_IGN)
        return
    for number in range(1, _signal.NSIG):
        if number == SIGCHLD:
            continue  # tells of the tracees; ignored by default
        try:
            _signal.signal(number, _signal.SIG_IGN)
        except (OSError, ValueError):
            continue  # SIGKILL, SIGSTOP and those that libc keeps for itself
    for number in LIBC_SIGNALS:
        # by the raw call: libc has no use for them here, and left alone they would end us
        syscall(_RT_SIGACTION, number, _IGNORE, None, _SIGSET_SIZE)
    _signal.signal(wake, _nothing)
    _signal.siginterrupt(wake, True)
    _ignores = own


def listen_until(end: Callable[[int, object], None]) -> int:
    """Return a descriptor that becomes readable with each signal that matters to a server.

    ``end`` is called for those that tell it to end.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (SIGCHLD, SIGHUP):
        _signal.signal(number, _nothing)
    for number in (SIGTERM, SIGINT):
        _signal.signal(number, end)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _nothing(signal: int, frame: object) -> None:
    """The interrupted call, or the wake-up descriptor, does the work."""
