"""No signal reaches the supervisor but the one by which its workers are woken."""

from __future__ import annotations

import _signal
import struct

from certexec.kernel.libc import syscall

LIBC_SIGNALS = (32, 33)
"""Real-time signals that the C library reserves for its threads and lets nobody set."""
_RT_SIGACTION = 13
_IGNORE = struct.pack("=4Q", 1, 0, 0, 0)  # struct kernel_sigaction: SIG_IGN, flags, restorer, mask
_SIGSET_SIZE = 8


def ignore_signals(wake: int) -> None:
    """Ignore whatever can be: with F_SETOWN a program may aim O_ASYNC's signal at us.

    ``wake`` only makes system calls return EINTR.
    """
    for number in range(1, _signal.NSIG):
        if number == _signal.SIGCHLD:
            continue  # tells of the tracees; ignored by default
        if _signal.getsignal(number) == _signal.SIG_IGN:  # type: ignore[attr-defined]
            continue  # by an execution before
        try:
            _signal.signal(number, _signal.SIG_IGN)
        except (OSError, ValueError):
            continue  # SIGKILL, SIGSTOP and those that libc keeps for itself
    for number in LIBC_SIGNALS:
        # by the raw call: libc has no use for them here, and left alone they would end us
        syscall(_RT_SIGACTION, number, _IGNORE, None, _SIGSET_SIZE)
    _signal.signal(wake, _nothing)
    _signal.siginterrupt(wake, True)


def _nothing(signal: int, frame: object) -> None:
    """The interrupted call does the work."""
