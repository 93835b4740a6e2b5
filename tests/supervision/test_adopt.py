"""A program asks for another policy of its certificate, or gives up asking, for good."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.execution.world import ALICE, policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage

HELPERS = """
def adopt(name):
    return why(call, 157, 0x43584144, name.encode() if name else None, 0, 0, 0)
def may():
    return "".join("+" if why(one) != "EPERM" else "-" for one in (
        lambda: os.getpriority(0, 0), lambda: os.getpgid(0), lambda: call(110)))
def child(function):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, repr(function()).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as file:
        return file.read()
"""
TEXTS = (
    policy(PYTHON, "getpriority: deny", "getpgid: deny"),
    policy("/policy/wide", "getpgid: deny", "getppid: deny"),
    policy("/policy/last", "getpriority: deny", "getppid: deny"),
)
"""Each policy permits another one of three calls."""


@pytest.fixture(scope="module")
def certificate(cage_of_session: Cage) -> str:
    return sign(cage_of_session, "adopting", "/policy/wide, /policy/last", "/policy/last")


def sign(cage: Cage, name: str, *adopts: str, more: str = "") -> str:
    parts = ["Language: certexec 1\n"]
    for index, text in enumerate(TEXTS):
        header, _, rest = text.partition("\n")
        line = f"adopt {adopts[index]}\n" if index < len(adopts) else ""
        parts.append(f"{header}\n{line}{more}{rest}")
    return cage.world.sign(name, PYTHON, text="".join(parts))


def run(cage: Cage, path: str, code: str, uid: int = 0) -> list[str]:
    done: subprocess.CompletedProcess[str] = cage.world.run(
        path, "-I", "-S", "-c", PRELUDE + HELPERS + code, uid=uid
    )
    assert done.returncode == 0, (done.stdout, done.stderr, cage.world.logged())
    return done.stdout.split("\n")[:-1]


def test_a_program_of_root_takes_the_policies_that_its_own_names(
    cage: Cage, certificate: str
) -> None:
    code = """
print(may(), adopt("/policy/none"), adopt("/policy/wide"), may(), child(may))
print(adopt("/usr/bin/python3"), adopt("/policy/last"), may(), adopt("/policy/wide"), may())
"""
    said = run(cage, certificate, code)
    assert said == ["--+ EPERM 0 +-- '+--'", "EPERM 0 -+- EINVAL -+-"]


def test_nobody_else_does(cage: Cage, certificate: str) -> None:
    code = """
print(may(), adopt("/policy/wide"), may())
"""
    assert run(cage, certificate, code, uid=ALICE) == ["--+ EPERM --+"]
    code = f"os.setresuid(0, {ALICE}, 0); print(adopt('/policy/wide'), may())"
    assert run(cage, certificate, code) == ["EPERM --+"]


def test_who_gave_up_asking_never_gets_anything(cage: Cage, certificate: str) -> None:
    """Nor does what it starts; its parent, and what was started before, still does."""
    code = """
def drop():
    return adopt(None), adopt("/policy/wide"), may(), child(lambda: (adopt("/policy/wide"), may()))
print(child(drop))
print(adopt("/policy/wide"), may())
"""
    said = run(cage, certificate, code)
    assert said[0] == """(0, 'EPERM', '--+', "('EPERM', '--+')")"""
    assert said[1] == "0 +--"


def test_an_exec_brings_the_right_not_back(cage: Cage, certificate: str) -> None:
    code = """
adopt(None)
os.execv("/proc/self/exe", ["python", "-I", "-S", "-c",
    "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "
    "print(libc.prctl(0x43584144, b'/policy/wide', 0, 0, 0), ctypes.get_errno())"])
"""
    assert run(cage, certificate, code) == ["-1 1"]


def test_what_has_been_taken_is_not_got_back_so(cage: Cage) -> None:
    more = "after native-getpgrp: true then only prctl, write, exit_group, sigaction, munmap\n"
    path = sign(cage, "narrowed", "/policy/wide", more=more)
    code = "os.getpgrp(); print(adopt('/policy/wide'), flush=True); os._exit(0)"
    assert run(cage, path, code) == ["EPERM"]


def test_both_are_logged(cage: Cage, certificate: str) -> None:
    cage.world.logged()
    run(cage, certificate, "adopt('/policy/wide'); adopt('/policy/wide')")
    lines = [one for one in cage.world.logged() if "filename: /policy/wide" in one]
    assert [("permit user" in one, "deny user" in one) for one in lines] == [
        (True, False), (False, True),
    ]
    assert os.path.basename(PYTHON) in lines[0]
