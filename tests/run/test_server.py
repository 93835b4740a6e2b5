"""Whom a server traces: the launcher that asked, and nobody who has its number by now."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from certexec.kernel.procfs import read_status
from certexec.run import server
from certexec.run.channel import Channel
from certexec.run.server import Settings, attend
from tests.isolation import skip_or_fail

BYSTANDER = """
import socket, sys, time
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
carrier = socket.socket(fileno=0)
socket.send_fds(carrier, [b"x"], [theirs.fileno()])
ours.close(); theirs.close()
carrier.send(b"y")
time.sleep(600)
"""


def test_a_process_with_the_number_of_a_launcher_that_ended_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ended while the certificate was judged; its end of the socket is closed by then."""
    if os.geteuid() != 0:
        skip_or_fail("it is root's server that could trace others")
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", BYSTANDER], stdin=far)
    try:
        _, (fd,), _, _ = socket.recv_fds(near, 1, 1)
        assert near.recv(1) == b"y"
        monkeypatch.setattr(server, "decide", lambda *_, **__: None)
        monkeypatch.setattr(server, "_Execution", lambda *_: pytest.fail("it goes on"))
        assert attend(Channel(fd), Settings(), lambda channel, settings: None) == 0
        assert read_status(bystander.pid).tracer == 0
    finally:
        bystander.kill()
        bystander.wait()
