"""A command that is started when something was denied (``certexec monitor --exec``).

Its arguments are those that were typed, and nothing of an event is among them: what a program made
up could look like an option, or like a command to a shell. The event stands in the environment, of
which the command gets nothing else but a PATH: each member that docs/events.md knows as
CERTEXEC_NAME, an argument of the call as CERTEXEC_ARG_NAME, all of it as JSON in CERTEXEC_JSON. No
shell is involved.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from certexec.observe.event import escape
from certexec.observe.journald import field_name
from certexec.observe.reading import Seen

PATIENCE = 10.0
"""seconds to wait at the end for each command that was started"""
AT_A_TIME = 8
"""commands that run at once; events that come then start none, and are counted."""
VALUE_MAX = 4096
"""characters of one variable; a program can make its arguments 6 MiB long."""
JSON_MAX = 100_000
"""characters of the whole event; one variable may have 128 KiB (MAX_ARG_STRLEN)."""
MEMBERS = (
    "event", "time", "count", "since", "verdict", "reason", "user", "uid", "program", "pid", "ppid",
    "certificate", "policy", "filters", "emulation", "syscall", "number", "errno", "as", "args",
)
"""What becomes a variable; a log that others wrote into may hold any other."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Alarm:
    """Starts ``command`` (a path and its fixed arguments) for events.

    What it says comes out where certexec's own words do, but with ``quiet`` nowhere.

    Attributes:
        missed: events for which there was no room; failed: why the last start failed, or "".
    """

    def __init__(self, command: Sequence[str], *, quiet: bool = False) -> None:
        self.command = list(command)
        self._output = subprocess.DEVNULL if quiet else None
        self.missed = 0
        self.failed = ""
        self._running: list[subprocess.Popen[bytes]] = []

    def ring(self, seen: Seen, text: str) -> bool:
        """Start the command for an event, of which ``text`` is the JSON; False: it was not."""
        self._running = [one for one in self._running if one.poll() is None]
        if len(self._running) >= AT_A_TIME:
            self.missed += 1
            return False
        try:
            self._running.append(
                subprocess.Popen(
                    self.command, env=environment(seen, text), stdin=subprocess.DEVNULL,
                    stdout=self._output, stderr=self._output, start_new_session=True,
                )
            )
        except OSError as error:
            self.failed = error.strerror or "cannot be started"
            self.missed += 1
            return False
        return True

    def finish(self, seconds: float = PATIENCE) -> None:
        """Wait for what was started."""
        for one in self._running:
            try:
                one.wait(seconds)
            except subprocess.TimeoutExpired:
                continue  # it goes on by itself


def environment(seen: Seen, text: str) -> dict[str, str]:
    """Return the variables for an event: printable texts, escaped as in the log's line."""
    found = {
        "PATH": PATH, "CERTEXEC_JSON": text[:JSON_MAX], "CERTEXEC_HOST": _value(seen.host),
    }  # fmt: skip
    for name in MEMBERS:
        if name in seen.members:
            found[field_name(name)] = _value(seen.text(name))
    for name, value in seen.arguments.items():
        found[field_name("arg", name)] = _value(value)
    return found


def _value(text: str) -> str:
    return escape(text[:VALUE_MAX]).encode("utf-8", "backslashreplace").decode()
