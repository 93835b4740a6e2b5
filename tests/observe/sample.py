"""Events to write, and sockets to read them from."""

from __future__ import annotations

import socket
from pathlib import Path

from certexec.observe.event import Event

HOSTILE = "/tmp/a\nPRIORITY=0\r\x1b[31m'\"\\, user: root\x9b2J\u202e\u2028\udcff"
"""A file name that tries to end lines, to drive terminals and to look like another field."""


def event(**changes: object) -> Event:
    facts: dict[str, object] = {
        "time": 1.0, "verdict": "deny", "reason": "unmatched", "user": "alice",
        "program": "/usr/bin/nc", "pid": 42, "ppid": 41, "policy": "/usr/bin/nc", "filters": 7,
        "emulation": "native", "syscall": "connect", "number": 42,
        "arguments": [("sockaddr", "inet-[192.0.2.1]:80")], "raw": bytes(4), "errno": 1,
        "certificate": "nc.cert", "uid": 1000,
    }  # fmt: skip
    return Event(**{**facts, **changes})  # type: ignore[arg-type]


class Daemon:
    """A daemon's socket; it reads when the test does."""

    def __init__(self, path: Path, kind: int = socket.SOCK_DGRAM) -> None:
        self.socket = socket.socket(socket.AF_UNIX, kind)
        self.socket.bind(str(path))
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.socket.setblocking(False)

    def take(self) -> list[str]:
        """Return what has come."""
        taken = []
        try:
            while True:
                taken.append(self.socket.recv(1 << 20).decode())
        except BlockingIOError:
            return taken

    def close(self) -> None:
        self.socket.close()
