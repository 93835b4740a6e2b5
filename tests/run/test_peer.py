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
from tests.isolation import skip_or_fail

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


def test_what_follows_is_known_only_while_everything_is_the_same(
    sleeper: subprocess.Popen[bytes],
) -> None:
    ours = ours_as(sleeper)
    try:
        first = examine(sleeper.pid, os.geteuid(), True, ours)
        assert examine(sleeper.pid, os.geteuid(), True, ours) is first
        resource.prlimit(sleeper.pid, resource.RLIMIT_CPU, (77, 78))
        second = examine(sleeper.pid, os.geteuid(), True, ours)
        assert second.limits[resource.RLIMIT_CPU] == (77, 78)
        assert first.limits[resource.RLIMIT_CPU] != (77, 78)
        with pytest.raises(ElsewhereError, match="ids"):
            examine(sleeper.pid, os.geteuid() + 1, True, ours)
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("change", ["no_new_privs", "filter", "capability", "group"])
def test_whoever_changes_is_judged_anew(change: str) -> None:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    actions = {
        "no_new_privs": "assert prctl(38, 1, 0, 0, 0) == 0",
        "filter": "assert prctl(22, 1, 0, 0, 0) == 0",  # strict: what comes next but write kills
        "capability": "assert prctl(24, 0, 0, 0, 0) == 0",
        "group": "os.setgroups([4711])",
    }
    wait = "os.write(1, b'.')\nwhile True: pass" if change == "filter" else (
        "print(flush=True)\nsys.stdin.readline()"
    )
    code = (
        "import ctypes, os, sys\nprctl = ctypes.CDLL(None).prctl\nprint(flush=True)\n"
        f"sys.stdin.readline()\n{actions[change]}\n{wait}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdin is not None and one.stdout is not None
        one.stdout.readline()
        ours = ours_as(one)
        before = examine(one.pid, 0, True, ours)
        one.stdin.write(b"\n")
        one.stdin.flush()
        one.stdout.read(1)
        try:
            if change == "group":
                assert examine(one.pid, 0, True, ours).groups == (4711,) != before.groups
            else:
                with pytest.raises(ElsewhereError):
                    examine(one.pid, 0, True, ours)
        finally:
            one.kill()
