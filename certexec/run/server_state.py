"""Whether the resident server is there, and whether it is the version that counts."""

from __future__ import annotations

import os
import time

from certexec.kernel.procfs import read_file
from certexec.run import deploy
from certexec.run.server_socket import DIRECTORY, LOCK_FILE, NOTE, SOCKET, poke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.layout import Layout

_CHANGE_TIME = 15.0
"""seconds in which a server gives way to a new version; it takes a tenth of one where it can."""
_STEP = 0.01
_INIT = 1


class State:
    """What was found.

    Attributes:
        listens: somebody takes connections; pid: the server, 0 for none; version: its version.
        current: that is the one that counts; activated: it is systemd who listens.
    """

    __slots__ = ("activated", "current", "listens", "pid", "version")

    def __init__(self, listener: int, pid: int, version: str, current: bool) -> None:
        self.listens = listener != 0
        self.activated = listener == _INIT
        self.pid = pid
        self.version = version
        self.current = current


def look(layout: Layout) -> State:
    """Find out; nothing is changed, but a server that is out of date notices it."""
    listener = poke()
    pid, version = _noted()
    counts = deploy.current_version(layout)
    return State(listener, pid, version, pid != 0 and version == counts)


def _noted() -> tuple[int, str]:
    """Return the server's pid and version as it noted them, if it still runs."""
    try:
        number, version = read_file(NOTE).decode().split()
        words = read_file(f"/proc/{int(number)}/cmdline").split(b"\0")
    except (OSError, ValueError):
        return 0, ""
    return (int(number), version) if b"--resident" in words else (0, "")


def wait_for_change(layout: Layout) -> None:
    """Let a running server give way to the version that counts now."""
    deadline = time.monotonic() + _CHANGE_TIME
    while time.monotonic() < deadline:
        state = look(layout)
        if state.pid == 0 or state.current:
            return
        time.sleep(_STEP)


def forget() -> None:
    """Take away what a server leaves when it was killed. Raises OSError."""
    for path in (SOCKET, NOTE, LOCK_FILE):
        deploy.unlink_if_there(path)
    try:
        os.rmdir(DIRECTORY)
    except OSError:
        return  # it was never there, or something else needs it
