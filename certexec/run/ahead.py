"""Begins an execution while it is still being found out who asks.

To examine a caller takes as long as to judge its certificate. So where the callers that came last
were all of one kind, a process that has served that kind gets the next connection at once. It reads
and judges, but neither answers nor touches anybody before it hears that the caller has been
examined and is of that kind (``GO``). If it is not, the process is killed, and the caller is served
as if there had been none: what it said is still there to be received.
"""

from __future__ import annotations

import _socket
import os

from certexec.run.channel import peer_pidfd
from certexec.run.server_socket import SO_PASSCRED
from certexec.run.warm import EARLY, SIGKILL, rights_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from certexec.run.peer import Caller
    from certexec.run.request import Request
    from certexec.run.warm import Child

TIMES_MIN = 2
"""callers of one kind after each other that make it a habit; a wrong guess costs a process."""


class Habit:
    """Of what kind the callers were that came last."""

    __slots__ = ("_key", "_times")

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._times = 0

    def note(self, caller: Caller) -> None:
        """Learn who came."""
        key = caller.key()
        self._times = self._times + 1 if key == self._key else 1
        self._key = key

    def expects(self, uid: int, elevated: bool, idle: Iterable[Child]) -> Child | None:
        """Return a process for who has these ids, if it probably is of the kind that came last."""
        if self._times < TIMES_MIN or self._key[0] != uid or self._key[3] != elevated:
            return None
        return next((one for one in idle if one.key == self._key), None)


def begin(child: Child, request: Request) -> bool:
    """Give a connection to a process ahead of time; False where that cannot be. Raises OSError.

    Only with a pidfd: the process must be able to tell that the number it asks about is not
    somebody else's by now.
    """
    connection = request.connection
    request.pidfd = peer_pidfd(connection)
    if request.pidfd < 0:
        return False
    connection.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 0)  # else every message brings them
    child.leash.sendmsg([EARLY], rights_of(request.fds()), _socket.MSG_NOSIGNAL)
    return True


def put_an_end_to(child: Child) -> None:
    """Kill a process whose caller was not the expected one, whatever it waits for."""
    os.kill(child.pid, SIGKILL)  # a child of ours that was not reaped: the number is its own
