"""The same event to systemd-journald, with its members as fields of their own.

The journal's native protocol: one datagram of NAME=value lines. Every value is escaped like the
text line, so that none holds a newline (which would need another framing), and "journalctl --all"
shows nothing to a terminal that drives it.

Source: systemd.io/JOURNAL_NATIVE_PROTOCOL, systemd.journal-fields(7).
"""

from __future__ import annotations

import os

from certexec.observe.event import Event, clipped
from certexec.observe.local_socket import LocalSocket
from certexec.observe.sink import Sink
from certexec.observe.syslog import FACILITY, IDENT, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

DENIED = "ad399fc5f6eb40e09657b41953329b72"
PERMITTED = "73ffae2b163a40fcbd532559166e086e"
OTHER = "ea8ee4cab00c489a93b705a9f35b0908"
"""MESSAGE_ID of denied calls, of permitted calls that are logged, and of everything else; drawn
once (journalctl --new-id128) and never to change."""
VALUE_MAX = 16 << 10
"""bytes of one field."""
ARGUMENTS_MAX = 64 << 10
"""bytes of all arguments; the datagram has to fit a socket's buffer (208 KiB by default)."""


class Journal(Sink):
    """The journal of systemd, behind the socket ``path``."""

    __slots__ = ("_socket",)
    name = "the journal"

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = LocalSocket(path)

    def deliver(self, record: Record) -> None:
        """Send one datagram."""
        fields = [
            ("MESSAGE", record.line()),
            ("MESSAGE_ID", message_id(record)),
            ("PRIORITY", str(WARNING)),
            ("SYSLOG_FACILITY", str(FACILITY)),
            ("SYSLOG_IDENTIFIER", IDENT),
            ("SYSLOG_PID", str(os.getpid())),
        ]
        for name, value in record.members():
            if isinstance(value, (str, int)):
                fields.append((field_name(name), clipped(str(value), VALUE_MAX)))
                continue
            share = min(VALUE_MAX, ARGUMENTS_MAX // max(len(value), 1))
            for inner, content in value.items():
                label = field_name("arg" if name == "arguments" else name, inner)
                fields.append((label, clipped(str(content), share)))
        text = "".join(f"{name}={value}\n" for name, value in fields)
        self._socket.send(text.encode("utf-8", "backslashreplace"))

    def wait(self, milliseconds: int) -> bool:
        """Wait until the daemon reads."""
        return self._socket.wait(milliseconds)


def message_id(record: Record) -> str:
    """Return the MESSAGE_ID by which this kind of record is found."""
    if not isinstance(record, Event):
        return OTHER
    return PERMITTED if record.verdict == "permit" else DENIED


def field_name(*parts: str) -> str:
    """Return CERTEXEC_NAME, of the characters that a field's name may have."""
    name = "_".join(("certexec", *parts)).upper()
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in name).rstrip("_")
