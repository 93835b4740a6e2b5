"""The program cannot reach its own supervisor, not even as root with every file permitted."""

from __future__ import annotations

import os

import pytest

from tests.execution.people import GRANT, PYTHON, WATCHED
from tests.execution.test_denials import TRIES, confined, run
from tests.execution.world import SUPERVISED, TIMEOUT, World, policy, wait_for

AS_ROOT = ["--setuid", "root", "--allow-user", "alice"]
ANY_FILE = ["fsread: true then permit", "fswrite: true then permit"]


AT_THE_SUPERVISOR = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result
pid = int(sys.stdin.readline())
tids = [int(name) for name in sys.stdin.readline().split()]
got = []
def must_fail(name, result, allowed=()):
    if isinstance(result, str) and result.startswith("E"):
        return
    got.append((name, result))
local, remote = (ctypes.c_ulong * 2)(0, 0), (ctypes.c_ulong * 2)(4096, 8)
for target in {pid, *tids}:
    for number in (0, 9, 15, 19):
        must_fail("kill", call(62, target, number))
        must_fail("tkill", call(200, target, number))
        must_fail("tgkill", call(234, pid, target, number))
    must_fail("ptrace", call(101, 0x4206, target, 0, 0))
    must_fail("attach", call(101, 16, target, 0, 0))
    must_fail("prlimit", call(302, target, 7, (ctypes.c_ulong * 2)(1, 1), 0))
    must_fail("setpriority", call(141, 0, target, 19))
    must_fail("affinity", call(203, target, 8, (ctypes.c_ulong * 1)(1)))
    must_fail("scheduler", call(144, target, 5, (ctypes.c_int * 1)(0)))
    must_fail("ioprio", call(251, 1, target, 3 << 13))
    must_fail("sigqueue", call(129, target, 9, ctypes.create_string_buffer(128)))
    must_fail("readv", call(310, target, local, 1, remote, 1, 0))
    must_fail("writev", call(311, target, local, 1, remote, 1, 0))
    must_fail("pidfd", call(434, target, 0))
    must_fail("kcmp", call(312, target, os.getpid(), 0, 0, 0))
must_fail("everybody", call(62, -1, 15))
must_fail("group", call(62, -pid, 15))
must_fail("all of a user", call(141, 2, 0, 19))
names = ["", "/mem", "/maps", "/environ", "/status", "/fd", "/fd/0", "/fd/3", "/exe",
         "/cwd/etc/passwd", "/root/etc/passwd", "/oom_score_adj", "/task", f"/task/{pid}/mem",
         f"/task/{pid}/fd/3", "/ns/mnt", "/attr/current", "/map_files"]
flags = (os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_NOFOLLOW, os.O_PATH, os.O_WRONLY)
os.chdir("/proc")
for target in {pid, *tids}:
    bases = (f"/proc/{target}", f"/proc/self/../{target}", f"{target}", f"/proc/./{target}/.",
             f"/proc/{target}/task/../", f"/proc/self/root/proc/{target}",
             f"/proc/self/cwd/{target}", f"/proc/thread-self/../../../{target}")
    for way in [base + name for base in bases for name in names]:
        for flag in flags:
            must_fail(way, tries(os.open, way, flag))
print(got)
sys.stdout.flush()
"""


def helper_of(world: World, program: int) -> tuple[int, list[str]]:
    (helper,) = [pid for pid in world.strangers() if pid != program]
    return helper, os.listdir(f"/proc/{helper}/task")


@pytest.mark.parametrize("mode", [WATCHED, GRANT])
def test_the_program_cannot_reach_its_supervisor(world: World, mode: str) -> None:
    """With a grant it is root, with every capability, and may open and call whatever it likes."""
    if mode == GRANT:
        path = world.install("at-it", PYTHON, *AS_ROOT, text=policy(PYTHON, *ANY_FILE))
    else:
        path = confined(world, "at-it", *SUPERVISED)
    running = world.start(path, "-I", "-S", "-c", TRIES + AT_THE_SUPERVISOR)
    wait_for(lambda: len(world.strangers()) == 2)
    helper, threads = helper_of(world, running.pid)
    out, err = running.communicate(f"{helper}\n{' '.join(threads)}\n", timeout=TIMEOUT)
    assert (running.returncode, err) == (0, ""), (err, out)
    assert out == "[]\n"


def test_a_descriptor_from_outside_does_not_lead_into_the_supervisor(world: World) -> None:
    """The invoker helps: it opens the supervisor's directory and passes it in by a socket."""
    path = world.install("fd-in", PYTHON, *AS_ROOT, text=policy(PYTHON, *ANY_FILE))
    code = r"""
import array, _socket
side = _socket.socket(fileno=50)
data, ancillary, _, _ = side.recvmsg(64, _socket.CMSG_SPACE(4))
fd = array.array("i", ancillary[0][2][:4])[0]
got = []
for name in ("mem", "maps", "environ", "fd/0", "exe", "root/etc/passwd", "task",
             "../" + data.decode() + "/maps", "."):
    for flags in (os.O_RDONLY, os.O_RDWR):
        try: got.append((name, os.open(name, flags, dir_fd=fd)))
        except OSError: pass
os.fchdir(fd)
for name in ("mem", "maps", "fd", "./environ"):
    try: got.append((name, os.open(name, os.O_RDONLY)))
    except OSError: pass
print(got)
"""
    parent = r"""
import array, os, socket, sys, time
ours, theirs = socket.socketpair()
os.dup2(theirs.fileno(), 50)
before = set(os.listdir("/proc"))
child = os.fork()
if child == 0:
    os.execv(sys.argv[1], ["x", "-I", "-S", "-c", sys.argv[2]])
helper = None
while helper is None:
    for name in set(os.listdir("/proc")) - before - {str(child)}:
        try:
            if b"serve.py" in open(f"/proc/{name}/cmdline", "rb").read():
                helper = name
        except OSError:
            pass
time.sleep(0.3)
fd = os.open(f"/proc/{helper}", os.O_RDONLY)
ours.sendmsg([helper.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert world.python(parent, path, TRIES + code) == "[]\n"


def test_a_process_in_the_tree_cannot_be_traced_by_another_to_change_a_call(world: World) -> None:
    """ptrace can change registers, but not after the filter has seen them."""
    code = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), 19)
    print(tries(os.open, "/etc/hostname", os.O_WRONLY), flush=True)
    os._exit(0)
while True:
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status): break
    libc.ptrace(7, child, 0, 0)
"""
    rules = ['fsread: filename re "^" then permit']
    assert run(world, confined(world, "ptrace", *rules, without=["fswrite"]), code) == ["EPERM"]
