"""Confined programs that do their worst: Python code under a certificate, with and without a grant.

Everything is real (tests/execution/world.py): the kernel starts the certificate, the filter and the
supervisor judge it. The code runs in ``python -I -S`` with a few helpers in front of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from certexec.policy.calls import SUPERVISED as JUDGED
from tests.execution.world import ALICE, BY_NAMES, SUPERVISED, World, policy
from tests.isolation import need, skip_or_fail

PYTHON = os.path.realpath(sys.executable)

PRELUDE = """
import ctypes, errno, fcntl, os, signal, socket, stat, struct, sys, time
import _thread
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    libc.syscall.restype = ctypes.c_long
    done = libc.syscall(ctypes.c_long(number), *words)
    if done == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
def why(function, *args, **named):
    try:
        result = function(*args, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok" if result is None else result
def supervisor():
    "The supervisor's pid: who connects in our place is seen as the peer."
    name = b"\\0certexec-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(name)
        server.listen()
        client.connect(name)
        peer, _ = server.accept()
        with peer:
            data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", data)[0]
"""
"""What the confined code finds defined."""

LIBRARIES = ("/usr/*", "/lib/*", "/lib64/*", "/etc/*", "/proc/self/*", "/dev/*", "/sys/*")
"""What Python needs in order to start."""


def only(*patterns: str) -> tuple[str, ...]:
    """Return rules that permit names below some places, and Python to start."""
    base = sorted({os.path.dirname(os.path.dirname(path)) for path in (PYTHON, os.__file__)})
    allowed = [*LIBRARIES, *(f"{one}/*" for one in base), *patterns]
    return (
        *(f'{alias}: filename match "{one}" then permit'
          for one in allowed for alias in ("fsread", "fswrite")),
        'connect: sockaddr re "^" then permit',
        'bind: sockaddr re "^" then permit',
    )  # fmt: skip


SENDS = ("sendto", "sendmsg", "sendmmsg")
CHANGES = (
    *(f'{name}: filename re "^" then permit' for name in JUDGED
      if name not in (*BY_NAMES, *SENDS)),
    *(f'{name}: sockaddr re "^" then permit' for name in SENDS),
    # what has no name is judged by who asks
    "futimens: permit, if user != 12345",
    "fanotify_mark: permit, if user != 12345",
    "acct: permit, if user != 12345",
    "send: permit, if user != 12345",
    "quotactl: permit, if user != 12345",
)
"""Everything is permitted, but each call that changes names or attributes is carried out by the
supervisor; those that tests/execution knows by SUPERVISED are not among them."""


class Cage:
    """Runs code under certificates of one interpreter; each set of rules is signed once."""

    def __init__(
        self, world: World, name: str = "cage", top: str = "", lines: Sequence[str] = ()
    ) -> None:
        self.world = world
        self.name = name
        self.top = top
        self.lines = lines
        self._signed: dict[tuple[object, ...], str] = {}
        self._count = 0

    def beyond(self, *lines: str) -> Cage:
        """Return a cage for rules of the language beyond systrace's.

        ``lines`` come after the header, as they are.
        """
        self._count += 1
        return Cage(self.world, f"{self.name}{self._count}-", "Language: certexec 1\n", lines)

    def certificate(
        self, rules: Sequence[str], options: Sequence[str] = (), program: str = PYTHON,
        without: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """Return the path of a certificate for ``program``; with an identity it is installed."""
        key = (program, tuple(rules), tuple(options), tuple(without))
        if key not in self._signed:
            self._count += 1
            name = f"{self.name}{self._count}"
            text = policy(os.path.realpath(program), *rules, without=without)
            header, _, rest = text.partition("\n")
            text = self.top + "\n".join([header, *self.lines, rest])
            grants = any(one.startswith(("--set", "--cap", "--group")) for one in options)
            make = self.world.install if grants else self.world.sign
            self._signed[key] = make(name, program, *options, text=text)
        return self._signed[key]

    def run(
        self, code: str, *argv: str, rules: Sequence[str] = SUPERVISED,
        options: Sequence[str] = (), without: Sequence[str] = (), uid: int = ALICE, **more: Any,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run Python code under a certificate and wait for its end."""
        path = self.certificate(rules, options, without=without)
        return self.world.run(path, "-I", "-S", "-c", PRELUDE + code, *argv, uid=uid, **more)

    def start(
        self, code: str, *argv: str, rules: Sequence[str] = SUPERVISED,
        options: Sequence[str] = (), without: Sequence[str] = (), uid: int = ALICE, **more: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start Python code under a certificate."""
        path = self.certificate(rules, options, without=without)
        return self.world.start(path, "-I", "-S", "-c", PRELUDE + code, *argv, uid=uid, **more)

    def says(self, code: str, *argv: str, **more: Any) -> str:
        """Run code that must end well; return what it printed."""
        done = self.run(code, *argv, **more)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout.strip()

    def bare(self, code: str, *argv: str, uid: int = ALICE, **more: Any) -> str:
        """Run the same code unconfined; return what it printed."""
        return self.world.python(PRELUDE + code, *argv, uid=uid, **more).strip()


@pytest.fixture(scope="session")
def world_of_session() -> Iterator[World]:
    need("nsenter", "setpriv", "mount", "gcc")
    if os.geteuid() != 0:
        skip_or_fail("supervision is tested as root, who plays all users")
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def cage_of_session(world_of_session: World) -> Cage:
    return Cage(world_of_session)


@pytest.fixture
def cage(cage_of_session: Cage) -> Iterator[Cage]:
    """The cages; afterwards no process may be left, supervisors above all."""
    yield cage_of_session
    left = cage_of_session.world.settle()
    cage_of_session.world.sweep()
    assert not left, f"left behind: {left}"


@pytest.fixture
def place(cage: Cage, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that belongs to Alice."""
    name = f"place-{abs(hash(request.node.name)) % 10**8}"
    made = cage.world.directory(name, owner=ALICE)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def secret(cage: Cage, place: Path) -> Path:
    """A file of Alice's in a directory that ``only(...)`` does not name."""
    directory = place / "private"
    directory.mkdir()
    file = directory / "file"
    file.write_text("secret")
    for path in (directory, file):
        os.chown(path, ALICE, ALICE)
    return file


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; fails the test when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def kill(pid: int) -> None:
    """End a process of ours, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
