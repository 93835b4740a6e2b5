"""Whom a program runs as, that it stays so, and that nobody else can reach into it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.people import PYTHON
from tests.execution.world import (
    ALICE,
    BOB,
    NETADMIN,
    SERVICE,
    SUPERVISED,
    TIMEOUT,
    World,
    policy,
    refused,
    wait_for,
)
from tests.isolation import need

CAP_CHOWN, CAP_NET_BIND, CAP_NET_RAW = 1 << 0, 1 << 10, 1 << 13

PROBE = """
import json, os, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
json.dump({
    "uids": [int(one) for one in status["Uid"].split()],
    "gids": [int(one) for one in status["Gid"].split()],
    "groups": [int(one) for one in status["Groups"].split()],
    "caps": {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "nnp": status["NoNewPrivs"],
}, sys.stdout)
"""


def found(world: World, path: str, *, uid: int = ALICE, groups: tuple[int, ...] = ()) -> dict:  # type: ignore[type-arg]
    done = world.run(path, "-I", "-S", "-c", PROBE, uid=uid, groups=groups)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def granted(world: World, *options: str, text: str | None = None) -> str:
    """Install a certificate for Python with these grants; everybody may run it."""
    name = "as-" + "-".join(one.strip("-") for one in options).replace(":", "")
    return world.install(name, PYTHON, *options, "--allow-everyone", text=text)


# -- ids --------------------------------------------------------------------------------------------


def test_without_a_grant_everything_is_the_invokers(world: World) -> None:
    state = found(world, world.sign("nothing.cert", PYTHON), groups=(NETADMIN,))
    assert state["uids"] == [ALICE] * 4
    assert state["gids"] == [ALICE] * 4
    assert state["groups"] == [NETADMIN]
    assert state["caps"]["CapPrm"] == state["caps"]["CapEff"] == 0
    assert state["nnp"] == "1"


@pytest.mark.parametrize(
    ("options", "euid", "egid", "groups"),
    [
        (["--setuid", "root"], 0, ALICE, [NETADMIN]),
        (["--setuid", "service"], SERVICE, ALICE, [NETADMIN]),
        (["--setgid", "netadmin"], ALICE, NETADMIN, [NETADMIN]),
        (["--setuid", "service", "--setgid", "service"], SERVICE, SERVICE, [NETADMIN]),
        (["--setuid", "service", "--no-groups"], SERVICE, ALICE, []),
        (["--add-group", "service", "--add-group", "bob"], ALICE, ALICE, [BOB, SERVICE]),
        (["--setuid", "#61777", "--add-group", "#61888"], 61777, ALICE, [61888]),
        (["--setuid", "root", "--setgid", "root", "--no-groups"], 0, 0, []),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, list) and value and isinstance(value[0], str) else "",
)
def test_ruid_stays_and_the_others_become_what_is_certified(
    world: World, options: list[str], euid: int, egid: int, groups: list[int]
) -> None:
    if options[0] == "--add-group" and "--setuid" not in options:
        pass  # groups only: it also runs from an unreadable memory file
    state = found(world, granted(world, *options), groups=(NETADMIN,))
    assert state["uids"] == [ALICE, euid, euid, euid]
    assert state["gids"] == [ALICE, egid, egid, egid]
    assert state["groups"] == groups
    if euid != 0:
        assert state["caps"]["CapPrm"] == state["caps"]["CapEff"] == state["caps"]["CapAmb"] == 0
    assert state["nnp"] == "0"


def test_root_itself_may_take_another_identity(world: World) -> None:
    state = found(world, granted(world, "--setuid", "service", "--no-caps"), uid=0)
    assert state["uids"] == [0, SERVICE, SERVICE, SERVICE]
    assert state["caps"]["CapEff"] == 0


def test_the_saved_ids_give_no_way_back(world: World) -> None:
    code = """
import os
def tries(function, *ids):
    try: function(*ids); return os.getresuid()
    except OSError as error: return error.errno
print(tries(os.setresuid, 0, 0, 0), tries(os.seteuid, 0), tries(os.setuid, 0), tries(os.setgroups, [0]),
      tries(os.setresgid, 0, 0, 0))
"""
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, "1 1 1 1 1\n"), done
    code = "import os; os.seteuid(os.getuid()); os.setreuid(-1, os.getuid()); print(os.getresuid()[:2])"
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert done.stdout == f"({ALICE}, {ALICE})\n"  # it may give its identity up, as any program


# -- capabilities -----------------------------------------------------------------------------------


def test_a_capability_with_an_ordinary_uid_comes_as_ambient(world: World) -> None:
    state = found(world, granted(world, "--cap", "net_bind_service"))
    assert state["uids"] == [ALICE] * 4
    assert state["caps"] == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), CAP_NET_BIND)


def test_capabilities_with_another_uid_are_exactly_the_certified(world: World) -> None:
    state = found(world, granted(world, "--setuid", "service", "--cap", "net_raw", "--cap", "chown"))
    caps = CAP_NET_RAW | CAP_CHOWN
    assert state["uids"] == [ALICE, SERVICE, SERVICE, SERVICE]
    assert state["caps"] == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), caps)


@pytest.mark.parametrize(("options", "caps"), [(["--cap", "net_raw"], CAP_NET_RAW), (["--no-caps"], 0)])
def test_root_with_certified_capabilities_has_no_others(
    world: World, options: list[str], caps: int
) -> None:
    state = found(world, granted(world, "--setuid", "root", *options))
    assert state["uids"] == [ALICE, 0, 0, 0]
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert state["caps"][name] == caps, name


def test_without_a_word_about_capabilities_root_has_roots(world: World) -> None:
    state = found(world, granted(world, "--setuid", "root"))
    assert state["caps"]["CapEff"] == state["caps"]["CapPrm"] == state["caps"]["CapBnd"] != 0


def test_another_uid_leaves_an_empty_bounding_set(world: World) -> None:
    assert found(world, granted(world, "--setuid", "service"))["caps"]["CapBnd"] == 0


def test_a_capability_does_what_it_is_for(world: World) -> None:
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 81)); print(s.getsockname()[1])"
    # the machine shares its network with the outside, whose root it is not: chown shows the same
    file = world.write("alices", "")
    os.chown(file, ALICE, ALICE)
    code = f"import os; os.chown({file!r}, {BOB}, -1); print(os.stat({file!r}).st_uid)"
    done = world.run(granted(world, "--cap", "chown"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"{BOB}\n"), done
    done = world.run(granted(world, "--cap", "net_raw"), "-I", "-S", "-c", code)
    assert "PermissionError" in done.stderr


# -- nothing grows ----------------------------------------------------------------------------------

GETCAP = "import os; print(os.getresuid(), [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')])"


@pytest.fixture(scope="module")
def tools(world_of_session: World) -> Iterator[Path]:
    """Programs that gain by exec: set-user-ID root, set-user-ID bob, set-group-ID, capabilities."""
    need("setcap")
    world = world_of_session
    where = world.directory("tools")
    for name, owner, group, mode in (
        ("suid-root", 0, 0, 0o4755), ("suid-bob", BOB, BOB, 0o4755), ("sgid", 0, NETADMIN, 0o2755),
        ("capable", 0, 0, 0o755), ("plain", 0, 0, 0o755),
    ):  # fmt: skip
        shutil.copy("/usr/bin/id", where / name)
        os.chown(where / name, owner, group)
        os.chmod(where / name, mode)
    done = world.machine.run("setcap", "cap_chown,cap_net_raw+ep", str(where / "capable"))
    assert done.returncode == 0, done.stderr
    for name in ("su", "mount"):
        path = shutil.which(name)
        if path is not None:
            shutil.copy(path, where / name)
            os.chmod(where / name, 0o4755)
    # unconfined they give what their files say, so that the tests below show something
    assert "euid=0" in world.run(str(where / "suid-root")).stdout
    assert f"egid={NETADMIN}" in world.run(str(where / "sgid")).stdout
    yield where


@pytest.mark.parametrize("tool", ["suid-root", "suid-bob", "sgid", "capable", "su", "mount"])
@pytest.mark.parametrize(
    "options",
    [["--setuid", "service"], ["--setgid", "netadmin"], ["--cap", "net_bind_service"],
     ["--setuid", "root", "--cap", "net_raw"], ["--setuid", "root", "--no-caps"]],
    ids=lambda options: "-".join(options).replace("--", ""),
)  # fmt: skip
def test_a_program_with_a_grant_gains_nothing_by_exec(
    world: World, tools: Path, tool: str, options: list[str]
) -> None:
    if not (tools / tool).exists():
        pytest.skip(f"{tool} is not installed here")
    code = f"import os; os.execv({str(tools / tool)!r}, [{tool!r}])"
    done = world.run(granted(world, *options), "-I", "-S", "-c", code)
    own_root = "--setuid" in options and options[1] == "root"
    if own_root and tool in ("suid-root", "su", "mount"):
        return  # root already: what it has is tested by its capabilities, below
    if tool == "sgid" and options == ["--setgid", "netadmin"]:
        assert done.returncode == 0  # nothing that it had not before
        return
    assert done.returncode == -signal.SIGKILL or "Operation not permitted" in done.stderr, done
    assert "uid=" not in done.stdout, done


def test_what_was_killed_is_logged(world: World, tools: Path) -> None:
    world.logged()
    code = f"import os; os.execv({str(tools / 'suid-root')!r}, ['x'])"
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: any("exec gave" in line for line in world._log))
    (line,) = world.logged()
    assert re.search(r"deny user: \w+, prog: .*syscall: native-execve\(59\), gain: exec gave uid 0$", line)


def test_root_with_few_capabilities_gets_no_more_by_any_exec(world: World, tools: Path) -> None:
    show = "import os; os.execv('/usr/bin/grep', ['grep', 'Cap[EPB][fn][fd]\\\\|CapPrm', '/proc/self/status'])"
    show = "import os; os.execv('/usr/bin/grep', ['grep', 'Cap', '/proc/self/status'])"
    done = world.run(granted(world, "--setuid", "root", "--cap", "net_raw"), "-I", "-S", "-c", show)
    assert done.returncode == 0, done
    words = dict(line.split(":\t") for line in done.stdout.splitlines())
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(words[name], 16) & ~CAP_NET_RAW == 0, words


def test_without_a_grant_set_id_files_have_no_effect(world: World, tools: Path) -> None:
    certificate = world.sign("plain-python", PYTHON)
    for tool in ("suid-root", "suid-bob", "sgid", "capable"):
        code = f"import os; os.execv({str(tools / tool)!r}, [{tool!r}])"
        done = world.run(certificate, "-I", "-S", "-c", code)
        assert done.returncode == 0, done
        assert "euid" not in done.stdout
        assert "egid" not in done.stdout


@pytest.mark.parametrize(
    "options", [["--setuid", "root"], ["--setuid", "service"], ["--cap", "net_raw"]],
    ids=lambda options: "-".join(options).replace("--", ""),
)  # fmt: skip
def test_ordinary_children_of_a_grant_keep_working(world: World, options: list[str]) -> None:
    path = world.install("sh-grant", "/bin/dash", *options, "--allow-everyone")
    script = "id -u; true && ls / >/dev/null; (exit 4); echo $?; env -i /bin/sh -c 'id -ru'"
    done = world.run(path, "-p", "-c", script)  # -p: else dash gives the identity up
    euid = {"root": 0, "service": SERVICE}.get(options[1], ALICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{euid}\n4\n{ALICE}\n", "")


def test_exec_of_what_does_not_exist_fails_as_ever(world: World) -> None:
    path = world.install("sh-grant", "/bin/dash", "--setuid", "service", "--allow-everyone")
    script = "/no/such/file; echo $?; /etc/passwd; echo $?; /usr; echo $?; exec /no/such"
    done = world.run(path, "-p", "-c", script)
    assert (done.returncode, done.stdout) == (127, "127\n126\n126\n"), done


def test_an_exec_in_a_thread_takes_the_process_over(world: World) -> None:
    code = """
import os, _thread, time
_thread.start_new_thread(os.execv, ("/usr/bin/id", ["id", "-u"]))
time.sleep(30)
"""
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"{SERVICE}\n"), done


def test_many_execs_in_many_processes(world: World) -> None:
    path = world.install("sh-grant", "/bin/dash", "--setuid", "service", "--allow-everyone")
    script = "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do /usr/bin/true || echo no; done) & done; wait; echo done"
    done = world.run(path, "-p", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_groups_only_runs_unreadable_and_executes_nothing(world: World) -> None:
    path = granted(world, "--add-group", "netadmin")
    code = """
import os
print(os.getgroups(), os.stat("/proc/self/exe").st_mode & 0o777)
try: os.execv("/usr/bin/id", ["id"])
except OSError as error: print(error.errno)
"""
    done = world.run(path, "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"[{NETADMIN}] {0o111}\n13\n"), done


def test_a_certificate_inside_a_confined_program_is_refused(world: World) -> None:
    inner = world.sign("inner.cert", "/usr/bin/id")
    for rules in ((), SUPERVISED):
        outer = world.sign("outer.cert", "/bin/dash", text=policy("/bin/dash", *rules))
        done = world.run(outer, "-c", f"{inner} -u; echo $?")
        assert done.stdout == "126\n"
        assert done.stderr == "certexec: a certificate was executed inside a confined program (nested)\n"


# -- the same user outside --------------------------------------------------------------------------

SLEEPER = "import sys, time; print('ready', flush=True); sys.stdin.read(); print('alive', flush=True)"

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
for pid in victims:
    tries(f"seize {pid}", lambda: libc.ptrace(0x4206, pid, 0, 0))
    tries(f"attach {pid}", lambda: libc.ptrace(16, pid, 0, 0))
    for name in ("mem", "environ", "maps", "auxv", "stack", "syscall", "pagemap", "io"):
        succeeded(f"read {name} {pid}", lambda: os.read(os.open(f"/proc/{pid}/{name}", os.O_RDONLY), 9))
    for name in ("mem", "comm", "timerslack_ns"):
        succeeded(f"write {name} {pid}", lambda: os.write(os.open(f"/proc/{pid}/{name}", os.O_WRONLY), b"5"))
    for name in ("oom_score_adj", "coredump_filter", "clear_refs"):
        succeeded(f"tune {name} {pid}", lambda: os.write(os.open(f"/proc/{pid}/{name}", os.O_WRONLY), b"5"))
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
    succeeded(f"scheduler {pid}", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
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
    assert len(helpers) == (0 if "--add-group" in options else 1)  # with groups only nothing is left to watch
    for pid in helpers:
        wait_for(lambda: ids_of(pid) == ["0"] * 4)  # between two calls
        assert world.python(ATTACK, str(pid)) == "\n"
        assert ids_of(pid) == ["0"] * 4  # it lives
    managed = {line.split()[0] for line in world.python(ATTACK, str(running.pid)).splitlines() if line}
    assert managed <= allowed, managed - allowed
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
    words = dict(line.split(":") for line in open(f"/proc/{pid}/status") if line.startswith("Uid:"))
    return words["Uid"].split()


def test_a_stopped_or_killed_supervisor_does_not_set_the_program_free(world: World) -> None:
    """Only root can do it; what is left must be able to do nothing that was supervised."""
    text = policy(PYTHON, 'fsread: filename re "^/(usr|lib|etc)" then permit')
    path = granted(world, "--setuid", "service", text=text)
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


def test_a_traced_invoker_gets_no_grant(world: World) -> None:
    path = granted(world, "--setuid", "root")
    tracer = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, 0, 0)
    os.execv(sys.argv[1], ["x", "-I", "-S", "-c", "import os; print(os.geteuid())"])
while True:
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) or os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status) % 256)
    libc.ptrace(7, child, 0, 0)
"""
    done = world.run(sys.executable, "-I", "-S", "-c", tracer, path)
    # the kernel withholds the bit from a traced exec, so the launcher never was root
    assert done.stdout == ""
    assert done.returncode == 126
    assert done.stderr.count("certexec: ") == 1


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
    """Inside it the file's owner is not root any more, or its root is nobody outside."""
    path = granted(world, "--setuid", "root")
    before = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x20000):
    raise OSError(ctypes.get_errno(), "unshare")
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {os.geteuid()} 1")
open("/proc/self/gid_map", "w").write(f"0 {os.getegid()} 1")
"""
    code = "import os; print('ran', os.getresuid()); open('/etc/shadow')"
    done = world.run(path, "-I", "-S", "-c", code, before=before)
    assert "ran" not in done.stdout or "PermissionError" in done.stderr, done
    if done.returncode == 126:
        assert done.stderr.count("certexec: ") == 1
