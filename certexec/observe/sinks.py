"""Where events go: syslog for programs run by their name, a file for ``certexec run --log``."""

from __future__ import annotations

import os
import syslog

from certexec.observe.event import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IDENT = "certexec"


class Syslog:
    """syslog(3), facility authpriv, priority warning as systrace had it."""

    def __init__(self) -> None:
        syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_AUTHPRIV)

    def write(self, event: Event) -> None:
        """Send one line; without a syslog daemon it goes nowhere, as always with syslog(3)."""
        syslog.syslog(syslog.LOG_WARNING, event.line())

    def note(self, text: str) -> None:
        """Send a line about certexec itself."""
        syslog.syslog(syslog.LOG_WARNING, text)


class Lines:
    """An open descriptor that gets one line per event; ``render`` makes the line."""

    def __init__(self, fd: int, render: Callable[[Event], str] = Event.line) -> None:
        self.fd = fd
        self.render = render

    def write(self, event: Event) -> None:
        """Append one line in one write, so that lines of several writers never mix."""
        self._put(self.render(event))

    def note(self, text: str) -> None:
        """Append a line about certexec itself."""
        self._put(text)

    def _put(self, text: str) -> None:
        try:
            os.write(self.fd, (text + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            return  # a full disk must not change what the program may do
