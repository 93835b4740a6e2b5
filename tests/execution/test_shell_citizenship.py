"""What a shell, a pipe and a parent process notice of certexec: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.execution.people import GRANT, MODES, PLAIN, WATCHED, Programs
from tests.execution.world import TIMEOUT, World

every_way = pytest.mark.parametrize("mode", MODES)
without_grant = pytest.mark.parametrize("mode", [PLAIN, WATCHED])
supervised = pytest.mark.parametrize("mode", [WATCHED, GRANT])

READY = "import sys; print('ready', flush=True); "


# -- how it ends -----------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_is_the_programs(programs: Programs, mode: str, status: int) -> None:
    assert programs.run(mode, f"import sys; sys.exit({status})").returncode == status


@every_way
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL])
def test_a_program_that_a_signal_killed_looks_killed(
    programs: Programs, mode: str, number: signal.Signals
) -> None:
    done = programs.run(mode, f"import os; os.kill(os.getpid(), {number:d})")
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


@every_way
def test_its_parent_can_signal_it(programs: Programs, mode: str) -> None:
    code = READY + (
        "import signal; signal.signal(signal.SIGHUP, lambda *_: sys.exit(7)); signal.pause()"
    )
    running = programs.start(mode, "import signal; " + code.replace(READY, READY))
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    time.sleep(0.05)
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=TIMEOUT)
    assert running.returncode == 7


@every_way
def test_a_killed_program_leaves_no_helper(programs: Programs, mode: str, world: World) -> None:
    running = programs.start(mode, READY + "import time; time.sleep(60)")
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.kill()
    running.communicate(timeout=TIMEOUT)
    assert running.returncode == -signal.SIGKILL
    assert world.settle() == {}


# -- pipes and children ----------------------------------------------------------------------------


@every_way
def test_a_pipe_ends_with_the_program(programs: Programs, mode: str) -> None:
    done = programs.world.run(
        "/bin/sh", "-c", f"{programs.path(mode)} -I -S -c 'print(42)' | cat; echo after"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\nafter\n", "")
    done = programs.world.run(
        "/bin/sh", "-c", f"echo in | {programs.path(mode)} -I -S -c 'print(input())' | tr a-z A-Z"
    )
    assert (done.returncode, done.stdout) == (0, "IN\n")


@every_way
def test_a_broken_pipe_kills_it_as_it_would(programs: Programs, mode: str, world: World) -> None:
    code = (
        "import signal, os; signal.signal(13, signal.SIG_DFL)\nwhile True: os.write(1, b'y' * 4096)"
    )
    done = world.run(
        "/bin/bash",
        "-c",
        f'{programs.path(mode)} -I -S -c "{code}" | head -c 3; echo ${{PIPESTATUS[0]}}',
    )
    assert done.stdout == "yyy141\n", done


def open_files(pid: int) -> set[str]:
    """Return what a process has open, as far as it does not close it meanwhile."""
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return held


@supervised
def test_no_helper_holds_anything_of_the_program_open(
    programs: Programs, mode: str, world: World
) -> None:
    running = programs.start(mode, READY + "sys.stdin.read()", cwd=world.place)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    mine = {os.readlink(f"/proc/{running.pid}/fd/{number}") for number in range(3)}
    assert all(name.startswith("pipe:") for name in mine)
    helpers = [pid for pid in world.strangers() if pid != running.pid]
    assert len(helpers) == 1
    held = set(mine)
    deadline = time.monotonic() + TIMEOUT
    while held & mine and time.monotonic() < deadline:  # while it looks at a call it has a hold
        held = open_files(helpers[0])
    assert not held & mine, held
    assert not any(name.startswith(str(world.place)) for name in held), held
    # its working directory is its own view of /proc, a mount that nobody else has
    assert os.readlink(f"/proc/{helpers[0]}/cwd") in ("/", "/proc")
    status = Path(f"/proc/{helpers[0]}/stat").read_text().rpartition(")")[2].split()
    assert int(status[3]) == helpers[0]  # a session of its own
    assert status[4] == "0"  # no terminal
    running.communicate(timeout=TIMEOUT)


@every_way
def test_the_parent_has_one_child(programs: Programs, mode: str) -> None:
    parent = r"""
import os, sys
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.dup2(writer, 1)
    os.close(reader)
    code = "import os, time; os.write(1, b'.'); time.sleep(.2)\ntry: os.waitpid(-1, os.WNOHANG)\n"
    code += "except ChildProcessError: os.write(1, b'none')"
    os.execve(sys.argv[1], ["x", "-I", "-S", "-c", code], {})
os.close(writer)
assert os.read(reader, 1) == b"."
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
assert children == [str(child)], children
assert os.wait()[0] == child
assert os.read(reader, 9) == b"none"  # nor has the program a child that it did not start
assert os.read(reader, 9) == b""
try:
    os.wait()
    sys.exit("a second child")
except ChildProcessError:
    pass
print(open(f"/proc/self/task/{os.getpid()}/children").read().split())
"""
    assert programs.bare(parent, programs.path(mode)) == "[]\n"


@every_way
def test_a_subreaper_gets_the_program_back_and_only_later_its_supervisor(
    programs: Programs, mode: str
) -> None:
    parent = r"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
child = os.fork()
if child == 0:
    os.execve(sys.argv[1], ["x", "-I", "-S", "-c", "import sys; sys.exit(3)"], {})
pids = []
while True:
    try:
        pids.append(os.wait())
    except ChildProcessError:
        break
assert [pid for pid, _ in pids].count(child) == 1, pids
print(len(pids), os.waitstatus_to_exitcode(dict(pids)[child]))
"""
    count, status = programs.bare(parent, programs.path(mode)).split()
    assert status == "3"
    assert int(count) <= 3


@every_way
def test_a_program_that_is_a_subreaper_inherits_no_helper(programs: Programs, mode: str) -> None:
    """The setting is the invoker's and passes through exec."""
    before = "import ctypes; ctypes.CDLL(None).prctl(36, 1)"
    code = (
        "import os\ntry: print(os.waitpid(-1, os.WNOHANG))\nexcept ChildProcessError: print('none')"
    )
    assert programs.output(mode, code, before=before) == "none\n"


@every_way
def test_children_of_the_program_outlive_it_under_the_policy(
    programs: Programs, mode: str, world: World
) -> None:
    code = r"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    sys.stdin.close(); os.close(0)
    time.sleep(0.3)
    os.write(1, open("/etc/hostname").read().encode() and b"child")
    os._exit(0)
os.write(1, b"parent ")
"""
    done = programs.run(mode, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "parent child", "")


# -- what it finds ---------------------------------------------------------------------------------


@every_way
def test_argv_is_as_typed(programs: Programs, mode: str, world: World) -> None:
    show = "print(open('/proc/self/cmdline', 'rb').read().split(b'\\0')[:-1])"
    for typed in ("anything", " ", "-dash", "with space", "/no/such/path"):
        before = f"argv[0] = {typed!r}"
        found = programs.output(mode, show, "one", "", "three", before=before)
        typed_argv = [typed, "-I", "-S", "-c", show, "one", "", "three"]
        assert found == f"{[word.encode() for word in typed_argv]}\n"


def test_a_shell_finds_it_in_path_and_says_its_name(world: World) -> None:
    world.sign("echo-zero", "/bin/dash")
    done = world.run("/bin/sh", "-c", "echo-zero -c 'echo $0'")
    assert (done.returncode, done.stdout) == (0, "echo-zero\n")
    link = world.path("bin/other-name")
    os.symlink("echo-zero", link)
    assert world.run("/bin/sh", "-c", "other-name -c 'echo $0'").stdout == "other-name\n"


@every_way
def test_directory_umask_and_process_are_kept(programs: Programs, mode: str, world: World) -> None:
    home = world.directory(f"home-{mode}", 0o777)
    code = "import os; print(os.getcwd(), os.umask(0), os.getpid(), os.getppid(), os.getpgrp(),"
    code += " os.getsid(0))"
    running = programs.start(
        mode, code, before=f"os.chdir({str(home)!r}); os.umask(0o137); os.setpgid(0, 0)"
    )
    out, _ = running.communicate(timeout=TIMEOUT)
    expected = [
        str(home),
        str(0o137),
        str(running.pid),
        str(os.getpid()),
        str(running.pid),
        str(os.getsid(0)),
    ]
    assert out.split() == expected


@without_grant
def test_the_environment_is_exactly_the_invokers(programs: Programs, mode: str) -> None:
    before = r"""
import ctypes
entries = [b"A=1", b"A=2", b"no-equals", b"=odd", b"EMPTY=", b"LD_NOTHING=x", b"B=\xff\xfe"]
entries += [b"P=" + b"x" * 70000]
vector = (ctypes.c_char_p * (len(entries) + 1))(*entries, None)
arguments = (ctypes.c_char_p * (len(argv) + 1))(*[one.encode() for one in argv], None)
ctypes.CDLL(None).execve(program.encode(), arguments, vector)
"""
    code = (
        "import hashlib; print(hashlib.sha256(open('/proc/self/environ', 'rb').read()).hexdigest())"
    )
    assert programs.output(mode, code, before=before) == programs.bare(code, before=before)


@without_grant
def test_descriptors_are_kept_and_none_is_added(
    programs: Programs, mode: str, world: World
) -> None:
    file = world.write("inherited", "content")
    before = f"""
for number in range(3, 1024):
    try: os.close(number)
    except OSError: pass
kept = os.open({file!r}, os.O_RDONLY)
os.dup2(kept, 77)
os.lseek(77, 3, 0)
os.close(kept)
os.dup2(os.open("/dev/null", 0), 500, False)  # close-on-exec
"""
    code = r"""
import os
found = {}
for name in os.listdir("/proc/self/fd"):
    try: found[int(name)] = os.readlink("/proc/self/fd/" + name)
    except OSError: pass
print(sorted(number for number in found if number > 2), found[77], os.read(77, 9))
"""
    before = before.replace(", 500, False)", ", 500)").replace(
        "  # close-on-exec", "; os.set_inheritable(500, False)"
    )
    assert programs.output(mode, code, before=before) == f"[77] {file} b'tent'\n"


@every_way
def test_signal_dispositions_and_masks_are_kept(programs: Programs, mode: str) -> None:
    before = r"""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
os.kill(os.getpid(), signal.SIGUSR2)
"""
    code = r"""
lines = open("/proc/self/status").read().splitlines()
words = dict(line.split(":\t") for line in lines if ":\t" in line)
print({name: words[name] for name in ("SigBlk", "SigPnd", "ShdPnd")},
      hex(int(words["SigIgn"], 16) & ~(1 << 12 | 1 << 24)))
"""
    assert programs.output(mode, code, before=before) == programs.bare(code, before=before)


@every_way
def test_an_ignored_sigchld_does_not_disturb_the_launch(programs: Programs, mode: str) -> None:
    before = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    for _ in range(3):
        assert programs.output(mode, "print(1)", before=before) == "1\n"


@every_way
def test_a_pending_timer_of_the_invoker_is_the_programs(programs: Programs, mode: str) -> None:
    """Timers and scheduling pass through exec; a slow launch must not be killed by them unseen."""
    before = "signal.setitimer(signal.ITIMER_REAL, 30, 0)"
    code = "import signal; print(signal.getitimer(signal.ITIMER_REAL)[0] > 1)"
    assert programs.output(mode, code, before=before) == "True\n"


# -- standard descriptors --------------------------------------------------------------------------

SHOW_STANDARD = r"""
import os, sys
found = []
for number in range(3):
    try: found.append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError: found.append("closed")
with open(sys.argv[1], "w") as file:
    file.write(" ".join(found))
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
@every_way
def test_closed_standard_descriptors(
    programs: Programs, mode: str, world: World, closed: tuple[int, ...]
) -> None:
    """Without a grant they stay closed; with one they are /dev/null, so that nothing slips in.

    Python itself opens none of them again.
    """
    target = world.write("standard", "", 0o666)
    before = "".join(f"os.close({number});" for number in closed)
    code = SHOW_STANDARD
    if mode != GRANT:
        code = code.replace("for number", "keep = os.open('/', 0)\nfor number", 1)
    done = world.run(programs.path(mode), "-I", "-S", "-c", SHOW_STANDARD, target, before=before)
    assert done.returncode == 0, done
    found = Path(target).read_text().split()
    for number in closed:
        expected = ("/dev/null",) if mode == GRANT else ("closed",)
        assert found[number] in expected, (closed, found)


def test_a_refusal_without_stderr_is_still_a_refusal(world: World) -> None:
    certificate = world.sign("nobody.cert", "/usr/bin/id", "--allow-user", "bob")
    done = world.run(certificate, before="os.close(0); os.close(1); os.close(2)")
    assert (done.returncode, done.stdout, done.stderr) == (126, "", "")


# -- through "certexec run" ------------------------------------------------------------------------


@without_grant
def test_run_gives_default_signals_and_the_same_process(
    programs: Programs, mode: str, world: World
) -> None:
    code = r"""
import os
lines = open("/proc/self/status").read().splitlines()
words = dict(line.split(":\t") for line in lines if ":\t" in line)
print(os.getpid(), os.getppid(), int(words["SigBlk"], 16), words["NoNewPrivs"])
"""
    argv = [
        sys.executable,
        "-m",
        "certexec.cli.main",
        "run",
        programs.path(mode),
        "--",
        "-I",
        "-S",
        "-c",
        code,
    ]
    running = world.start(*argv, env={"PYTHONPATH": str(world.package)})
    out, err = running.communicate(timeout=TIMEOUT)
    assert err == ""
    assert out.split() == [str(running.pid), str(os.getpid()), "0", "1"]


def test_run_leaves_sigpipe_at_its_default(world: World) -> None:
    certificate = world.sign("yes.cert", "/usr/bin/yes")
    command = f"{sys.executable} -m certexec.cli.main run {certificate}"
    done = world.run("/bin/bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}",
                     env={"PYTHONPATH": str(world.package)})  # fmt: skip
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


# -- many at once ----------------------------------------------------------------------------------


@every_way
def test_many_at_once(programs: Programs, mode: str, world: World) -> None:
    code = "import os, sys; sys.exit(int(open('/proc/self/stat').read().split()[0]) != os.getpid())"
    running = [programs.start(mode, code, stdin=subprocess.DEVNULL) for _ in range(12)]
    for one in running:
        out, err = one.communicate(timeout=TIMEOUT)
        assert (one.returncode, out, err) == (0, "", "")
