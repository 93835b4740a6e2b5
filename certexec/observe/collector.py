"""Events to a collector on the network, as RFC 5424 messages over UDP or TCP.

UDP: one datagram each (RFC 5426). TCP: each with its length in front (octet counting, RFC 6587
3.4.1), so that nothing in a message can end it. Like every sink this one waits for nobody: what a
collector that is away, or slow, does not take is counted and told to it later.

Neither encrypts nor proves who sends: where the network is not trusted, a collector on this machine
that forwards through TLS is the place to send to.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from certexec.errors import CertexecError, KernelError
from certexec.kernel.ownership import check_file
from certexec.observe.local_socket import has_room
from certexec.observe.rfc5424 import message
from certexec.observe.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

CONFIGURATION_MAX = 4096
"""bytes of the file that names the machine's collector."""
FORM = "write udp:ADDRESS:PORT or tcp:ADDRESS:PORT, with an IPv6 address in brackets"
PATIENCE = 50
"""milliseconds for a connection to be made, before the program goes on without."""
QUEUE_MAX = 64 << 10
"""bytes that are kept for a connection that is not there yet, or is slow."""
RETRY = 5.0
"""seconds after which a collector that could not be reached is tried again."""
_FLAGS = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
_WAIT = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY)


class Address:
    """Where a collector listens: transport ("udp" or "tcp"), host (a number) and port."""

    __slots__ = ("host", "port", "transport")

    def __init__(self, transport: str, host: str, port: int) -> None:
        self.transport = transport
        self.host = host
        self.port = port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``udp:192.0.2.1:514`` or ``tcp:[2001:db8::1]:601``. Raises KernelError("usage")."""
    transport, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    family = _socket.AF_INET6 if ":" in plain else _socket.AF_INET
    try:
        _socket.inet_pton(family, plain)
    except OSError:
        number = 0
    bare = (":" in plain) == (plain != host)
    if transport not in ("udp", "tcp") or not 0 < number <= 0xFFFF or not bare:
        raise KernelError("usage", f'"{text}" is no address of a collector', FORM)
    return Address(transport, plain, number)


class Collector(Sink):
    """The collector at an address; ``problem``: why there is none although one was named."""

    __slots__ = ("_address", "_queue", "_ready", "_retry", "_sent", "_socket", "problem")
    name = "the collector"

    def __init__(self, address: Address | None, problem: str = "") -> None:
        super().__init__(there=True)
        self.problem = problem
        self._address = address
        self._socket: _socket.socket | None = None
        self._ready = False
        self._queue: list[tuple[bytes, int]] = []  # messages for TCP, and their events
        self._sent = 0  # bytes of the first of them
        self._retry = 0.0

    def deliver(self, record: Record) -> None:
        """Send one message, or over TCP keep it while there is room and hope of a connection."""
        address = self._address
        if address is None:
            raise OSError(errno.EINVAL, self.problem)
        data = message(record)
        if address.transport == "udp":
            connected = self._socket or self._connect(address)
            try:
                connected.send(data)
            except ConnectionRefusedError:
                connected.send(data)  # that was the answer to an earlier one
            return
        self._advance(address)
        framed = b"%d %b" % (len(data), data)
        if sum(len(kept) for kept, _ in self._queue) + len(framed) > QUEUE_MAX:
            raise OSError(errno.EAGAIN, "the collector does not read")
        self._queue.append((framed, record.count))
        self._flush()

    def complete(self) -> None:
        """Send what is kept. Raises OSError where that is not possible yet."""
        if self._queue and self._address is not None:
            self._advance(self._address)
            self._flush()
        if self._queue:
            raise OSError(errno.EAGAIN, self.why or "the collector does not read")

    def finish(self, milliseconds: int) -> bool:
        """Tell what is untold yet; what is kept then is lost."""
        done = super().finish(milliseconds)
        self.lost += sum(count for _, count in self._queue)
        self._queue.clear()
        return done and not self.lost

    def wait(self, milliseconds: int) -> bool:
        """Wait until the collector is there and has room."""
        return has_room(self._socket, milliseconds)

    def _advance(self, address: Address) -> None:
        """Go on towards a connection; raises OSError where there is none to hope for now."""
        if self._socket is not None and self._ready and self._is_closed():
            self._drop()
            self._retry = 0.0
        if self._socket is None:
            if time.monotonic() < self._retry:
                raise OSError(errno.ENOTCONN, self.why or "not connected")
            self._retry = time.monotonic() + RETRY
            self._connect(address)
            self.wait(PATIENCE)
        assert self._socket is not None
        if not self._ready:
            failure = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if failure:
                self._drop()
                raise OSError(failure, os.strerror(failure))
            self._ready = self._is_connected()
            if not self._ready and time.monotonic() >= self._retry:
                self._drop()
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _flush(self) -> None:
        """Send what is kept, as far as the connection takes it."""
        while self._ready and self._queue and self._socket is not None:
            framed, _ = self._queue[0]
            try:
                self._sent += self._socket.send(framed[self._sent :], _socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno not in _WAIT:
                    self._drop()  # the next connection gets the whole message
                return
            if self._sent == len(framed):
                del self._queue[0]
                self._sent = 0

    def _connect(self, address: Address) -> _socket.socket:
        family = _socket.AF_INET6 if ":" in address.host else _socket.AF_INET
        udp = address.transport == "udp"
        kind = _socket.SOCK_DGRAM if udp else _socket.SOCK_STREAM
        made = _socket.socket(family, kind | _FLAGS)
        try:
            made.connect((address.host, address.port))
        except OSError as error:
            if error.errno not in _WAIT:
                made.close()
                raise
        self._socket = made
        self._ready = False
        return made

    def _is_connected(self) -> bool:
        assert self._socket is not None
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _is_closed(self) -> bool:
        """Tell whether the collector hung up: the next message would be lost without a word."""
        assert self._socket is not None
        try:
            return not self._socket.recv(4096)
        except OSError as error:
            return error.errno not in _WAIT

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._ready = False
        self._sent = 0


def configured(path: str) -> Collector:
    """Return the collector that root named in a file: one line, as ``parse_address`` reads it.

    A file that others could write, or that names none, gives a collector that loses everything and
    says why: what root asked for is not silently left out.
    """
    try:
        fd = check_file(path)
        try:
            data = os.read(fd, CONFIGURATION_MAX + 1)
        finally:
            os.close(fd)
        lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
        named = [line for line in lines if line and not line.startswith("#")]
        if len(named) != 1 or len(data) > CONFIGURATION_MAX:
            raise KernelError("usage", f'"{path}" does not name one collector', FORM)
        return Collector(parse_address(named[0]))
    except CertexecError as error:
        return Collector(None, error.message)
    except OSError as error:
        return Collector(None, f'"{path}": {error.strerror}')
