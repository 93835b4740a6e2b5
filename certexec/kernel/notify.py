"""The door to seccomp user notification: receive, check, answer, hand over descriptors.

Sources: seccomp_unotify(2), linux/seccomp.h.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from certexec.kernel.doors import compiled

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_ADDFD = 0x40182103
_SET_FLAGS = 0x40082104

_NOTIF = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, then struct seccomp_data
_RESP = struct.Struct("=QqiI")
_ADD = struct.Struct("=QIIII")
_ID = struct.Struct("=Q")

RECEIVE_ENDS = (6, 12)
"""The Linux from which on SECCOMP_IOCTL_NOTIF_RECV returns when the last process under the filter
has ended. Older ones leave whoever waits there waiting for ever: there poll(2) has to say it."""
RESPONSE_CONTINUE = 1
"""SECCOMP_USER_NOTIF_FLAG_CONTINUE: only for verdicts that depend on registers alone."""
_SYNC_WAKE_UP = 1
O_CLOEXEC = 0o2000000
ERESTARTSYS = 512
"""Not an errno of user space: tells the kernel to restart the call after its signal handler."""


def _receive(listener: int) -> tuple[int, int, int, int, tuple[int, ...]] | None:
    """Take the next notification; None when its caller died or a signal came first."""
    buffer = bytearray(_NOTIF.size)  # the kernel insists on zeroes
    try:
        fcntl.ioctl(listener, _RECV, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
            return None
        raise
    fields = _NOTIF.unpack(buffer)
    return fields[0], fields[1], fields[3], fields[4], fields[6:]


def _is_valid(listener: int, cookie: int) -> bool:
    try:
        fcntl.ioctl(listener, _ID_VALID, _ID.pack(cookie))
    except InterruptedError:
        return _is_valid(listener, cookie)
    except OSError:
        return False
    return True


def _add_fd(listener: int, cookie: int, fd: int, flags: int) -> int:
    """Install a copy of ``fd`` in the caller. Raises OSError (EMFILE, ...)."""
    request = bytearray(_ADD.pack(cookie, 0, fd, 0, flags))
    try:
        number: int = fcntl.ioctl(listener, _ADDFD, request)  # mutable: then it gives its result
        return number
    except InterruptedError:
        return _add_fd(listener, cookie, fd, flags)


def _respond(listener: int, cookie: int, value: int, error: int, flags: int) -> bool:
    try:
        fcntl.ioctl(listener, _SEND, _RESP.pack(cookie, value, error, flags))
    except InterruptedError:
        return _respond(listener, cookie, value, error, flags)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.EINPROGRESS):
            return False  # the caller is gone, or has its answer already
        raise
    return True


if compiled is not None:
    _receive, _is_valid = compiled.receive, compiled.is_valid
    _add_fd, _respond = compiled.add_fd, compiled.respond


class Notification:
    """One system call that waits for our answer.

    Attributes:
        cookie: the kernel's id of this notification.
        tid: the calling thread, in our PID namespace (0: not visible from here).
        nr: the system call's number; arch: its AUDIT_ARCH value.
        args: the six argument registers, unsigned 64-bit.
    """

    __slots__ = ("arch", "args", "cookie", "nr", "tid")

    def __init__(self, cookie: int, tid: int, nr: int, arch: int, args: tuple[int, ...]) -> None:
        self.cookie = cookie
        self.tid = tid
        self.nr = nr
        self.arch = arch
        self.args = args


class Listener:
    """The listening end of a filter; owns the descriptor."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def wake_synchronously(self) -> bool:
        """Ask for same-CPU wake-ups (SECCOMP_IOCTL_NOTIF_SET_FLAGS, Linux 6.6); False: too old."""
        try:
            fcntl.ioctl(self.fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            return False
        return True

    def receive(self) -> Notification | None:
        """Take the next notification; None when its caller died or a signal came first."""
        fields = _receive(self.fd)
        return None if fields is None else Notification(*fields)

    def is_valid(self, cookie: int) -> bool:
        """Tell whether the caller still waits for ``cookie``.

        Whatever was read through its thread id before this says True was read from that thread:
        a dead caller's id may belong to another process by now.
        """
        return _is_valid(self.fd, cookie)

    def answer(self, cookie: int, value: int = 0, error: int = 0) -> bool:
        """End the call with ``value``, or with the positive errno ``error``.

        False: the caller is gone, or the call was answered before.
        """
        return _respond(self.fd, cookie, 0 if error else value, -error, 0)

    def resume(self, cookie: int) -> bool:
        """Let the kernel run the call as the caller's registers and memory now say."""
        return _respond(self.fd, cookie, 0, 0, RESPONSE_CONTINUE)

    def answer_with_fd(self, cookie: int, fd: int, close_on_exec: bool) -> tuple[int, int]:
        """Install a copy of ``fd`` in the caller and end the call with its number.

        Returns (number, 0), or (-1, errno) with what the caller would have got (EMFILE, ...).

        In two steps. SECCOMP_ADDFD_FLAG_SEND would do it in one, but that waits for the caller to
        take the descriptor, and whatever breaks the wait off (a signal, a stop, a freezer, a
        machine that suspends) leaves the call answered with 0 and no descriptor: the caller would
        take its standard input for the file that it opened. Without the flag it is still
        unanswered then, and the kernel says whether it has the descriptor. Between the steps only
        death takes the caller away (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).
        """
        try:
            number = self.install_fd(cookie, fd, close_on_exec)
        except OSError as error:
            return -1, error.errno or errno.EIO
        _respond(self.fd, cookie, number, 0, 0)
        return number, 0

    def install_fd(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        """Install a copy of ``fd`` in the caller, which waits on. Raises OSError (EMFILE, ...)."""
        return _add_fd(self.fd, cookie, fd, O_CLOEXEC if close_on_exec else 0)
