"""Other processes of the invoker's uid reach neither a program with a grant nor its supervisor."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.execution.people import PYTHON
from tests.execution.test_identity import granted
from tests.execution.world import (
    ALICE,
    SUPERVISED,
    TIMEOUT,
    World,
    policy,
    refused,
    wait_for,
)

SLEEPER = (
    "import sys, time; print('ready', flush=True); sys.stdin.read(); print('alive', flush=True)"
)

ATTACK = """
import ctypes, os, signal, sys
victims = [int(word) for word in sys.argv[1:]]
libc = ctypes.CDLL(None, use_errno=True)
done = []
def tries(name, function):
    try:
        result = function()
    except OSError as error:
        return
    if result not in (None, -1):
        done.append(f"{name}: {result!r}")
def succeeded(name, function):
    try:
        function()
    except OSError:
        return
    done.append(name)
def put(path):
    os.write(os.open(path, os.O_WRONLY), b"5")
idle = os.sched_param(0)
for pid in victims:
    tries(f"seize {pid}", lambda: libc.ptrace(0x4206, pid, 0, 0))
    tries(f"attach {pid}", lambda: libc.ptrace(16, pid, 0, 0))
    for name in ("mem", "environ", "maps", "auxv", "stack", "syscall", "pagemap", "io"):
        succeeded(f"read {name} {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(9))
    for name in ("mem", "comm", "timerslack_ns"):
        succeeded(f"write {name} {pid}", lambda: put(f"/proc/{pid}/{name}"))
    for name in ("oom_score_adj", "coredump_filter", "clear_refs"):
        succeeded(f"tune {name} {pid}", lambda: put(f"/proc/{pid}/{name}"))
    for name in ("exe", "cwd", "root", "fd/0", "fd/3", "ns/mnt"):
        succeeded(f"link {name} {pid}", lambda: os.readlink(f"/proc/{pid}/{name}"))
    succeeded(f"fds {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    pidfd = os.pidfd_open(pid)
    tries(f"getfd {pid}", lambda: libc.syscall(438, pidfd, 0, 0))
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_ulong * 2)(0x400000, 8)
    tries(f"vm_readv {pid}", lambda: libc.syscall(310, pid, local, 1, remote, 1, 0))
    tries(f"vm_writev {pid}", lambda: libc.syscall(311, pid, local, 1, remote, 1, 0))
    limits = (ctypes.c_ulong * 2)(1, 1)
    tries(f"prlimit {pid}", lambda: libc.syscall(302, pid, 7, limits, 0))
    succeeded(f"nice {pid}", lambda: os.setpriority(0, pid, 19))
    succeeded(f"affinity {pid}", lambda: os.sched_setaffinity(pid, {0}))
    succeeded(f"scheduler {pid}", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, idle))
    assert open(f"/proc/{pid}/cmdline").read(), "it ended before it was attacked"
    for number in (34, 12, 10, 2, 1, 20, 19, 18, 15, 9):
        succeeded(f"kill {pid}", lambda: os.kill(pid, number))
    succeeded(f"kill {pid}", lambda: signal.pidfd_send_signal(pidfd, 9))
print("\\n".join(done))
"""


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        # kill(2) compares with the target's real id, which stays the invoker's, as everywhere
        (["--setuid", "root"], {"kill"}),
        (["--setuid", "service"], {"kill", "nice", "affinity", "scheduler"}),
        (["--setgid", "netadmin"], {"kill", "nice", "affinity", "scheduler"}),
        # all ids are the invoker's: what they may do to any program with file capabilities
        (["--cap", "net_bind_service"], {"kill", "prlimit", "tune", "fds"}),
        (["--add-group", "netadmin"], {"kill", "nice", "affinity", "scheduler", "prlimit"}),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, list) else "",
)
def test_the_same_user_outside_reaches_neither_program_nor_supervisor(
    world: World, options: list[str], allowed: set[str]
) -> None:
    path = granted(world, *options)
    running = world.start(path, "-I", "-S", "-c", SLEEPER)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    helpers = [pid for pid in world.strangers() if pid != running.pid]
    assert len(helpers) == (
        0 if "--add-group" in options else 1
    )  # with groups only nothing is left to watch
    for pid in helpers:
        wait_for(lambda helper=pid: ids_of(helper) == ["0"] * 4)  # between two calls
        assert world.python(ATTACK, str(pid)) == "\n"
        assert ids_of(pid) == ["0"] * 4  # it lives
    managed = {
        line.split()[0] for line in world.python(ATTACK, str(running.pid)).splitlines() if line
    }
    assert managed <= allowed, managed - allowed
    running.communicate(timeout=TIMEOUT)


def test_the_same_user_outside_cannot_look_into_a_plain_supervisor(world: World) -> None:
    """It is the user's own process, so it can be stopped; it cannot be made to lie."""
    path = world.sign("watched", PYTHON, text=policy(PYTHON, *SUPERVISED))
    running = world.start(path, "-I", "-S", "-c", SLEEPER)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    (helper,) = [pid for pid in world.strangers() if pid != running.pid]
    managed = {line.split()[0] for line in world.python(ATTACK, str(helper)).splitlines() if line}
    assert managed <= {"kill", "nice", "affinity", "scheduler", "prlimit"}, managed
    running.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize(
    "options",
    [["--setuid", "root"], ["--setuid", "service"], ["--setgid", "netadmin"],
     ["--cap", "dac_read_search"], ["--add-group", "netadmin"]],
    ids=lambda options: "-".join(options).replace("--", ""),
)  # fmt: skip
def test_no_core_file_shows_what_a_program_with_a_grant_read(
    world: World, options: list[str]
) -> None:
    path = granted(world, *options)
    parent = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
child = os.fork()
if child == 0:
    os.execv(sys.argv[1], ["x", "-I", "-S", "-c", "import os; os.abort()"])
status = os.waitpid(child, 0)[1]
print(os.WTERMSIG(status), os.WCOREDUMP(status))
"""
    home = world.place / "cores"
    if not home.exists():
        world.directory("cores", 0o777)
    assert world.python(parent, path, cwd=home) == "6 False\n"
    assert os.listdir(home) == []


def ids_of(pid: int) -> list[str]:
    """Return the four user ids of a process as text."""
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition("\nUid:")[2].partition("\n")[0].split()


def test_a_stopped_or_killed_supervisor_does_not_set_the_program_free(world: World) -> None:
    """Only root can do it; what is left must be able to do nothing that was supervised."""
    text = policy(PYTHON, 'fsread: filename re "^/(usr|lib|etc)" then permit')
    path = world.install("lone", PYTHON, "--setuid", "service", "--allow-everyone", text=text)
    code = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
for call in (lambda: os.open("/etc/hostname", 0), lambda: os.open("/proc/self/mem", 2),
             lambda: os.execv("/usr/bin/id", ["id"])):
    try: print("got", call(), flush=True)
    except OSError as error: print(error.errno, flush=True)
"""
    running = world.start(path, "-I", "-S", "-c", code)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    (helper,) = [pid for pid in world.strangers() if pid != running.pid]
    os.kill(helper, signal.SIGKILL)
    out, err = running.communicate("go\n", timeout=TIMEOUT)
    assert "got" not in out, out
    assert "uid=" not in out, out


@pytest.mark.parametrize("tracer", [ALICE, 0], ids=["own", "root"])
def test_a_traced_invoker_gets_no_grant(world: World, tracer: int) -> None:
    """The kernel withholds the bit from an exec that the same user traces; for root's we ask."""
    path = granted(world, "--setuid", "service")
    code = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid({ALICE}, {ALICE}, {ALICE})
        os.setresuid({ALICE}, {ALICE}, {ALICE})
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: so that it may be traced
    os.write(ready[1], b".")
    os.read(go[0], 1)
    os.execv(sys.argv[1], ["x", "-I", "-S", "-c", "import os; print(os.geteuid())"])
os.read(ready[0], 1)
assert libc.ptrace(0x4206, child, 0, 0) == 0  # PTRACE_SEIZE
os.write(go[1], b".")
while True:
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) or os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status) % 256)
    libc.ptrace(7, child, 0, 0)
"""
    done = world.run(sys.executable, "-I", "-S", "-c", code, path, uid=tracer)
    refused(done, "setuid-denied")


def test_no_new_privs_of_the_invoker_withholds_the_grant(world: World) -> None:
    path = granted(world, "--setuid", "root")
    refused(
        world.run(path, before="import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)"),
        "setuid-denied",
    )
    plain = world.sign("plain-id", "/usr/bin/id")
    done = world.run(plain, "-u", before="import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)")
    assert done.stdout == f"{ALICE}\n"


def test_a_user_namespace_of_ones_own_gives_nothing(world: World) -> None:
    """Root's files belong to nobody there, so the kernel ignores their bit; Alice is its root."""
    before = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, or its own /proc files were root's
uid, gid = os.getuid(), os.getgid()
if libc.unshare(0x10000000 | 0x20000):
    raise OSError(ctypes.get_errno(), "unshare")
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
"""
    granting = granted(world, "--setuid", "root")
    refused(world.run(granting, "-c", "print('ran')", before=before), "setuid-denied")
    plain = world.sign("plain-id", "/usr/bin/id")
    done = world.run(plain, "-u", before=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
