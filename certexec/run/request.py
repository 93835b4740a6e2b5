"""Somebody who waits for a plan from the resident server."""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.peer import Caller
    from certexec.run.undertaker import Undertaker


class Request:
    """One connection, and who is at its other end.

    Attributes:
        pidfd: -1 where there is none; deadline: when it must have said who it is; caller: what is
            known of it by then.
    """

    __slots__ = ("caller", "connection", "deadline", "pidfd", "uid")

    def __init__(self, connection: _socket.socket, deadline: float) -> None:
        """``deadline``: as time.monotonic() has it. Raises OSError."""
        self.connection = connection
        self.deadline = deadline
        packed = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        self.uid, self.pidfd = int.from_bytes(packed[4:8], "little"), -1
        self.caller: Caller | None = None

    def close(self, undertaker: Undertaker | None) -> None:
        """Let the launcher go elsewhere.

        Without ``undertaker``: all that it sent has been taken, so that nobody waits.
        """
        if undertaker is not None:
            undertaker.bury(self.connection)
        self.connection.close()
        self.forget()

    def forget(self) -> None:
        """Close what was only needed to find out who asks."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
