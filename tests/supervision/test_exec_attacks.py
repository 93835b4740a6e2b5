"""Attacks on the borders between the policies of one tree, and on the watch over its processes."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.execution.world import policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage

SHELL = os.path.realpath("/bin/sh")
SLEEP = os.path.realpath("/bin/sleep")
CAT = os.path.realpath("/bin/cat")
EVERYTHING = tuple(f'{alias}: filename re "^" then permit' for alias in ("fsread", "fswrite"))


def run(
    cage: Cage, name: str, script: str, *argv: str, policies: str, program: str = SHELL
) -> subprocess.CompletedProcess[str]:
    """Run a script under a certificate whose programs have policies of their own."""
    path = cage.world.sign(name, program, "--no-inherit", text=policies)
    flags = ("-c",) if program == SHELL else ("-I", "-S", "-c")
    return cage.world.run(path, *flags, script, *argv)


INTO = """
other = int(sys.argv[1])
def opened(name):
    return why(lambda: os.close(os.open(name, os.O_RDWR if name.endswith("mem") else os.O_RDONLY)))
def from_inside(name):
    home = os.open(f"/proc/{other}", os.O_RDONLY)
    return why(lambda: os.close(os.open(name, os.O_RDONLY, dir_fd=home)))
for number in (other, os.getpid()):
    print(*(opened(f"/proc/{number}/{name}") for name in (
        "mem", f"task/{number}/mem", "fd", "fd/0", "status")))
print(from_inside("mem"), from_inside("fd/0"), from_inside("stat"))
child = os.fork()
if child == 0:
    time.sleep(20)
print(opened(f"/proc/{child}/mem"), opened(f"/proc/{child}/fd/0"))
os.kill(child, 9)
"""


@pytest.mark.parametrize("rules", [(), EVERYTHING], ids=["plain", "judged"])
def test_the_memory_of_a_process_under_another_policy_cannot_be_opened(
    cage: Cage, rules: tuple[str, ...]
) -> None:
    text = policy(SHELL) + policy(PYTHON, *rules) + policy(SLEEP)
    script = f'{SLEEP} 20 & other=$!; sleep 0.3; "$0" -I -S -c "$1" $other; kill $other'
    name = f"memory-{len(rules)}"
    done = run(cage, name, script, PYTHON, PRELUDE + INTO, policies=text)
    foreign, own, inside, same = done.stdout.splitlines()
    assert foreign == "EACCES EACCES EACCES EACCES ok", done
    assert own == "ok ok ok ok ok", done
    assert inside == "EACCES EACCES ok", done
    assert same == "ok ok", done
