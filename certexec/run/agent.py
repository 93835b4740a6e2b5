"""The agent's side of docs/agent.md: be the one who is asked, for a user interface or a test.

An agent shows what it was asked and passes the answer on. It decides nothing by itself, and a
question that it does not answer is denied when its time is over.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

from certexec.errors import RunError
from certexec.kernel.ownership import check_chain
from certexec.run import agent_protocol as protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BACKLOG = 64
"""connections that wait to be accepted: as many as one tree has questions."""
OPEN_MAX = 256
"""connections at a time; whoever comes then waits in the backlog."""
PATIENCE = 5.0
"""seconds for a supervisor to say what it asks; it does so at once."""
_CREDENTIALS = struct.Struct("iII")


class Question:
    """One call about which somebody asks.

    Attributes:
        event: the members of docs/events.md, with ``verdict`` "ask".
        deadline: RFC 3339; an answer after it is of no use. milliseconds: how long that was.
        by_registers: nothing but the call's number and registers is judged.
        asker_uid, asker_pid: whose supervisor asks, by the kernel's word; uid 0: for a tree with a
            grant, or one of root's.
    """

    def __init__(self, connection: _Connection, message: Mapping[str, object]) -> None:
        self._connection = connection
        self._number = message["id"]
        event = message["event"]
        self.event: dict[str, object] = dict(event) if isinstance(event, dict) else {}
        self.deadline = message.get("deadline", "")
        self.milliseconds = message.get("milliseconds", 0)
        self.by_registers = message.get("judged") == protocol.REGISTERS
        self.asker_uid = connection.uid
        self.asker_pid = connection.pid

    def answer(self, word: str) -> bool:
        """Answer with one of ``agent_protocol.ANSWERS``; False: nobody waits for it any more."""
        assert isinstance(self._number, int)
        return self._connection.send(protocol.answer(self._number, word))

    def is_withdrawn(self) -> bool:
        """Tell whether its caller has gone, was interrupted, or got its answer."""
        return self._connection.is_closed()


class _Connection:
    """A supervisor that has something to ask."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        data = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(data)
        self.greeted = self.asked = False
        self.since = time.monotonic()

    def send(self, data: bytes) -> bool:
        try:
            self.socket.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def is_closed(self) -> bool:
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def read(self) -> Question | None:
        """Take what there is. Raises OSError or RunError when there is no use in going on."""
        data = self.socket.recv(protocol.QUESTION_MAX + 1)
        if not data or len(data) > protocol.QUESTION_MAX or self.asked:
            raise RunError("malformed", "the supervisor has gone")
        message = protocol.read(data)
        if not self.greeted:
            versions = message.get("versions")
            if message.get("protocol") != protocol.PROTOCOL or not isinstance(versions, list):
                raise RunError("malformed", "no supervisor")
            if protocol.VERSION not in versions:
                raise RunError("unsupported", "a supervisor of another version")
            self.greeted = self.send(protocol.accept())
            return None
        if message.get("type") != "question" or not isinstance(message.get("id"), int):
            raise RunError("malformed", "no question")
        if "event" not in message:
            raise RunError("malformed", "a question about nothing")
        self.asked = True
        return Question(self, message)


class Agent:
    """Listens where supervisors look for the agent of this process's user.

    Only supervisors of that user, and root's, are listened to.
    """

    def __init__(self, directory: str | None = None) -> None:
        """Register. ``directory``: another one, for tests.

        Raises RunError: "exists" when there is an agent already, "not-found" when the place for
        it does not exist, and TrustError("trust-unsafe") when others could write there.
        """
        self.uid = os.geteuid()
        self.directory = protocol.directory_of(self.uid) if directory is None else directory
        try:
            os.mkdir(self.directory, 0o755 if self.uid == 0 else 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise RunError(
                "not-found", f'"{self.directory}" cannot be made: {error.strerror}',
                "the directory above it must exist; logging in makes it on most systems",
            ) from None  # fmt: skip
        os.close(check_chain(self.directory, frozenset((self.uid,))))
        self.path = f"{self.directory}/{protocol.SOCKET}"
        self._clear()
        self._socket = _new_socket()
        mask = os.umask(0o177)
        try:
            self._socket.bind(self.path)
        finally:
            os.umask(mask)
        self._socket.listen(BACKLOG)
        self._inode = os.stat(self.path).st_ino
        self._open: dict[int, _Connection] = {}

    def _clear(self) -> None:
        """Remove what an agent left that is gone."""
        probe = _new_socket()
        try:
            probe.connect(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise RunError("exists", f'there is an agent at "{self.path}"') from None
        else:
            raise RunError("exists", f'there is an agent at "{self.path}"')
        finally:
            probe.close()
        os.unlink(self.path)

    def wait(self, seconds: float | None = None) -> Question | None:
        """Wait for a question; None when the time is over. Keep it until it is answered."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            poll = select.poll()
            if len(self._open) < OPEN_MAX:
                poll.register(self._socket, select.POLLIN)
            for connection in self._open.values():
                poll.register(connection.socket, select.POLLIN)
            left = 1.0 if end is None else min(max(end - time.monotonic(), 0.0), 1.0)
            for fd, _ in poll.poll(left * 1000):
                question = self._look_at(fd)
                if question is not None:
                    return question
            self._drop_the_silent()
            if end is not None and time.monotonic() >= end:
                return None

    def _look_at(self, fd: int) -> Question | None:
        if fd == self._socket.fileno():
            try:
                made, _ = self._socket.accept()
            except OSError:
                return None
            made.setblocking(False)
            connection = _Connection(made)
            if connection.uid not in (0, self.uid):
                made.close()
                return None
            self._open[made.fileno()] = connection
            return None
        try:
            return self._open[fd].read()
        except BlockingIOError:
            return None
        except (OSError, RunError):
            self._open.pop(fd).socket.close()
            return None

    def _drop_the_silent(self) -> None:
        now = time.monotonic()
        for fd, connection in list(self._open.items()):
            if not connection.asked and now - connection.since > PATIENCE:
                self._open.pop(fd).socket.close()

    def close(self) -> None:
        """Be the agent no longer: what still waits is denied."""
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except OSError:
            pass
        for connection in self._open.values():
            connection.socket.close()
        self._open.clear()
        self._socket.close()


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made
