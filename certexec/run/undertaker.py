"""Closes what strangers sent to the resident server, in a process that may wait for it.

Whoever closes a file last waits as its sender chose: for the other end of a socket (SO_LINGER), for
a file system in user space to write back. A message that nobody received is enough, for its
files go with the connection. So the server never closes such a connection last, and nor does a
child of its that still has all that the server had open when it was forked.
"""

from __future__ import annotations

import _socket
import array
import os

from certexec.run.warm import LEASH, descriptors, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SIGKILL = 9
KEEP, CLOSE = b"K", b"C"
"""Keep what comes with this; close all that is kept."""


class Undertaker:
    """The process, and the way to it. Two at most are begun for one connection.

    Attributes:
        heirs: children that may still hold what was open when they were forked.
    """

    __slots__ = ("_due", "_leash", "_pid", "heirs")

    def __init__(self) -> None:
        self._pid = 0
        self._leash: _socket.socket | None = None
        self._due = False
        self.heirs: set[int] = set()

    def bury(self, connection: _socket.socket) -> None:
        """Close a connection; who is at the other end sees it at once.

        1. the end is seen now, whatever has to be waited for;
        2. it goes to the process;
        3. our own descriptor is not the last now, unless there can be no process;
        4. nor will it be the last for that process to close until ours and the heirs' are.
        """
        # 1.
        try:
            connection.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone
        # 2.
        self.keep(connection)
        # 3.
        connection.close()
        # 4.
        self._due = True
        self._close()

    def keep(self, connection: _socket.socket) -> None:
        """Have a connection open in the process, too.

        One that waits too long for what it has makes room for another, and as it ends it waits for
        no socket.
        """
        fd = array.array("i", [connection.fileno()]).tobytes()
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd)]
        if not self._send(KEEP, rights):
            self._replace()
            self._send(KEEP, rights)

    def settled(self, pid: int) -> None:
        """Learn that a child has closed all that is not its own, or has ended."""
        self.heirs.discard(pid)
        if self._due:
            self._close()

    def _close(self) -> None:
        if not self.heirs:  # where there is no room, the next one replaces the process
            self._due = not self._send(CLOSE, [])

    def _send(self, what: bytes, rights: list[tuple[int, int, bytes]]) -> bool:
        if self._leash is None:
            return False
        try:
            self._leash.sendmsg([what], rights, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def _replace(self) -> None:
        self.end()
        try:
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            pid = os.fork()
        except OSError:
            return
        if pid == 0:
            _work(theirs.fileno())
        theirs.close()
        self._pid, self._leash = pid, ours

    def end(self) -> None:
        """End the process, if there is one; it is reaped with the others."""
        if self._leash is not None:
            self._leash.close()
            self._leash = None
            os.kill(self._pid, SIGKILL)

    def has_ended(self, pid: int) -> None:
        """Learn that a process was reaped: its number is not to be used any more."""
        if pid == self._pid and self._leash is not None:
            self._leash.close()
            self._leash = None


def _work(leash: int) -> NoReturn:
    try:
        settle(leash)
        channel = _socket.socket(fileno=LEASH)
        kept: list[int] = []
        data = KEEP
        while data:
            data, ancillary, _, _ = channel.recvmsg(
                1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC
            )
            kept += descriptors(ancillary)
            while data == CLOSE and kept:
                os.close(kept.pop())
    finally:
        os._exit(0)
