"""A question to an agent about one call, asked without ever waiting for it.

The loop of the supervisor looks after it as after calls that block: ``done`` takes the next step,
whatever it is. Nothing but a whole right answer, in time, of an agent that counts is a permission.

Whether an agent counts is the kernel's word about the process that listens, and that sends: its
uid; that it lives, so that its number means it; and that it has no more system call filters than
the supervisor itself, which every process of the confined tree has.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct
import time

from certexec.errors import CertexecError, TrustError
from certexec.kernel.ownership import check_chain
from certexec.kernel.procfs import own_fd, proc, read_file
from certexec.run import agent_protocol as protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.observe.event import Event

NO_AGENT = "no agent"
TIMED_OUT = "time-out"
BAD_AGENT = "bad agent"
"""It ended, or said something that is no answer."""
REFUSED = "denied"
TOO_MANY = "too many"
WITHDRAWN = "withdrawn"
PERMITTED = "permitted"

_SO_PEERPIDFD = 77
"""Linux 6.5; not in every Python's _socket."""
_CREDENTIALS = struct.Struct("iII")
_INT = struct.Struct("i")
_GONE = (errno.ENOENT, errno.ECONNREFUSED, errno.EACCES, errno.EPROTOTYPE)


class Place:
    """Where an agent may be, and whose it must be."""

    __slots__ = ("directory", "uids")

    def __init__(self, directory: str, uids: Sequence[int]) -> None:
        self.directory = directory
        self.uids = uids

    def open(self) -> int:
        """Open the directory that nobody else can write to. Raises OSError, TrustError."""
        return check_chain(self.directory, frozenset(self.uids))


def places_for(uid: int, grant: bool) -> list[Place]:
    """Return where to look for the agent of who runs a program, the first that answers counts.

    Where the certificate grants something only root's counts: the invoker must not permit himself
    what the signer left open.
    """
    root = Place(protocol.directory_of(0), (0,))
    if grant or uid == 0:
        return [root]
    return [Place(protocol.directory_of(uid), (uid, 0)), root]


class Inquiry:
    """One question and its way to an answer.

    Attributes:
        outcome: "" while it is open; an answer of the protocol, or one of the words above.
    """

    def __init__(
        self, number: int, event: Event, places: Sequence[Place],
        judged: str = protocol.ARGUMENTS,
    ) -> None:  # fmt: skip
        """``judged``: what an answer is about, ARGUMENTS or REGISTERS of the protocol."""
        self.number = number
        self.event = event
        self.judged = judged
        self.outcome = ""
        self._places = list(places)
        self._uids: Sequence[int] = ()
        self._socket: _socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._greeted = False
        self._end = time.monotonic() + protocol.TIME_LIMIT

    def step(self) -> bool:
        """Do what can be done now; True when there is an outcome."""
        if not self.outcome:
            try:
                self._go_on()
            except (OSError, ValueError, CertexecError):
                self.end(BAD_AGENT)
        if not self.outcome and time.monotonic() > self._end:
            self.end(TIMED_OUT)
        return self.outcome != ""

    def end(self, outcome: str) -> None:
        """Settle it; the agent sees its end of the connection close."""
        if not self.outcome:
            self.outcome = outcome
        self._leave()

    def _leave(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _go_on(self) -> None:
        while self._socket is None:
            if not self._places:
                return self.end(NO_AGENT)
            if not self._connect(self._places[0]):
                return None
        data = self._receive()
        if data is None:
            return None
        if self._greeted:
            return self.end(protocol.read_answer(data, self.number) or BAD_AGENT)
        if not protocol.is_accepted(data):
            return self.end(BAD_AGENT)
        self._greeted = True
        left = max(self._end - time.monotonic(), 0.0)
        self._socket.send(
            protocol.question(
                self.number, self.event, time.time() + left, int(left * 1000), self.judged
            ),
            _socket.MSG_NOSIGNAL,
        )
        return None

    def _connect(self, place: Place) -> bool:
        """Reach the agent of a place; False: it has no room yet. Without one, forget the place."""
        made = protocol.new_socket()
        try:
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
            directory = place.open()
            try:
                made.connect(f"{own_fd(directory)}/{protocol.SOCKET}")
            finally:
                os.close(directory)
            self._socket, self._uids = made, place.uids
            self._examine()
            made.send(protocol.offer(), _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            made.close()
            self._socket = None
            return False
        except (OSError, TrustError) as error:
            made.close()
            self._leave()
            if isinstance(error, OSError) and error.errno not in _GONE:
                raise
        self._places.pop(0)
        return True

    def _examine(self) -> None:
        """Raise PermissionError unless the process that listens is an agent that counts."""
        assert self._socket is not None
        data = self._socket.getsockopt(
            _socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size
        )
        self._pid, uid, _ = _CREDENTIALS.unpack(data)
        if uid not in self._uids or self._pid <= 0:
            raise PermissionError(errno.EACCES, "somebody else's agent")
        try:
            self._pidfd = self._socket.getsockopt(_socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError as error:
            # older kernels: root's programs could say they are another process, so nobody counts
            if error.errno != errno.ENOPROTOOPT or os.geteuid() == 0:
                raise PermissionError(errno.EACCES, "who listens cannot be told") from None
            self._pidfd = os.pidfd_open(self._pid)
        if _filters(self._pid) > _filters("self") or not self._lives():
            raise PermissionError(errno.EACCES, "a confined process is no agent")

    def _lives(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def _receive(self) -> bytes | None:
        """Take the next message, None when there is none yet. Raises OSError for a strange one."""
        assert self._socket is not None
        try:
            data, extra, flags, _ = self._socket.recvmsg(
                protocol.ANSWER_MAX, _socket.CMSG_SPACE(_CREDENTIALS.size),
                _socket.MSG_CMSG_CLOEXEC,
            )  # fmt: skip
        except BlockingIOError:
            return None
        if not data or flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(extra) != 1:
            raise OSError(errno.EBADMSG, "it ended, or said too much")
        level, kind, content = extra[0]
        if (level, kind, len(content)) != (
            _socket.SOL_SOCKET, _socket.SCM_CREDENTIALS, _CREDENTIALS.size
        ):  # fmt: skip
            _close_all(content)
            raise OSError(errno.EBADMSG, "something else than words")
        pid, uid, _ = _CREDENTIALS.unpack(content)
        if pid != self._pid or uid not in self._uids or not self._lives():
            raise PermissionError(errno.EACCES, "somebody else answers")
        return data


def _close_all(content: bytes) -> None:
    for (fd,) in _INT.iter_unpack(content[: len(content) - len(content) % _INT.size]):
        os.close(fd)


def _filters(pid: object) -> int:
    """Return how many system call filters a process has. Raises OSError where nothing tells.

    Before Linux 5.9 the kernel says only whether there is any.
    """
    text = read_file(proc(pid, "status"))
    for name in (b"\nSeccomp_filters:", b"\nSeccomp:"):
        _, found, rest = text.partition(name)
        if found:
            return int(rest.split(None, 1)[0])
    raise OSError(errno.ENOSYS, "no filters are told of")
