"""A server for the small app, and what one may send to it without a browser."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.chromium import PATIENCE, Chromium

APP = str(Path(__file__).with_name("app.py"))
SERVE = """
import sys
from certexec.browser.server import serve
def told(address): print(address, flush=True)
sys.exit(serve(sys.argv[1:], told))
"""
SHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}  # fmt: skip


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = b"" if response.status == 101 else response.read()


class Served:
    """The server's process, and its address taken apart."""

    def __init__(self, file: Path, *app: str) -> None:
        """``app``: what Python is to run instead of the small app."""
        self.file = file
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, sys.executable, "-P", *(app or (APP, str(file)))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        parts = urlsplit(self.address)
        assert parts.port is not None, self.process.stderr
        self.port = parts.port
        self.token = parse_qs(parts.query)["token"][0]
        self.cookie = ""
        self.place = "/unknown/"
        self.open: list[socket.socket] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", **headers: str | None) -> Answer:
        """Ask for a path; Host is right unless it is given, None leaves a header out."""
        sent = {"Host": self.host, "Cookie": self.cookie or None}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = Answer(connection.getresponse())
        if answer.status == 101:
            assert connection.sock is not None
            self.open.append(connection.sock)
        else:
            connection.close()
        return answer

    def enter(self) -> Answer:
        """Use the token, and keep the cookie."""
        answer = self.get(f"/?token={self.token}")
        assert answer.status == 200
        ((_, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
        self.cookie, self.place = f"{morsel.key}={morsel.value}", morsel["path"]
        return answer

    def connect(self, query: str = "", **headers: str | None) -> Answer:
        """Ask for the websocket, as the page would, but for the headers that are given."""
        return self.get(
            f"{self.place}ws{query}", **{"Origin": f"http://{self.host}", **SHAKE, **headers}
        )

    def apps(self) -> list[int]:
        """Return the processes of the app."""
        return [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if cmdline(pid)[2:] == [APP, str(self.file)] and cmdline(pid)[1] == "-P"
        ]  # fmt: skip

    def ended(self) -> int:
        """Wait until the server has ended by itself; returns its exit status."""
        return self.process.wait(PATIENCE)

    def listens(self, host: str = "127.0.0.1") -> bool:
        try:
            socket.create_connection((host, self.port), PATIENCE).close()
        except ConnectionRefusedError:
            return False
        return True


def cmdline(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    file = tmp_path / "file"
    file.write_text("untouched")
    one = Served(file)
    yield one
    for connection in one.open:
        connection.close()
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
    one.process.communicate(timeout=PATIENCE)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    one = Chromium(tmp_path / "profile")
    yield one
    one.close()
