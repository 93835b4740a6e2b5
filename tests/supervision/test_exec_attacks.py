"""Attacks on the borders between the policies of one tree, and on the watch over its processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.execution.world import ALICE, policy
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


ATTACH = """
# A thread of the lowest class, on a processor that is never idle, asks to trace a child that is
# still under our own policy. By the time it gets to run, the child is another program.
import _thread
cpu = min(os.sched_getaffinity(0))
others = sorted(os.sched_getaffinity(0) - {cpu}) or [cpu]
how = sys.argv[2]
def starve():
    os.sched_setaffinity(0, {cpu})
    while True:
        pass
hogs = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        starve()
    hogs.append(pid)
won = 0
for _ in range(int(sys.argv[3])):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, others)
        os.read(reader, 1)
        os.execv(sys.argv[1], [sys.argv[1], "20"])
    said, tell = os.pipe()
    attacker = os.fork()
    if attacker == 0:
        try:
            buffer = ctypes.create_string_buffer(8)
            vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
            os.sched_setaffinity(0, {cpu})
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.write(tell, b"!")
            if how == "ptrace":
                call(101, 0x4206, child, 0, 0)
            else:
                far = (ctypes.c_ulong * 2)(ADDRESS, 8)
                call(310, child, vector, 1, far, 1, 0)
            name = os.readlink(f"/proc/{child}/exe")
            os._exit(3 if name == sys.argv[1] and os.path.exists(f"/proc/{child}") and
                     (how != "ptrace" or f"TracerPid:\\t{os.getpid()}\\n" in
                      open(f"/proc/{child}/status").read()) else 0)
        finally:
            os._exit(0)
    os.read(said, 1)
    time.sleep(0.002 * (_ % 10))
    os.write(writer, b"!")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        done, status = os.waitpid(attacker, os.WNOHANG)
        if done:
            won += os.waitstatus_to_exitcode(status) == 3
            break
        time.sleep(0.005)
    else:
        os.kill(attacker, 9)
        os.waitpid(attacker, 0)
    os.kill(child, 9)
    os.waitpid(child, 0)
    for fd in (reader, writer, said, tell):
        os.close(fd)
for pid in hogs:
    os.kill(pid, 9)
print(won)
"""


@pytest.mark.timeout(180)
def test_a_call_into_a_process_does_not_outlast_its_policy(cage: Cage) -> None:
    text = policy(PYTHON) + policy(SLEEP)
    done = run(
        cage, "attach", PRELUDE + ATTACH, SLEEP, "ptrace", "40", policies=text, program=PYTHON
    )
    assert done.stdout == "0\n", done


SCRIPT_SWAP = """
# The script that has a policy of its own is executed by a name that leads elsewhere when its
# interpreter opens it.
good, bad, link = sys.argv[1:4]
how = sys.argv[4]
os.symlink(good, link)
counts = {}
def flip():
    while True:
        for one in (bad, good):
            os.symlink(one, link + "~")
            os.rename(link + "~", link)
            time.sleep(0.0005)
def turn():
    while True:
        for one in (bad, good):
            os.chdir(os.path.dirname(one))
            time.sleep(0.0005)
swapper = 0
if how == "swap":
    swapper = os.fork()
    if swapper == 0:
        flip()
for _ in range(int(sys.argv[5])):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        try:
            if how == "chdir":
                os.chdir(os.path.dirname(good))
                _thread.start_new_thread(turn, ())
                time.sleep(0.0005 * (_ % 7))
                argv = (ctypes.c_char_p * 2)(b"x", None)
                call(59, b"./script", argv, None)
            os.execv(link if how != "plain" else good, ["x"])
        except OSError as error:
            os.write(writer, errno.errorcode[error.errno].encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read().strip()
    status = os.waitpid(pid, 0)[1]
    key = said or ("killed" if status == 9 else str(status))
    counts[key] = counts.get(key, 0) + 1
if swapper:
    os.kill(swapper, 9)
print(sorted(counts))
"""


@pytest.fixture
def scripts(place: Path) -> tuple[Path, Path, Path]:
    """Return a script of root's, one of Alice's, and a place of hers for a link."""
    good, bad = place / "root" / "script", place / "hers" / "script"
    for file, word, owner in ((good, "GOOD", 0), (bad, "BAD", ALICE)):
        file.parent.mkdir()
        file.write_text(f"#!/bin/sh\necho {word}\n")
        file.chmod(0o755)
        os.chown(file.parent, owner, owner)
    return good, bad, bad.parent / "link"


def test_a_script_gives_its_policy_to_no_other_script(
    cage: Cage, scripts: tuple[Path, Path, Path]
) -> None:
    good, bad, link = scripts
    for how, rules, words in (
        ("plain", (), {"GOOD"}),
        ("swap", (), {"GOOD", "EPERM", "killed"}),
        ("chdir", (), {"GOOD", "EPERM", "killed"}),
        ("swap", (f'execve: filename eq "{good}" then permit',), {"GOOD", "EPERM", "killed"}),
    ):
        link.unlink(missing_ok=True)
        text = policy(PYTHON, *rules, without=["execveat"] if rules else []) + policy(str(good))
        done = run(
            cage, f"script-{how}-{len(rules)}", PRELUDE + SCRIPT_SWAP, str(good), str(bad),
            str(link), how, "100", policies=text, program=PYTHON,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert set(eval(done.stdout)) <= words, (how, rules, done.stdout)


def test_no_process_moves_the_directory_of_one_under_another_policy(cage: Cage) -> None:
    code = "print(why(lambda: call(56, 0x200 | 17, 0, 0, 0, 0)))"
    text = policy(PYTHON) + policy(SLEEP)
    done = run(cage, "together", PRELUDE + code, policies=text, program=PYTHON)
    assert done.stdout == "EPERM\n", done


KILLED_WHILE_FORKING = """
stuck = set()
for number in range(int(sys.argv[1])):
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(reader)
        while True:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
    os.close(writer)
    time.sleep(0.001 + 0.00005 * (number % 40))
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    # whoever was born holds the other end until it ends
    import select
    if not select.select([reader], [], [], 5)[0]:
        stuck.add(number)
        break
    os.close(reader)
print(sorted(stuck))
"""


def test_a_child_whose_parent_is_killed_while_it_forks_lives_its_own_life(cage: Cage) -> None:
    text = policy(PYTHON) + policy(SLEEP)
    done = run(
        cage, "orphans", PRELUDE + KILLED_WHILE_FORKING, "400", policies=text, program=PYTHON
    )
    assert done.stdout == "[]\n", done


EXECUTES = """
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        os.execv(sys.argv[1], [sys.argv[1], "20"])
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


def test_the_end_of_a_process_that_is_killed_at_its_exec_stop_comes_to_its_parent(
    cage: Cage,
) -> None:
    text = policy(PYTHON) + policy(SLEEP)
    path = cage.world.sign("ends", PYTHON, "--no-inherit", text=text)
    rounds = 300
    with cage.world.start(
        path, "-I", "-S", "-c", PRELUDE + EXECUTES, SLEEP, str(rounds)
    ) as running:
        assert running.stdout is not None
        for number in range(rounds):
            pid = int(running.stdout.readline())
            while os.readlink(f"/proc/{pid}/exe") != SLEEP:
                pass
            until = time.monotonic() + 0.00001 * (number % 60)
            while time.monotonic() < until:
                pass
            os.kill(pid, signal.SIGKILL)
            ended, _, _ = select.select([running.stdout], [], [], 10)
            if not ended:
                running.kill()
            assert ended, number
            assert running.stdout.readline() == "ended\n"


PRELOADED = """
for path in sys.argv[2:]:
    pid = os.fork()
    if pid == 0:
        os.execve(path, [path, "said"], {"LD_PRELOAD": sys.argv[1], "X": "y" * 9000})
    os.waitpid(pid, 0)
"""


def test_a_program_gets_no_libraries_from_one_under_another_policy(cage: Cage) -> None:
    source = "#include <unistd.h>\n__attribute__((constructor)) static void evil(void)"
    source += ' { if (write(1, "EVIL\\n", 5)) return; }\n'
    library = cage.world.compile("evil.so", source, "-shared", "-fPIC")
    echo = os.path.realpath("/bin/echo")
    for inherits in (False, True):
        rule = (f'execve: filename eq "{echo}" then permit[inherit]',) if inherits else ()
        text = policy(PYTHON, *rule, without=["execveat"] if rule else []) + policy(echo)
        done = run(
            cage, f"preload-{inherits}", PRELUDE + PRELOADED, library, echo, policies=text,
            program=PYTHON,
        )  # fmt: skip
        assert done.stdout == ("EVIL\n" if inherits else "") + "said\n", done


CLONES = """
import resource, threading
def denied():
    return why(lambda: os.uname().sysname)
def child_of(flags):
    reader, writer = os.pipe()
    pid = call(56, flags, 0, 0, 0, 0)
    if pid == 0:
        os.write(writer, denied().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        return file.read()
signal.signal(10, signal.SIG_IGN)
for flags in (17, 0x8000 | 17, 0x2000 | 17, 0x4000 | 17, 0, 10):
    print(child_of(flags))
# a thread that executes while the others fork, stop and go
pid = os.fork()
if pid == 0:
    def forks():
        while True:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
    for _ in range(3):
        threading.Thread(target=forks, daemon=True).start()
    time.sleep(0.05)
    argv = (ctypes.c_char_p * 3)(b"sleep", b"0", None)
    threading.Thread(target=lambda: call(59, sys.argv[1].encode(), argv, None)).start()
    time.sleep(20)
    os._exit(9)
for _ in range(300):
    if os.waitpid(pid, os.WNOHANG)[0]:
        break
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.001)
else:
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
# no room for another process
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(why(os.fork), denied())
"""


def test_however_a_process_is_made_it_has_its_parents_policy(cage: Cage) -> None:
    text = policy(PYTHON, without=["uname"]) + policy(SLEEP)
    done = run(cage, "clones", PRELUDE + CLONES, SLEEP, policies=text, program=PYTHON)
    assert done.stdout.split() == ["EPERM"] * 6 + ["EAGAIN", "EPERM"], done
