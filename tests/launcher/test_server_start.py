"""Step 4: what the policy server is when Python takes over, whatever the invoker prepared."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.launcher.rig import USER, Rig, assert_refused, lie

pytestmark = pytest.mark.root

SETRESUID, SETRESGID, SETGROUPS = 117, 119, 116
SCHEDULER, SETPRIORITY, PRLIMIT, CLOSE_RANGE, DUP3, CHDIR = 144, 141, 302, 436, 292, 80
PRCTL, PR_SET_PTRACER = 157, 0x59616D61
PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER = 37, 36
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
INFINITY = resource.RLIM_INFINITY
REPORT = """
import resource, signal
libc = __import__("ctypes").CDLL(None)
status = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    status[name] = value.strip()
fds = {}
for name in os.listdir("/proc/self/fd"):
    try:
        fds[name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
with open("/proc/self/cmdline") as file:
    argv = file.read().split("\\0")[:-1]
with open("/proc/self/environ") as file:
    environment = file.read()
note("server", {
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "status": status,
    "fds": fds, "argv": argv, "env": environment, "cwd": os.getcwd(), "umask": os.umask(0o77),
    "session": os.getsid(0) == os.getpid(), "nice": os.getpriority(0, 0),
    "scheduler": os.sched_getscheduler(0), "cpus": len(os.sched_getaffinity(0)),
    "limits": {n: resource.getrlimit(n) for n in range(16)}, "personality": libc.personality(-1),
    "slack": libc.prctl(30, 0, 0, 0, 0), "io": libc.syscall(252, 1, 0) >> 13,
    "release": os.uname().release, "pid": os.getpid(),
    "oom": int(open("/proc/self/oom_score_adj").read()),
})
serve(NOOP)
"""


def report(rig: Rig, **options: object) -> dict[str, object]:
    rig.server(REPORT)
    done = rig.run(**options)  # type: ignore[arg-type]
    assert done.returncode in (42, 126), done  # a grant needs another plan: not the matter here
    found = rig.note("server")
    assert isinstance(found, dict)
    return found


def test_with_a_set_user_id_certificate_the_server_is_root_in_every_way(rig: Rig) -> None:
    found = report(rig, uid=USER, setuid=True, groups=[5, 6, 7])
    assert found["uids"] == found["gids"] == [0, 0, 0]
    assert found["groups"] == []
    status = found["status"]
    assert isinstance(status, dict)
    assert status["Uid"].split() == status["Gid"].split() == ["0"] * 4


def test_without_one_the_server_is_the_invoker(rig: Rig) -> None:
    found = report(rig, uid=USER, groups=[5, 6, 7])
    assert found["uids"] == found["gids"] == [USER] * 3
    assert found["groups"] == [5, 6, 7]


@pytest.mark.parametrize("setuid", [False, True])
def test_the_server_has_nothing_of_the_invokers_surroundings(rig: Rig, setuid: bool) -> None:
    found = report(rig, uid=USER, setuid=setuid, env={"PYTHONPATH": "/x", "LD_PRELOAD": "/y.so"})
    home = f"{rig.home}/current"
    assert found["argv"] == ["python", "-I", "-S", f"{home}/serve.py"]
    assert found["env"] == ""
    assert found["cwd"] == "/"
    assert found["umask"] == 0o77
    assert found["session"] is True
    fds = found["fds"]
    assert isinstance(fds, dict)
    assert [fds[n] for n in "012"] == ["/dev/null"] * 3
    assert fds["3"].startswith("socket:")
    assert {link for link in fds.values() if not link.startswith(("/proc/", "socket:"))} == {
        "/dev/null"
    }


def test_the_server_has_no_descriptor_of_the_invoker(rig: Rig) -> None:
    def open_many() -> None:
        for _ in range(300):
            os.set_inheritable(os.open("/dev/zero", os.O_RDONLY), True)

    fds = report(rig, uid=USER, after=open_many)["fds"]
    assert isinstance(fds, dict)
    assert "/dev/zero" not in fds.values()


def test_signals_are_as_new_whatever_the_invoker_blocked_or_ignored(rig: Rig) -> None:
    def worst() -> None:
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))

    status = report(rig, uid=USER, after=worst)["status"]
    assert isinstance(status, dict)
    assert int(status["SigBlk"], 16) == 0
    python_ignores = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(status["SigIgn"], 16) & ~python_ignores == 0


def test_scheduling_is_as_new_whatever_the_invoker_chose(rig: Rig) -> None:
    libc = ctypes.CDLL(None)

    def worst() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        os.sched_setaffinity(0, {0})
        libc.prctl(PR_SET_TIMERSLACK, 1 << 30, 0, 0, 0)
        libc.personality(0x0020000)  # UNAME26
        assert libc.syscall(251, 1, 0, 3 << 13) == 0  # ioprio_set: idle

    found = report(rig, uid=USER, setuid=True, after=worst)
    assert found["nice"] == 0
    assert found["scheduler"] == os.SCHED_OTHER
    assert found["cpus"] == os.cpu_count()
    assert found["slack"] == 50000
    assert found["io"] != 3
    assert found["personality"] == 0
    assert not str(found["release"]).startswith("2.6")


@pytest.mark.parametrize(
    ("lies", "text"),
    [
        ([(SCHEDULER,)], "cannot leave the invoker's scheduling"),
        ([(SETPRIORITY,)], "cannot leave the invoker's scheduling"),
        ([(SETRESUID, (0, 0))], "could not become root"),
        ([(SETRESGID, (0, 0))], "could not become root"),
        ([(SETGROUPS, (0, 0))], "could not become root"),
    ],
    ids=["scheduler", "nice", "setresuid", "setresgid", "setgroups"],
)
def test_a_privileged_server_reads_back_what_it_needs(
    rig: Rig, lies: list[tuple[object, ...]], text: str
) -> None:
    def prepare() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        for one in lies:
            lie(*one)  # type: ignore[arg-type]

    rig.server("serve(flags=plans.PLAN_PRIVILEGED, euid=0)")
    done = rig.run(uid=USER, setuid=True, groups=[8], before=prepare)
    assert_refused(done, 125, text)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (PRLIMIT, "cannot leave the invoker's limits"),
        (CHDIR, "cannot leave the invoker's limits"),
        (CLOSE_RANGE, "cannot leave the invoker's descriptors"),
        (DUP3, "cannot leave the invoker's descriptors"),
    ],
    ids=["prlimit", "chdir", "close_range", "dup3"],
)
def test_a_server_that_cannot_start_says_why(rig: Rig, call: int, text: str) -> None:
    if call == PRLIMIT:  # RLIMIT_CPU only: the launcher's own limit on files must work
        done = rig.run(uid=USER, before=lambda: lie(call, (1, 0), errno=1))
    else:
        done = rig.run(uid=USER, before=lambda: lie(call, errno=38))
    assert_refused(done, 125, text)


def test_limits_are_lifted_as_far_as_the_machine_allows(rig: Rig) -> None:
    mine = {n: resource.getrlimit(n) for n in range(16)}

    def low() -> None:
        for number in (1, 4, 5, 8, 10, 11, 12, 15):
            resource.setrlimit(number, (0, mine[number][1]))
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, mine[3][1]))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 33, mine[9][1]))
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 33, mine[2][1]))
        resource.setrlimit(resource.RLIMIT_CPU, (5, mine[0][1]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, mine[7][1]))

    for setuid in (False, True):
        limits = report(rig, uid=USER, setuid=setuid, after=low)["limits"]
        assert isinstance(limits, dict)
        for number in (0, 1, 2, 5, 6, 8, 9, 10, 11, 12, 15):
            soft, hard = limits[str(number)]
            assert soft == hard
            assert hard in (mine[number][1], INFINITY)
        assert limits["4"] == [0, 0]
        assert limits["3"][0] == 8 << 20
        assert limits["7"][0] >= min(mine[7][1], 65536)


def test_a_limit_on_file_size_stops_neither_server_nor_program(rig: Rig) -> None:
    rig.server("serve(NOOP, env=[b'X=' + b'y' * 100000] * 9)")
    for setuid in (False, True):
        if setuid:
            rig.server("serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=0)")
        done = rig.run(
            uid=USER, setuid=setuid,
            after=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )  # fmt: skip
        assert done.returncode == 42, done


def test_no_child_is_left_and_no_signal_is_pending(rig: Rig) -> None:
    def block_all() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))

    rig.server("serve()\nimport time\ntime.sleep(0.2)")
    found = rig.probe(uid=USER, after=block_all)
    status = found["status"]
    assert isinstance(status, dict)
    assert int(status["SigPnd"], 16) == int(status["ShdPnd"], 16) == 0
    assert int(status["SigBlk"], 16) & 1 << signal.SIGCHLD - 1
    assert found["child"] is False


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_an_ignored_sigchld_makes_no_difference(rig: Rig, disposition: signal.Handlers) -> None:
    found = rig.probe(uid=USER, after=lambda: signal.signal(signal.SIGCHLD, disposition))
    status = found["status"]
    assert isinstance(status, dict)
    ignored = bool(int(status["SigIgn"], 16) & 1 << signal.SIGCHLD - 1)
    assert ignored == (disposition == signal.SIG_IGN)


def test_a_subreaper_stays_one_and_gets_no_child(rig: Rig) -> None:
    libc = ctypes.CDLL(None)

    def subreaper() -> None:
        assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    rig.server("serve()\nimport time\ntime.sleep(0.5)")
    code = (
        "import ctypes, os, sys\nflag = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0)\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "print(flag.value, repr(children))"
    )
    done = rig.run("-I", "-S", "-c", code, uid=USER, after=subreaper)
    assert done.stdout == "1 ''\n", done


def test_the_parent_waits_for_one_child_only(rig: Rig) -> None:
    script = (
        "import os, sys\n"
        "pid = os.posix_spawn(sys.argv[1], [sys.argv[1], '-c', 'pass'], {})\n"
        "print(os.waitpid(-1, 0)[0] == pid)\n"
        "try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print('no more')\n"
    )
    rig.register()
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, rig.certificate()], capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout == "True\nno more\n"


def test_pipes_end_when_the_program_ends_though_the_server_lives(rig: Rig) -> None:
    rig.server("serve(NOOP)\nimport time\ntime.sleep(20)")
    done = rig.run(uid=USER, timeout=10)
    assert done.returncode == 42


def _broken(rig: Rig, change: Callable[[], None], back: Callable[[], None]) -> str:
    change()
    try:
        done = rig.run(uid=USER)
    finally:
        back()
    assert_refused(done, 125, "")
    return done.stderr


def test_a_missing_interpreter_is_certexecs_own_fault(rig: Rig) -> None:
    link = rig.home / "current/python"
    target = os.readlink(link)
    text = _broken(rig, link.unlink, lambda: link.symlink_to(target))
    assert text == (
        f'certexec: certexec is not set up: "{link}" cannot be executed: ENOENT (internal)\n'
    )


def test_an_interpreter_that_may_not_be_executed_is_certexecs_own_fault(rig: Rig) -> None:
    (rig.home / "current").chmod(0o700)
    try:
        assert_refused(rig.run(uid=USER), 125, "cannot be executed: EACCES")
    finally:
        (rig.home / "current").chmod(0o755)


@pytest.mark.parametrize("body", ["", "os._exit(3)", "os.kill(os.getpid(), 9)", "1/0", "syntax("])
def test_a_server_that_ends_without_an_answer_is_certexecs_own_fault(rig: Rig, body: str) -> None:
    rig.server(body)
    assert_refused(rig.run(uid=USER), 125, "policy server ended")


def test_the_number_of_processes_may_be_used_up(rig: Rig) -> None:
    rig.server("serve(NOOP)")
    # uid 12347 has no other process: the launcher itself is one
    done = rig.run(
        uid=12347, after=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    )
    assert_refused(done, 125, "no process for the policy server")
    rig.server("serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=0)")
    done = rig.run(
        uid=12347, setuid=True,
        after=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
    )  # fmt: skip
    assert done.returncode == 42  # root's server is not counted against the invoker


def test_the_server_may_trace_the_launcher(rig: Rig) -> None:
    rig.server(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "channel = Channel(3)\nhello = channel.recv_hello()\n"
        "note('traced', libc.ptrace(0x4206, channel.peer_pid, 0, 0x10))\n"
        "channel.send_plan(make(hello, flags=plans.PLAN_TRACED).encode(), program(NOOP))\n"
        "os.waitpid(channel.peer_pid, 0)\n"
        "libc.ptrace(17, channel.peer_pid, 0, 0)\n"
    )
    assert rig.run(uid=USER).returncode == 42
    assert rig.note("traced") == 0


def calls_of_a_launch(rig: Rig, names: str, before: Callable[[], None] | None = None) -> list[str]:
    trace = rig.notes / "trace"
    rig.server("note('pid', os.getpid())\nserve(NOOP)")
    certificate = rig.certificate()
    rig.register()
    done = subprocess.run(
        ["strace", "-e", f"trace={names}", "-o", trace, certificate], check=False, timeout=30,
        capture_output=True, preexec_fn=before,
    )  # fmt: skip
    assert done.returncode == 42
    return trace.read_text().splitlines()


def place_of(calls: list[str], text: str) -> int:
    return next(place for place, line in enumerate(calls) if text in line)


def test_where_yama_is_the_server_is_known_to_it_before_it_is_asked(rig: Rig) -> None:
    calls = calls_of_a_launch(
        rig, "prctl,wait4,sendmsg", lambda: lie(PRCTL, (0, PR_SET_PTRACER), errno=0)
    )
    allowed = place_of(calls, f"PR_SET_PTRACER, {rig.note('pid')}")
    assert place_of(calls, "wait4") < allowed < place_of(calls, "sendmsg")


def test_elsewhere_the_launcher_sleeps_once_only(rig: Rig) -> None:
    calls = calls_of_a_launch(rig, "prctl,wait4,sendmsg,recvmsg,execveat")
    assert sum("PR_SET_PTRACER" in line for line in calls) == 1
    # the server's parent has ended long before the answer comes, and is gone before the program is
    assert (
        place_of(calls, "sendmsg") < place_of(calls, "recvmsg") < place_of(calls, "wait4")
        < place_of(calls, "execveat")
    )  # fmt: skip
