"""What a resident server's process takes over of who asks, as binfmt/server.h leaves it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from certexec.run.peer import (
    FILES,
    RLIMIT_CORE,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RLIMIT_STACK,
    STACK,
    ElsewhereError,
    Surroundings,
    examine,
    limit_for,
)

NONE = resource.RLIM_INFINITY
RLIMIT_AS = 9


@pytest.mark.parametrize(
    ("number", "theirs", "unbound", "want"),
    [
        (RLIMIT_AS, (5, 9), False, (9, 9)),
        (RLIMIT_AS, (5, 9), True, (NONE, NONE)),
        (RLIMIT_AS, (NONE, NONE), False, (NONE, NONE)),
        (RLIMIT_CORE, (NONE, NONE), False, (0, NONE)),
        (RLIMIT_CORE, (NONE, NONE), True, (0, 0)),
        (RLIMIT_STACK, (1 << 20, 1 << 22), False, (1 << 22, 1 << 22)),
        (RLIMIT_STACK, (1 << 20, NONE), False, (STACK, NONE)),
        (RLIMIT_NOFILE, (500, 900), False, (900, 900)),
        (RLIMIT_NOFILE, (500, 900), True, (FILES, FILES)),
        (RLIMIT_NICE, (3, 4), True, (3, 4)),
    ],
)
def test_limits_become_what_the_launchers_own_server_has(
    number: int, theirs: tuple[int, int], unbound: bool, want: tuple[int, int]
) -> None:
    assert limit_for(number, theirs, unbound) == want


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_whoever_runs_something_else_is_not_served(sleeper: subprocess.Popen[bytes]) -> None:
    try:
        with pytest.raises(ElsewhereError, match="launcher"):
            examine(sleeper.pid, os.geteuid(), True, Surroundings("/bin/sh"))
        caller = examine(sleeper.pid, os.geteuid(), True, ours_as(sleeper))
        assert (caller.uid, caller.elevated) == (os.getuid(), False)
        with pytest.raises(ElsewhereError, match="ids"):
            examine(sleeper.pid, os.geteuid() + 1, True, ours_as(sleeper))
    finally:
        sleeper.kill()
        sleeper.wait()
    with pytest.raises(ElsewhereError, match="examined"):
        examine(sleeper.pid, os.geteuid(), True, Surroundings("/bin/sh"))


def ours_as(process: subprocess.Popen[bytes]) -> Surroundings:
    """Take a process's own program for the launcher."""
    return Surroundings(os.readlink(f"/proc/{process.pid}/exe"))


@pytest.mark.parametrize("name", ["namespaces", "root", "label", "caps"])
def test_whoever_lives_elsewhere_is_not_served(
    sleeper: subprocess.Popen[bytes], name: str
) -> None:
    ours = ours_as(sleeper)
    if name == "caps":
        ours.caps = {**ours.caps, "bnd": ours.caps["bnd"] ^ 1}
    else:
        setattr(ours, name, "something else")
    try:
        with pytest.raises(ElsewhereError):
            examine(sleeper.pid, os.geteuid(), True, ours)
    finally:
        sleeper.kill()
        sleeper.wait()
