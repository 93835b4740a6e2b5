"""systrace's line to the machine's syslog daemon, as syslog(3) would send it, but without waiting.

syslog(3) blocks when the daemon stops reading, and every program that is supervised with it.
"""

from __future__ import annotations

import os
import time

from certexec.observe.local_socket import LocalSocket
from certexec.observe.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

IDENT = "certexec"
FACILITY = 10
"""authpriv: what the log tells about users and files is not for everybody."""
WARNING = 4
"""LOG_WARNING, the level of systrace's lines."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Syslog(Sink):
    """The daemon behind the socket ``path``."""

    __slots__ = ("_socket",)
    name = "syslog"

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = LocalSocket(path)

    def deliver(self, record: Record) -> None:
        """Send one line, framed as by the C library: <priority>, local time, name and process."""
        _, month, day, hour, minute, second, *_ = time.localtime(record.time)
        stamp = f"{_MONTHS[month - 1]} {day:2} {hour:02}:{minute:02}:{second:02}"
        head = f"<{FACILITY << 3 | WARNING}>{stamp} {IDENT}[{os.getpid()}]: "
        self._socket.send((head + record.line()).encode("utf-8", "backslashreplace"))

    def wait(self, milliseconds: int) -> bool:
        """Wait until the daemon reads."""
        return self._socket.wait(milliseconds)
