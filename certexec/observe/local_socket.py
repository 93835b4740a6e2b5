"""A socket of a daemon on this machine (unix(7)) that is not allowed to hold anybody up."""

from __future__ import annotations

import _socket
import errno
import select

PATIENCE = 50
"""milliseconds for a daemon to make room. A queue may be as short as ten datagrams
(net.unix.max_dgram_qlen), so one that works gets time to catch up; one that does not is given this
time once, and then no more until it works again."""
_GONE = (errno.ECONNREFUSED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET)
_FLAGS = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


def has_room(socket: _socket.socket | None, milliseconds: int) -> bool:
    """Wait until something can be sent; False: there is no socket, or no room by then."""
    if socket is None:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLOUT)
    return bool(poll.poll(milliseconds))


class LocalSocket:
    """Sends messages to the daemon behind ``path``, whenever there is one.

    It is looked for at the first message, and again after it went away.
    """

    __slots__ = ("_patient", "_socket", "_stream", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: _socket.socket | None = None
        self._stream = False
        self._patient = True

    def send(self, data: bytes) -> None:
        """Send one message; raises OSError when nobody is there, or nobody takes it."""
        for again in (True, False):
            if self._socket is None:
                self._socket = self._connect()
            try:
                self._put(self._socket, data)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    self._patient = again and self._patient and self.wait(PATIENCE)
                    if self._patient:
                        continue
                elif error.errno in _GONE:
                    self._drop()
                    if again:
                        continue  # a daemon that was started anew
                raise
            self._patient = True
            return

    def wait(self, milliseconds: int) -> bool:
        """Wait until the daemon has room."""
        return has_room(self._socket, milliseconds)

    def _connect(self) -> _socket.socket:
        kinds = (_socket.SOCK_DGRAM, _socket.SOCK_STREAM)
        for kind in kinds:
            made = _socket.socket(_socket.AF_UNIX, kind | _FLAGS)
            try:
                made.connect(self.path)
            except OSError as error:
                made.close()
                if error.errno != errno.EPROTOTYPE or kind == kinds[-1]:
                    raise
            else:
                self._stream = kind == _socket.SOCK_STREAM
                return made
        raise AssertionError(self.path)

    def _put(self, connected: _socket.socket, data: bytes) -> None:
        if not self._stream:
            connected.send(data, _socket.MSG_NOSIGNAL)
            return
        data += b"\0"  # ends a message, as in the C library's syslog(3)
        if connected.send(data, _socket.MSG_NOSIGNAL) < len(data):
            self._drop()  # the rest of it must not come before the next
            raise OSError(errno.ENOBUFS, "sent in part only")

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
