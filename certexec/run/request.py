"""Somebody who waits for a plan from the resident server."""

from __future__ import annotations

import _socket
import os

from certexec.run.server_socket import SO_PASSCRED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.peer import Caller
    from certexec.run.undertaker import Undertaker

_CREDENTIALS = 12
"""bytes of a struct ucred"""


class Request:
    """One connection, and who is at its other end.

    Attributes:
        pid, uid: who connected, and with which effective id, by the kernel's word.
        pidfd: -1 where there is none; deadline: when it must have said who it is; caller: what is
            known of it by then.
    """

    __slots__ = ("caller", "connection", "deadline", "pid", "pidfd", "uid")

    def __init__(self, connection: _socket.socket, deadline: float) -> None:
        """``deadline``: as time.monotonic() has it. Raises OSError."""
        self.connection = connection
        self.deadline = deadline
        packed = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
        self.pid, self.uid = (int.from_bytes(packed[at : at + 4], "little") for at in (0, 4))
        self.pidfd = -1
        self.caller: Caller | None = None

    def fds(self) -> list[int]:
        """Return the descriptors that a process needs that is to serve it."""
        return [one for one in (self.connection.fileno(), self.pidfd) if one >= 0]

    def close(self, undertaker: Undertaker) -> None:
        """Let the launcher go elsewhere."""
        undertaker.bury(self.connection)
        self.forget()

    def close_served(self, undertaker: Undertaker) -> None:
        """Close what a child has answered, at less cost where nothing was left behind.

        1. From here on nobody sends. Whoever asks can have got hold of the launcher's end, and have
           sent more than the child took.
        2. Of any message, an empty one too, the kernel would tell the sender; it is left there.
        """
        connection = self.connection
        try:
            # 1.
            connection.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone
        # 2.
        connection.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 1)
        try:
            _, sender, flags, _ = connection.recvmsg(
                1, _socket.CMSG_SPACE(_CREDENTIALS), _socket.MSG_PEEK | _socket.MSG_DONTWAIT
            )
        except OSError:
            return self.close(undertaker)  # it ended without having read all
        if sender or flags & _socket.MSG_CTRUNC:
            return self.close(undertaker)
        connection.close()
        return self.forget()

    def forget(self) -> None:
        """Close what was only needed to find out who asks."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
