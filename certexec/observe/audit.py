"""The same event to the kernel's audit log, as an AUDIT_USER_AVC message.

The kernel records messages of that type even while auditing is off (they are in its ring buffer
then), and takes them from the initial user namespace's CAP_AUDIT_WRITE only. Values that a program
chooses are quoted or in hexadecimal as libaudit does it, so ausearch(8) reads them back.

It is the kernel that takes a message, and at once. Only when more records wait for auditd than its
backlog allows, the sender is held up as every audited process then is, until auditd reads or the
kernel gives it up.

Source: linux/audit.h, kernel/audit.c; audit_encode_value(3).
"""

from __future__ import annotations

import _socket
import errno
import struct

from certexec.observe.event import Event
from certexec.observe.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

NETLINK_AUDIT = 9
USER_AVC = 1107
"""AUDIT_USER_AVC: a decision of a user-space access control."""
TEXT_MAX = 8000
"""bytes; the kernel cuts at 8560 (AUDIT_MESSAGE_TEXT_MAX)."""
VALUE_MAX = 1024
"""bytes of a value that is not an argument, before it is encoded; that may double it."""
_REQUEST_AND_ACK = 1 | 4
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_ANSWER_MAX = 16 << 10
_FAMILY = 16  # AF_NETLINK
_NOT_FOR_US = (errno.EPERM, errno.ECONNREFUSED, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT)
"""No right to write, another user namespace, a kernel without auditing."""


class Audit(Sink):
    """The audit log, where it is present and this process may write to it; else nothing."""

    __slots__ = ("_count", "_off", "_socket")
    name = "the audit log"

    def __init__(self) -> None:
        super().__init__()
        self._socket: _socket.socket | None = None
        self._count = 0
        self._off = False

    def write(self, record: Record) -> None:
        """Deliver a record, or count it as lost."""
        if not self._off:
            super().write(record)

    def finish(self, milliseconds: int) -> bool:
        """Tell what is untold yet."""
        return self._off or super().finish(milliseconds)

    def deliver(self, record: Record) -> None:
        """Send one message and take the kernel's answer. Raises OSError."""
        try:
            self._send(message(record))
        except OSError as error:
            if not self.there and error.errno in _NOT_FOR_US:
                self._off = True
                if self._socket is not None:
                    self._socket.close()
            raise

    def _send(self, text: bytes) -> None:
        if self._socket is None:
            kind = _socket.SOCK_RAW | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
            self._socket = _socket.socket(_FAMILY, kind, NETLINK_AUDIT)
        self._count += 1
        self._socket.send(packet(text, self._count))
        # the kernel has handled it by now, its answer is there
        while True:
            answer = self._socket.recv(_ANSWER_MAX)
            _, _, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._count:
                break
        (code,) = _ERROR.unpack_from(answer, _HEADER.size)
        if code:
            raise OSError(-code, "the kernel refuses audit messages")


def packet(text: bytes, sequence: int) -> bytes:
    """Return the netlink message: header and text, which ends with a NUL."""
    data = text + b"\0"
    return _HEADER.pack(_HEADER.size + len(data), USER_AVC, _REQUEST_AND_ACK, sequence, 0) + data


def message(record: Record) -> bytes:
    """Return the text of a record: op=... NAME=value ... res=success|failed."""
    fields = []
    if isinstance(record, Event):
        fields += [
            f"op={record.verdict}",
            f"reason={record.reason}",
            f"acct={encode(record.user)}",
            f"exe={encode(record.program)}",
            f"opid={record.pid}",
            f"cert={encode(record.certificate)}",
            f"policy={encode(record.policy)}",
            f"call={record.emulation}-{record.syscall}",
            f"syscall={record.number}",
            f"exit={-record.errno}",
        ]
        if record.elevated:
            fields.append(f"as={encode(record.elevated)}")
        ends = "res=success" if record.verdict == "permit" else "res=failed"
    else:
        fields += [f"op={record.kind}", f"text={encode(record.line())}"]
        ends = "res=failed"
    if record.count > 1:
        fields.append(f"count={record.count}")
    if isinstance(record, Event):
        room = TEXT_MAX - len(" ".join(fields)) - len(ends)
        if record.arguments:
            share = room // len(record.arguments)
            fields += [
                _pair(f"arg_{_plain(name)}", text, share) for name, text in record.arguments
            ]
        else:
            fields.append(f"args={record.raw.hex()}")
    return " ".join((*fields, ends)).encode()


def encode(text: str, limit: int = VALUE_MAX) -> str:
    """Quote a value, or write its bytes in hexadecimal where they could be mistaken."""
    data = text.encode("utf-8", "surrogateescape")[:limit]
    if all(0x20 < byte < 0x7F and byte not in b"\"'" for byte in data):
        return f'"{data.decode()}"'
    return data.hex().upper()


def _pair(name: str, text: str, share: int) -> str:
    room = max(share - len(name) - 2, 0)
    return f"{name}={encode(text, room // 2)}"


def _plain(name: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in name).rstrip("_")
