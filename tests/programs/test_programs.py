"""Real programs under policies that look at every name, address and exec, and permit them all.

Each script is run bare and under a certificate of bash, whose policy everything that it starts
inherits. Output and exit status must be the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certexec.policy.calls import SUPERVISED, call_of
from tests.execution.world import ALICE, World, policy
from tests.isolation import need, skip_or_fail

HERE = Path(__file__).parent
NEEDS = {
    "bash": (), "coreutils": (), "gcc": ("gcc", "make", "ar"), "git": ("git",),
    "nginx": ("nginx", "wrk"), "nginx-root": ("nginx",), "sqlite3": ("sqlite3",),
}  # fmt: skip
"""What the scripts use beside the essential packages."""
AS_ROOT = ("nginx-root",)
"""Scripts of root's; the others are Alice's."""
TIME_LIMIT = 900
"""seconds for one script, bare or confined; the interpreter's own tests take minutes."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BASH = os.path.realpath("/bin/bash")


def looked_at(program: str) -> str:
    """Return a policy under which the supervisor sees every name, and permits it."""
    rules = ["futimens: permit", "fstat: permit", "send: permit"]
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


def run(
    world: World, program: str, script: str, *arguments: str, home: str = "home"
) -> tuple[int, str, str]:
    """Run a script in a fresh directory of its user's; returns exit status, output and errors."""
    uid = 0 if script in AS_ROOT else ALICE
    place = world.directory(home, owner=uid)
    try:
        done = world.run(
            program, "-c", (HERE / f"{script}.sh").read_text(), script, *arguments,
            uid=uid, cwd=place, timeout=TIME_LIMIT,
            env={"HOME": str(place), "PATH": PATH, "LC_ALL": "C", "TMPDIR": str(place)},
        )  # fmt: skip
        out, err = (text.replace(str(place), "HOME") for text in (done.stdout, done.stderr))
        return done.returncode, out, err
    finally:
        shutil.rmtree(place, ignore_errors=True)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.timeout(2 * TIME_LIMIT)
@pytest.mark.parametrize("script", sorted(NEEDS))
def test_a_program_does_the_same_under_a_certificate(world: World, script: str) -> None:
    for tool in NEEDS[script]:
        if shutil.which(tool, path=PATH) is None:
            skip_or_fail(f"{tool} is not installed")
    world.logged()
    arguments = [free_port()] if script.startswith("nginx") else []
    bare = run(world, BASH, script, *arguments)
    confined = run(world, f"{world.bin}/bash", script, *arguments)
    assert confined == bare
    assert bare[0] == 0 and bare[1], bare
    assert world.logged() == []


@pytest.mark.timeout(2 * TIME_LIMIT)
def test_the_interpreters_own_tests_end_alike(world: World) -> None:
    found = subprocess.run(["/usr/bin/python3", "-c", "import test.test_subprocess"], check=False)
    if found.returncode != 0:
        skip_or_fail("the interpreter's tests are not installed (libpython3.N-testsuite)")
    # they take minutes, most of it asleep: both at once, but those that bind fixed names
    with ThreadPoolExecutor(2) as both:
        tests = ("python3", "test_os", "test_subprocess", "test_threading")
        confined = both.submit(run, world, f"{world.bin}/bash", *tests, home="confined")
        bare = both.submit(run, world, BASH, *tests, home="bare")
        assert confined.result() == bare.result()
    assert "result" in bare.result()[1], bare.result()
    alone = run(world, BASH, "python3", "test_socket")
    assert run(world, f"{world.bin}/bash", "python3", "test_socket") == alone
    assert "result" in alone[1], alone
