"""Closes what strangers sent to the resident server, in a process that may wait for it.

Whoever closes a file last waits as its sender chose: for the other end of a socket (SO_LINGER), for
a file system in user space to write back. A message that nobody received is enough, for its
files go with the connection. So the server never closes such a connection last.
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


class Undertaker:
    """The process, and the way to it. Two at most are begun for one connection."""

    __slots__ = ("_leash", "_pid")

    def __init__(self) -> None:
        self._pid = 0
        self._leash: _socket.socket | None = None

    def bury(self, connection: _socket.socket) -> None:
        """Close a connection; who is at the other end sees it at once.

        1. the end is seen now, whatever has to be waited for;
        2. it goes to the process; one that waits too long for what it has makes room for another,
           and as it ends it waits for no socket;
        3. our own descriptor is not the last now, unless there can be no process.
        """
        # 1.
        try:
            connection.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone
        # 2.
        fd = array.array("i", [connection.fileno()]).tobytes()
        if not self._send(fd):
            self._replace()
            self._send(fd)
        # 3.
        connection.close()

    def _send(self, fd: bytes) -> bool:
        if self._leash is None:
            return False
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd)]
        try:
            self._leash.sendmsg([b"B"], rights, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
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
        while True:
            data, ancillary, _, _ = channel.recvmsg(
                1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC
            )
            for fd in descriptors(ancillary):
                os.close(fd)
            if not data:
                break
    finally:
        os._exit(0)
