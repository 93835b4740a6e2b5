"""The server's end of the socket to the launcher: one packet is one message.

docs/plan-format.md describes the messages, binfmt/plan.h is the other side. A launch is

    server > launcher   READY    I am process PID, you may let me trace you (run form only)
    launcher > server   HELLO    who I am, how many arguments; the certificate's descriptor
    server > launcher   REPLY    a refusal, or a plan's size with the program's descriptor
    server > launcher   PLAN     the plan, in as many packets as it takes
    launcher > server   'L'      the filter's listener, where the plan has one

then the launcher's end closes: the program runs, or the launcher said why not and ended.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

from certexec.errors import RunError
from certexec.reasons import EXIT_INTERNAL, EXIT_NOT_FOUND

VERSION = 1
READY_MAGIC = b"CXS1"
HELLO_MAGIC = b"CXH1"
REPLY_MAGIC = b"CXR1"
HELLO_SECURE = 1
"""The kernel set AT_SECURE: the certificate's set-user-ID bit changed the effective uid."""
HELLO_RUN_FORM = 2
"""Started by ``certexec run``, not by the kernel."""
TEXT_MAX = 1023
"""bytes of a refusal; the launcher's buffer has 1024 with a NUL."""
CHUNK = 65536
"""bytes of a plan in one packet: below the smallest default of a socket's send buffer."""

SO_PEERPIDFD = 77
"""Since Linux 6.5; the C library's headers may not know it yet."""
_KIND_REFUSE, _KIND_PLAN = 0, 1
_READY = struct.Struct("<4sI")
_HELLO = struct.Struct("<4s9I")
_REPLY = struct.Struct("<4s4I")
_CREDENTIALS = struct.Struct("<iII")
_FD_NUMBER = struct.Struct("i")
_FD = _FD_NUMBER.size
_HINT = "\ncertexec: hint: "


class Hello:
    """What the launcher says about itself.

    Attributes:
        cert_fd: the open certificate, -1 in the run form.
        secure: whether AT_SECURE was set; run_form: whether ``certexec run`` started it.
        argc: number of the program's arguments, argv[0] included.
        ruid, euid, suid, rgid, egid, sgid: its ids.
    """

    __slots__ = (
        "argc", "cert_fd", "egid", "euid", "rgid", "ruid", "run_form", "secure", "sgid", "suid",
    )  # fmt: skip

    def __init__(self, flags: int, argc: int, ids: tuple[int, ...], cert_fd: int) -> None:
        self.secure = bool(flags & HELLO_SECURE)
        self.run_form = bool(flags & HELLO_RUN_FORM)
        self.argc = argc
        self.ruid, self.euid, self.suid, self.rgid, self.egid, self.sgid = ids
        self.cert_fd = cert_fd


class Channel:
    """The server's end. Every method raises RunError("internal") when the launcher is gone.

    Attributes:
        peer_pid, peer_uid, peer_gid: who made the socket pair, by the kernel's word
            (SO_PEERCRED): the launcher, with its effective ids.
    """

    __slots__ = ("_socket", "peer_gid", "peer_pid", "peer_uid")

    def __init__(self, fd: int) -> None:
        """Take over ``fd``. Raises RunError("internal") unless it is such a socket."""
        try:
            # told what it is, it does not ask the kernel; what matters is asked below
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)
            kind = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE)
            credentials = self._socket.getsockopt(
                _socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except OSError as error:
            raise RunError("internal", f"there is no launcher: {error.strerror}") from None
        if kind != _socket.SOCK_SEQPACKET:
            raise RunError("internal", "there is no launcher: the socket is of another type")
        self.peer_pid, self.peer_uid, self.peer_gid = _CREDENTIALS.unpack(credentials)
        os.set_inheritable(fd, False)

    def fileno(self) -> int:
        """Return the descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def is_over(self) -> bool:
        """Tell whether the other end is closed; a launcher's is as soon as it has ended."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def send_ready(self) -> None:
        """Open the conversation in the run form, where the server was there first."""
        self._send(ready())

    def recv_hello(self, *, stays: bool = False) -> Hello:
        """Receive the launcher's introduction; where it ``stays``, it can be received again."""
        data, fd = self._receive(_HELLO.size, flags=_socket.MSG_PEEK if stays else 0)
        hello = parse_hello(data, fd)
        if hello is None:
            raise self._malformed(fd)
        return hello

    def send_refusal(self, exit_code: int, message: str, hint: str = "") -> None:
        """Make the launcher print ``certexec: message``, the hint on a line of its own, and end.

        ``exit_code`` is 125, 126 or 127. What could move a terminal's cursor is escaped, and
        what is too long for one packet is cut. A launcher that is gone needs no refusal.
        """
        try:
            self._send(refusal(exit_code, message, hint))
        except RunError:
            return

    def send_plan(self, plan: bytes, program_fd: int) -> None:
        """Send an encoded plan and the descriptor that will be executed.

        The plan travels by value: the launcher validates its own copy, and no file has to be made
        (which RLIMIT_FSIZE could forbid).
        """
        self._send(plan_head(plan), program_fd)
        view = memoryview(plan)
        for start in range(0, len(plan), CHUNK):
            self._send(view[start : start + CHUNK])

    def recv_listener(self, timeout: float | None = None) -> int:
        """Wait for the filter's listener; -1 when the launcher ended or executed without it.

        ``timeout`` in seconds, None for none. Raises RunError("internal") when it is over.
        """
        self._socket.settimeout(timeout)
        try:
            data, fd = self._receive(1, end_is_error=False)
        finally:
            self._socket.settimeout(None)
        if not data:
            return -1
        if data != b"L" or fd < 0:
            raise self._malformed(fd)
        return fd

    def _send(self, data: bytes | memoryview, fd: int = -1) -> None:
        rights = []
        if fd >= 0:
            rights.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _FD_NUMBER.pack(fd)))
        try:
            self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise _gone(error) from None

    def _receive(
        self, size: int, *, end_is_error: bool = True, flags: int = 0
    ) -> tuple[bytes, int]:
        """Return one packet and its descriptor (-1: none); a longer or stranger one is refused."""
        try:
            data, ancillary, told, _ = self._socket.recvmsg(
                size, _socket.CMSG_SPACE(_FD), _socket.MSG_CMSG_CLOEXEC | flags
            )
        except ConnectionResetError as error:
            if end_is_error:
                raise _gone(error) from None
            return b"", -1
        except OSError as error:
            raise _gone(error) from None
        fds: list[int] = []
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                whole = content[: len(content) - len(content) % _FD]
                fds.extend(number for (number,) in _FD_NUMBER.iter_unpack(whole))
        strange = told & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(fds) > 1
        if strange:
            for fd in fds:
                os.close(fd)
            raise self._malformed(-1)
        if not data and end_is_error:
            raise RunError("internal", "the launcher ended")
        return data, fds[0] if fds else -1

    def _malformed(self, fd: int) -> RunError:
        if fd >= 0:
            os.close(fd)
        return RunError("internal", "the launcher's message is malformed")


def peer_pidfd(connection: _socket.socket) -> int:
    """Return a pidfd of who connected, -1 where the kernel has none to give (before Linux 6.5)."""
    try:
        return connection.getsockopt(_socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        return -1  # or it has ended


def parse_hello(data: bytes, fd: int) -> Hello | None:
    """Return what an introduction says, None for what is none; ``fd``: what came with it."""
    if len(data) != _HELLO.size:
        return None
    magic, version, flags, argc, *ids = _HELLO.unpack(data)
    if magic != HELLO_MAGIC or version != VERSION or flags & ~(HELLO_SECURE | HELLO_RUN_FORM):
        return None
    hello = Hello(flags, argc, tuple(ids), fd)
    return None if hello.run_form != (fd < 0) else hello


def ready() -> bytes:
    """Return the message that says: this process is at work on it."""
    return _READY.pack(READY_MAGIC, os.getpid())


def refusal(exit_code: int, message: str, hint: str = "") -> bytes:
    """Return the message that makes a launcher refuse; the rest as in ``Channel.send_refusal``."""
    if not EXIT_INTERNAL <= exit_code <= EXIT_NOT_FOUND:
        exit_code = EXIT_INTERNAL
    text = _cut(_printable(message), TEXT_MAX) or b"refused"
    if hint:
        line = (_HINT + _printable(hint)).encode("utf-8", "replace")
        if len(text) + len(line) <= TEXT_MAX:
            text += line
    return _REPLY.pack(REPLY_MAGIC, VERSION, _KIND_REFUSE, exit_code, len(text)) + text


def plan_head(plan: bytes) -> bytes:
    """Return the message that announces an encoded plan."""
    return _REPLY.pack(REPLY_MAGIC, VERSION, _KIND_PLAN, 0, len(plan))


def _gone(error: OSError) -> RunError:
    return RunError("internal", f"the launcher cannot be reached: {error.strerror or error}")


def _printable(text: str) -> str:
    """Escape what is no plain text: control characters, surrogates, line ends."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _cut(text: str, limit: int) -> bytes:
    """Encode at most ``limit`` bytes, never half a character."""
    data = text.encode("utf-8", "replace")
    return data if len(data) <= limit else data[:limit].decode("utf-8", "ignore").encode()
