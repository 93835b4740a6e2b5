"""The process that kill(2) is aimed at, where rules ask for its program (``pidname``).

A number can be another process's by the time the kernel looks at it. So the process is pinned by a
pidfd before its program is looked up, and the signal goes through that pidfd. The kernel would
count the supervisor's real uid, too, so kill(2)'s rule is applied here to the caller's ids, and
once more by the kernel to those that were taken. The receiver sees the caller's pid and user, as
of a signal that was queued.

A group has many members, with programs and ids of their own, so only the kernel can signal it. Its
name is that of its leader's program. Its number stays its own as long as it has members.
"""

from __future__ import annotations

import errno
import os
import select
import struct

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc, read_status
from certexec.run.call import Call, Fault, GoneError
from certexec.run.protection import CAP_KILL, may_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.credentials import Mask

UNKNOWN = "<unknown>"
_GROUP = "pg:"
_UNKNOWN_GROUP = "pg:unknown"
_PIDFD_SEND_SIGNAL = 424
_SIGCONT = 18
_SI_QUEUE = -1
_SIGINFO = struct.Struct("=iiiiiI104x")
"""siginfo_t of a queued signal: number, errno, code, padding, pid, uid, no value."""


class Target:
    """A process, or a group, by its number in a register.

    Attributes:
        text: the path of its program, UNKNOWN where there is none to be seen.
    """

    __slots__ = ("_group", "_pidfd", "_tgid", "text")

    def __init__(self, call: Call, named: dict[tuple[int, int], str]) -> None:
        """``named``: (device, inode) of a sealed copy to the path that stands for it.

        Raises Fault(EPERM) for a caller to whom numbers mean others than to us.
        """
        self._pidfd = -1
        self._tgid = 0
        number = call.int_arg(0)
        self._group = number < 0
        _check_numbers(call)
        try:
            self._tgid = read_status(abs(number)).tgid
            self._pidfd = os.pidfd_open(self._tgid)
        except (OSError, KeyError, ValueError):
            self.text = _UNKNOWN_GROUP if self._group else UNKNOWN
            return
        program = _program(self._tgid, named)
        if _has_ended(self._pidfd):
            program = ""  # it may have been the next one's of that number
        if self._group:
            self.text = _GROUP + program if program else _UNKNOWN_GROUP
        else:
            self.text = program or UNKNOWN

    def signal(self, call: Call, mask: Mask) -> None:
        """Carry kill(2) out with the caller's rights. Raises Fault with what the caller gets."""
        if self._group or self._tgid == call.task.tgid:
            # a group's number, and one's own, are nobody else's as long as there is who has them
            call.resume()
            return
        if self._pidfd < 0:
            raise Fault(errno.ESRCH)
        number = call.int_arg(1)
        try:
            status = read_status(self._tgid)
        except (OSError, KeyError, ValueError):
            raise Fault(errno.ESRCH) from None
        if not may_signal(call, self._tgid, status):
            if number == _SIGCONT and _same_session(call.task.tgid, self._tgid):
                call.resume()  # a right among the caller's own, which the kernel looks at again
                return
            raise Fault(errno.EPERM)
        info = _SIGINFO.pack(number, 0, _SI_QUEUE, 0, call.task.tgid, call.status.uids[0])
        by_effective = call.status.uids[1] in (status.uids[0], status.uids[2])
        real = not by_effective and not call.status.caps["eff"] & CAP_KILL
        call.still_waits()
        try:
            mask.assume(call.status, real)
            syscall(_PIDFD_SEND_SIGNAL, self._pidfd, number, info, 0)
        except OSError as error:
            raise Fault(error.errno or errno.EPERM) from None
        finally:
            mask.restore()
        call.finish(0)

    def close(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _check_numbers(call: Call) -> None:
    try:
        own, theirs = (os.stat(proc(who, "ns/pid")) for who in ("self", call.task.tid))
    except OSError:
        raise GoneError from None
    if not os.path.samestat(own, theirs):
        raise Fault(errno.EPERM)


def _program(tgid: int, named: dict[tuple[int, int], str]) -> str:
    path = proc(tgid, "exe")
    try:
        info = os.stat(path)
        return named.get((info.st_dev, info.st_ino)) or os.readlink(path)
    except OSError:
        return ""  # it has ended, is a thread of the kernel, or is not for us to see


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _same_session(one: int, other: int) -> bool:
    try:
        return os.getsid(one) == os.getsid(other)
    except OSError:
        return False
