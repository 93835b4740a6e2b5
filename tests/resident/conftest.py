"""A machine with a resident server, and ways to see who served an execution."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import ALICE, SUPERVISED, World, policy, wait_for
from tests.isolation import need, skip_or_fail

CURRENT = "/usr/libexec/certexec/current"
SOCKET = "/run/certexec/server.sock"
SLEEP = "/usr/bin/sleep"


class Service:
    """The server of one machine: started and ended by tests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process: subprocess.Popen[str] | None = None
        self.signed: dict[str, str] = {}

    def start(self) -> int:
        """Start it and wait until it listens; returns its pid."""
        before = self.socket_number()
        command = [f"{CURRENT}/python", "-I", "-S", f"{CURRENT}/serve.py", "--resident"]
        self.process = subprocess.Popen(
            self.world.machine.command(*command), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        pid = self.process.pid
        wait_for(lambda: self.ended() or self.socket_number() not in (0, before) and children(pid))
        return pid

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is None or self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> str:
        """End it; returns what it said."""
        if self.process is None:
            return ""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=20)[1]
        self.process = None
        return said

    def socket_number(self) -> int:
        """Return the inode of the socket's name, 0 for none."""
        try:
            return os.stat(self.world.machine.path(SOCKET)).st_ino
        except FileNotFoundError:
            return 0

    def certificate(self, name: str, *options: str, program: str = SLEEP) -> str:
        """Return a certificate of a program, supervised or ("plain...") not; installed for root."""
        if name not in self.signed:
            rules = () if name.startswith("plain") else SUPERVISED
            text = policy(os.path.realpath(program), *rules)
            grants = any(one.startswith("--set") for one in options)
            make = self.world.install if grants else self.world.sign
            self.signed[name] = make(name, program, *options, text=text)
        return self.signed[name]

    def supervisor(self) -> int:
        """Return who has the listener of the one supervised program."""
        found = [pid for pid in self.servers() if holds_listener(pid)]
        assert len(found) == 1, found
        return found[0]

    def servers(self) -> list[int]:
        """Return all processes that run the policy server's code."""
        return [pid for pid, line in self.world.processes().items() if "serve.py" in line]


def children(pid: int) -> set[int]:
    """Return the children of a process."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def holds_listener(pid: int) -> bool:
    """Whether a process has the listener of a filter open."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:seccomp notify":
                return True
        except OSError:
            continue  # closed meanwhile
    return False


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="session")
def service_of_session() -> Iterator[Service]:
    need("nsenter", "setpriv", "mount", "gcc")
    if os.geteuid() != 0:
        skip_or_fail("the resident server is tested as root, who plays all users")
    world = World()
    yield Service(world)
    world.close()


@pytest.fixture
def service(service_of_session: Service) -> Iterator[Service]:
    """The service, ended; afterwards nothing of it may be left."""
    yield service_of_session
    said = service_of_session.end()
    left = service_of_session.world.settle()
    service_of_session.world.sweep()
    assert not left, f"left behind: {left}"
    assert not said


@pytest.fixture
def running(service: Service) -> Service:
    """The service, running."""
    service.start()
    assert not service.ended()
    return service


__all__ = ["ALICE", "SLEEP", "Service", "holds_listener", "status", "wait_for"]
