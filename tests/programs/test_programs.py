"""Real programs under policies that look at every name, address and exec, and permit them all.

Each script is run bare and under a certificate of bash, whose policy everything that it starts
inherits. Output and exit status must be the same.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.policy.calls import SUPERVISED, call_of
from tests.execution.world import ALICE, World, policy
from tests.isolation import need, skip_or_fail

HERE = Path(__file__).parent
NEEDS = {
    "bash": (), "coreutils": (), "gcc": ("gcc", "make", "ar"), "git": ("git",),
    "nginx": ("nginx", "wrk"), "sqlite3": ("sqlite3",), "python3": ("python3.11",),
}  # fmt: skip
"""What the scripts use beside the essential packages."""
TIME_LIMIT = 900
"""seconds for one script, bare or confined; the interpreter's own tests take minutes."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BASH = os.path.realpath("/bin/bash")


def looked_at(program: str) -> str:
    """Return a policy under which the supervisor sees every name, and permits it."""
    rules = ["futimens: permit", "fstat: permit"]
    for name in SUPERVISED:
        arguments = {argument.name for argument in call_of(name).arguments}
        argument = "sockaddr" if "sockaddr" in arguments else "filename"
        rules.append(f'{name}: {argument} re "^" then permit')
    return policy(program, *rules)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    need("nsenter", "setpriv", "mount", "gcc")
    if os.geteuid() != 0:
        skip_or_fail("programs are compared as root, who plays the user")
    world = World()
    world.sign("bash", BASH, text=looked_at(BASH))
    yield world
    world.close()


def run(world: World, program: str, script: str, *arguments: str) -> tuple[int, str, str]:
    """Run a script as Alice in a fresh directory; returns exit status, output and errors."""
    home = world.directory("home", owner=ALICE)
    try:
        done = world.run(
            program, "-c", (HERE / f"{script}.sh").read_text(), script, *arguments,
            cwd=home, timeout=TIME_LIMIT,
            env={"HOME": str(home), "PATH": PATH, "LC_ALL": "C", "TMPDIR": str(home)},
        )  # fmt: skip
        out, err = (text.replace(str(home), "HOME") for text in (done.stdout, done.stderr))
        return done.returncode, out, err
    finally:
        shutil.rmtree(home, ignore_errors=True)
        world.sweep()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.timeout(2 * TIME_LIMIT)
@pytest.mark.parametrize("script", sorted(set(NEEDS) - {"python3"}))
def test_a_program_does_the_same_under_a_certificate(world: World, script: str) -> None:
    for tool in NEEDS[script]:
        if shutil.which(tool, path=PATH) is None:
            pytest.skip(f"{tool} is not installed")
    world.logged()
    arguments = [free_port()] if script == "nginx" else []
    bare = run(world, BASH, script, *arguments)
    confined = run(world, f"{world.bin}/bash", script, *arguments)
    assert confined == bare
    assert bare[0] == 0 and bare[1], bare
    assert world.logged() == []


@pytest.mark.timeout(2 * TIME_LIMIT)
def test_the_interpreters_own_tests_end_alike(world: World) -> None:
    if not Path("/usr/lib/python3.11/test/test_os.py").exists():
        pytest.skip("the interpreter's tests are not installed (libpython3.11-testsuite)")
    assert run(world, f"{world.bin}/bash", "python3") == run(world, BASH, "python3")
