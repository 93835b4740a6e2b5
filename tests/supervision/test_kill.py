"""The action kill: who calls ends before its call happens, its parent and siblings do not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.execution.world import SUPERVISED
from tests.supervision.conftest import Cage

PTRACE = "print('before', flush=True); call(101, 16, 1, 0, 0); print('after')"


@pytest.fixture
def beyond(cage: Cage) -> Cage:
    return cage.beyond()


def test_the_kernel_kills_where_there_is_no_supervisor(beyond: Cage) -> None:
    done = beyond.run(PTRACE, rules=["ptrace: kill"])
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, "before\n")


def test_the_supervisor_kills_and_writes_the_line(beyond: Cage) -> None:
    beyond.world.logged()
    done = beyond.run(PTRACE, rules=[*SUPERVISED, "ptrace: kill"])
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "before\n")
    lines = [line for line in beyond.world.logged() if "ptrace" in line]
    assert len(lines) == 1 and "kill user: alice" in lines[0]


def test_a_condition_kills_before_the_call_happens(beyond: Cage, place: Path) -> None:
    forbidden = place / "forbidden"
    rules = (f'fswrite: filename eq "{forbidden}" then kill', *SUPERVISED)
    code = "open(sys.argv[1], 'w'); print('wrote', flush=True); open(sys.argv[2], 'w')"
    beyond.world.logged()
    done = beyond.run(code, str(place / "other"), str(forbidden), rules=rules)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "wrote\n")
    assert not forbidden.exists()
    assert any(f"filename: {forbidden}" in line and "kill user" in line
               for line in beyond.world.logged())  # fmt: skip


def test_all_threads_of_the_caller_end_and_nobody_else(beyond: Cage) -> None:
    code = """
import threading
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(reader)
    threading.Thread(target=time.sleep, args=(60,)).start()
    threading.Thread(target=lambda: call(101, 16, 1, 0, 0)).start()
    time.sleep(60)
os.close(writer)
print(os.WTERMSIG(os.waitpid(pid, 0)[1]), os.read(reader, 1))
"""
    said = beyond.says(code, rules=[*SUPERVISED, "ptrace: kill"])
    assert said == f"{signal.SIGKILL:d} b''"


def test_an_exec_is_killed_before_the_new_program_runs(beyond: Cage) -> None:
    rules = ['execve: filename sub "echo" then kill', 'execve: filename re "^" then permit']
    code = """
pid = os.fork()
if pid == 0:
    os.execv('/bin/echo', ['echo', 'ran'])
print(os.WTERMSIG(os.waitpid(pid, 0)[1]))
"""
    assert beyond.says(code, rules=[*SUPERVISED, *rules]) == f"{signal.SIGKILL:d}"


def test_a_permissive_run_only_writes_it_down(beyond: Cage) -> None:
    path = beyond.certificate([*SUPERVISED, "getpriority: kill"])
    log = str(beyond.world.directory("permissive", mode=0o777) / "log")
    code = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    done = beyond.world.attempt(
        "run", "--permissive", "--log", log, path, "-I", "-S", "-c", code,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert Path(log).read_text().startswith("kill user:")
