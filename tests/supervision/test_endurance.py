"""The supervisor outlives everything, and keeps nothing: odd bytes, dying callers, many calls."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from certexec.kernel.procfs import KEPT_MAX
from tests.execution.world import SUPERVISED, World
from tests.supervision.conftest import CHANGES, Cage, descriptors, wait_for

HERE = Path(__file__).parent
GRANTS = [(), ("--setuid", "root"), ("--setuid", "service")]
QUIET = 7 + KEPT_MAX
"""descriptors of an idle supervisor: three null ones, /proc, the directory of its own descriptors
there, the mount table, the listener, and at most so many status files of those who called last."""
GROWTH = 4096
"""KiB by which a supervisor's memory may grow in a test: buffers, never one call after another."""


def supervisor_of(world: World) -> int:
    """Return the only supervisor's pid."""
    found = [pid for pid, line in world.processes().items() if "serve.py" in line]
    assert len(found) == 1
    return found[0]


def memory(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("options", GRANTS)
def test_odd_registers_and_bytes_are_answered_and_nothing_is_kept(
    cage: Cage, place: Path, options: tuple[str, ...]
) -> None:
    world = cage.world
    odd = world.compile("odd_calls", (HERE / "odd_calls.c").read_text())
    rules = [rule for rule in CHANGES if not rule.startswith("exec")]
    certificate = cage.certificate((*SUPERVISED, *rules), options, program="/bin/sh")
    rounds = f"cd {place} || exit 9; while read seed; do {odd} $seed 3000 && echo fine; done"
    shell = world.start(certificate, "-c", rounds)
    assert shell.stdin is not None and shell.stdout is not None
    sizes = []
    for seed in range(3):
        shell.stdin.write(f"{seed}\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "fine\n"
        pid = supervisor_of(world)
        wait_for(lambda pid=pid: descriptors(pid) <= QUIET)  # type: ignore[misc]
        sizes.append(memory(pid))
    assert max(sizes) - sizes[0] < GROWTH
    assert shell.communicate(timeout=20) == ("", "")
    assert not [line for line in world.logged() if "internal" in line]


@pytest.mark.parametrize("options", GRANTS)
def test_callers_that_die_stop_and_exec_get_nobody_elses_answer(
    cage: Cage, place: Path, options: tuple[str, ...]
) -> None:
    world = cage.world
    place.chmod(0o777)
    storm = world.compile("storm", (HERE / "storm.c").read_text(), "-pthread")
    certificate = cage.certificate(SUPERVISED, options, program=storm)
    program = world.start(certificate, "3", before=f"os.chdir({str(place)!r})")
    assert program.stdout is not None
    assert program.stdout.readline() == "served\n"
    pid = supervisor_of(world)
    wait_for(lambda: descriptors(pid) <= QUIET and threads(pid) == 1)
    assert program.communicate("\n", timeout=20) == ("", "")
    assert program.returncode == 0


def test_descriptors_come_back_when_a_real_path_is_too_long(cage: Cage, place: Path) -> None:
    code = f"""
os.chdir({str(place)!r})
for _ in range(25):
    why(os.mkdir, "d" * 200)
    if why(os.chdir, "d" * 200) != "ok":
        break
pid = supervisor()
for _ in range(200):
    why(os.stat, ".")
    why(os.open, "x", os.O_CREAT | os.O_RDWR)
    why(os.mkdir, "y")
    why(os.unlink, "z")
print(pid, why(os.stat, ".") == "ENAMETOOLONG", flush=True)
sys.stdin.read()
"""
    program = cage.start(code)
    assert program.stdout is not None
    pid, too_long = program.stdout.readline().split()
    assert too_long == "True"
    wait_for(lambda: descriptors(int(pid)) <= QUIET)
    assert program.communicate(timeout=20) == ("", "")


@pytest.mark.parametrize("options", [(), ("--setuid", "root")])
def test_many_blocked_calls_hold_up_no_other(
    cage: Cage, place: Path, options: tuple[str, ...]
) -> None:
    code = f"""
os.chdir({str(place)!r})
os.mkfifo("fifo")
_thread.stack_size(65536)
opened = []
for _ in range(300):
    _thread.start_new_thread(lambda: opened.append(os.open("fifo", os.O_RDONLY)), ())
pid = supervisor()
while len(os.listdir("/proc/self/task")) < 301:
    time.sleep(0.01)
time.sleep(0.5)
start = time.monotonic()
for _ in range(100):
    os.stat("/")
print(pid, time.monotonic() - start, flush=True)
sys.stdin.readline()
fd = os.open("fifo", os.O_WRONLY)
while len(opened) < 300:
    time.sleep(0.01)
print("all", flush=True)
sys.stdin.read()
"""
    program = cage.start(code, options=options)
    assert program.stdin is not None and program.stdout is not None
    pid, seconds = program.stdout.readline().split()
    assert threads(int(pid)) > 300
    assert float(seconds) < 5.0  # two of them on an idle machine; without care it is a minute
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "all\n"
    wait_for(lambda: descriptors(int(pid)) <= QUIET and threads(int(pid)) == 1)
    assert program.communicate(timeout=20) == ("", "")


def test_a_call_for_which_there_is_no_thread_fails_alone(cage: Cage, place: Path) -> None:
    code = f"""
os.chdir({str(place)!r})
os.mkfifo("fifo")
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
except OSError:
    pass
print(why(os.open, "fifo", os.O_RDONLY), why(os.stat, "/") != "ENOSYS")
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    before = "resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))"
    # the limit counts Alice's processes, and her supervisor's threads among them
    assert cage.says(code, before=before) == "ENOMEM True"


THOUSAND = """
reader, writer = os.pipe()
starts, go = os.pipe()
for number in range(1000):
    if os.fork() == 0:
        os.read(starts, 1)  # until all of them are there
        fd = os.open("/proc/self/stat", os.O_RDONLY)
        own = int(os.read(fd, 99).split()[0]) == os.getpid()
        good = own and why(os.stat, f"/nowhere{number}") == "ENOENT"
        os.write(writer, b"+" if good and why(os.open, "/etc/passwd", 0) != "EPERM" else b"-")
        os._exit(0)
os.write(go, b"x" * 1000)
said = b""
while len(said) < 1000:
    said += os.read(reader, 1000)
for _ in range(1000):
    os.wait()
print(said.count(b"+"))
"""


def test_a_thousand_processes_live_in_one_tree_and_each_gets_its_own_answers(cage: Cage) -> None:
    assert cage.says(THOUSAND) == "1000"


def test_a_supervisor_that_is_slow_is_waited_for(cage: Cage, place: Path) -> None:
    """It is stopped meanwhile: nothing is permitted, denied or done twice for that."""
    code = f"""
os.chdir({str(place)!r})
pid = supervisor()
print(pid, flush=True)
sys.stdin.readline()
alarms = []
signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
signal.siginterrupt(signal.SIGALRM, False)  # else calls may end with EINTR: SECURITY.md says so
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
made = [why(os.mkdir, f"d{{number}}") for number in range(20)]
signal.setitimer(signal.ITIMER_REAL, 0)
again = [why(os.mkdir, f"d{{number}}") for number in range(20)]
print(set(made), set(again), bool(alarms))
"""
    program = cage.start(code)
    assert program.stdin is not None and program.stdout is not None
    pid = int(program.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    try:
        program.stdin.write("\n")
        program.stdin.flush()
        time.sleep(0.5)  # it waits in its first call, and alarms come
        assert program.poll() is None
        assert os.listdir(place) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert program.communicate(timeout=20) == ("{'ok'} {'EEXIST'} True\n", "")
