"""Lines "after", with real programs: what a tree has done decides what it may still do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.supervision.conftest import Cage

# what an interpreter needs in order to say what it found, and to end
SAY = "write, close, futex, exit_group, sigaction, munmap, brk, mmap, lseek, fstat, madvise"


@pytest.fixture
def log(place: Path) -> Path:
    file = place / "log"
    file.write_text("begin\n")
    file.chmod(0o666)
    return file


def test_once_a_log_is_open_for_append_only_writing_remains(cage: Cage, log: Path) -> None:
    code = """
name = sys.argv[1]
def all_else():
    return [why(one) for one in (
        lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)), lambda: os.stat("/") and None,
        lambda: os.read(ready, 1) and None, lambda: socket.socket().close(),
        lambda: os.getpriority(0, 0) or None, lambda: os.kill(0, 0), lambda: os.pipe() and None,
        lambda: os.execv("/bin/true", ["true"]) if fd else None, lambda: os.waitpid(os.fork(), 0))]
ready, fd = os.open("/dev/zero", os.O_RDONLY), 0
os.close(os.open(name, os.O_RDWR))
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
before = [why(lambda: os.stat("/") and None), why(os.read, ready, 1)]
fd = os.open(name, os.O_WRONLY | os.O_APPEND)
print(before, sorted(set(all_else())), os.write(fd, b"more\\n"), why(os.close, fd))
"""
    line = f'after native-open: filename eq "{log}" and oflags sub "a" then only {SAY}'
    said = cage.beyond(line).says(code, str(log))
    assert said == "['ok', b'\\x00'] ['EPERM'] 5 ok"
    assert log.read_text() == "begin\nmore\n"


def test_the_whole_tree_narrows_at_once(cage: Cage, log: Path) -> None:
    """A child from before loses what its parent loses, and what it starts later does, too."""
    code = """
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    for _ in range(2):
        theirs.recv(1)
        found = [why(lambda: os.getpriority(0, 0) or None)]
        child = os.fork()
        if child == 0:
            theirs.send((found[0] + why(lambda: os.getpriority(0, 0) or None)).encode())
            os._exit(0)
        os.waitpid(child, 0)
    os._exit(0)
for _ in range(2):
    ours.send(b"x")
    print(ours.recv(100).decode())
    os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.waitpid(pid, 0)
"""
    line = f'after native-open: oflags sub "a" then only {SAY}, open, fork, wait4, sendto, recvfrom'
    said = cage.beyond(f"{line}, set_robust_list, sigprocmask, getpid, gettid, rseq").says(
        code, str(log)
    )
    assert said.split() == ["okok", "EPERMEPERM"]


def test_a_call_that_begins_after_it_is_denied_in_every_thread(cage: Cage, log: Path) -> None:
    code = """
import threading
opened, tries, late = [False], [0, 0], []
def other():
    while not tries[1]:
        was = opened[0]
        try:
            os.getpriority(0, 0)
            tries[0] += 1
            if was:
                late.append(1)
        except OSError:
            tries[1] += 1
threads = [threading.Thread(target=other) for _ in range(3)]
for one in threads: one.start()
while tries[0] < 100: pass
os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
opened[0] = True
for one in threads: one.join()
print(len(late), tries[1] > 0, flush=True)
os._exit(0)
"""
    line = f'after native-open: oflags sub "a" then only {SAY}, sched_yield, clock_nanosleep, poll'
    said = cage.beyond(f"{line}, sigprocmask, gettid, exit, select").says(code, str(log))
    assert said == "0 True"


def test_lines_add_up_and_denied_calls_set_nothing(cage: Cage, log: Path) -> None:
    code = """
def left():
    return [why(lambda: os.getpriority(0, 0) or None), why(lambda: os.getpgid(0) and None)]
print(left(), why(os.open, "/etc/shadow", os.O_RDONLY), left())
os.stat("/usr"); print(left())
os.getppid(); print(left())
"""
    lines = [
        'after native-fsread: filename eq "/etc/shadow" then only write',
        f'after native-stat: filename eq "/usr" then only getpgid, getppid, {SAY}',
        f"after native-getppid: true then only getpriority, {SAY}",
    ]
    rules = [
        'fsread: filename eq "/etc/shadow" then deny[eacces]',
        'fsread: filename re "^" then permit', 'fswrite: filename re "^" then permit',
    ]  # fmt: skip
    said = cage.beyond(*lines).says(code, rules=rules).splitlines()
    assert said == ["['ok', 'ok'] EACCES ['ok', 'ok']", "['EPERM', 'ok']", "['EPERM', 'EPERM']"]


def test_an_exec_can_be_what_narrows(cage: Cage) -> None:
    code = """
for program in ("/usr/bin/id", "/usr/bin/echo"):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        os.execv(program, [program])
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), why(lambda: os.getpriority(0, 0) and 0))
"""
    needed = "execve, fork, wait4, dup2, mmap, mprotect, brk, read, pread64, fsread, fswrite"
    more = "arch_prctl, set_tid_address, set_robust_list, rseq, getrandom, prlimit64, access"
    line = f'after native-execve: filename sub "echo" then only {needed}, {more}, {SAY}, pread'
    said = cage.beyond(line).says(code, rules=['execve: filename re "^" then permit'])
    assert said.splitlines() == ["0 0", "0 EPERM"]


def test_the_log_says_why(cage: Cage, log: Path) -> None:
    cage.world.logged()
    line = f'after native-open: oflags sub "a" then only {SAY}'
    code = "os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND); why(lambda: os.getpriority(0, 0))"
    cage.beyond(line).says(code, str(log))
    lines = [one for one in cage.world.logged() if "native-getpriority" in one]
    assert len(lines) == 1 and "deny user: alice" in lines[0]
