"""Closes what strangers sent to the resident server, in a process that may wait for it.

Whoever closes a file last waits as its sender chose: for the other end of a socket (SO_LINGER), for
a file system in user space to write back. A message that nobody received is enough, for its
files go with the connection. So the server never closes such a connection last, and nor does a
child of its that still has all that the server had open when it was forked.

A process that waits for a file system in user space waits on when it is killed, for as long as that
file system likes (measured, Linux 6.18: a page that is never written back). So there are only so
many; then connections are held, and so many of these keep the server from letting in more.
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
ENDING_MAX = 8
"""processes that were told to end and have not."""
HELD_MAX = 64
"""connections that are held because no process can take them."""
RETRY = 0.5
"""seconds until what is held is offered again: a process may have room by then."""
KEEP, CLOSE = b"K", b"C"
"""Keep what comes with this; close all that is kept."""


class Undertaker:
    """The process, and the way to it. Two at most are begun for one connection.

    Attributes:
        heirs: children that may still hold what was open when they were forked.
    """

    __slots__ = ("_due", "_ending", "_held", "_leash", "_pid", "heirs")

    def __init__(self) -> None:
        self._pid = 0
        self._leash: _socket.socket | None = None
        self._due = False
        self._ending: set[int] = set()
        self._held: list[_socket.socket] = []
        self.heirs: set[int] = set()

    @property
    def holds(self) -> bool:
        """Whether there is something to ``catch_up`` with, now and then."""
        return bool(self._held)

    @property
    def is_full(self) -> bool:
        """Whether nobody should be let in: their connections could not be closed."""
        return len(self._held) >= HELD_MAX

    def bury(self, connection: _socket.socket) -> None:
        """Close a connection; who is at the other end sees it at once.

        1. the end is seen now, whatever has to be waited for;
        2. it goes to the process;
        3. our own descriptor is not the last now; without a process it stays until there is one;
        4. nor will it be the last for that process to close until ours and the heirs' are.
        """
        # 1.
        try:
            connection.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone
        # 2.
        self._held.append(connection)
        self.catch_up()

    def catch_up(self) -> None:
        """Close what is held, as far as there is a process to take it."""
        while self._held and self.keep(self._held[-1]):
            # 3.
            self._held.pop().close()
            self._due = True
        # 4.
        if self._due:
            self._close()

    def keep(self, connection: _socket.socket) -> bool:
        """Have a connection open in the process, too; False where that cannot be.

        One that waits too long for what it has makes room for another, and as it ends it waits for
        no socket.
        """
        fd = array.array("i", [connection.fileno()]).tobytes()
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd)]
        if self._send(KEEP, rights):
            return True
        self._replace()
        return self._send(KEEP, rights)

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
        if len(self._ending) >= ENDING_MAX:
            return
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
            self._ending.add(self._pid)
            os.kill(self._pid, SIGKILL)

    def has_ended(self, pid: int) -> None:
        """Learn that a process was reaped: its number is not to be used any more."""
        self._ending.discard(pid)
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
