"""Confined programs that want something of the launcher, or of what is handed to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.execution.world import policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage
from tests.supervision.test_nested import CAT, ID, NEEDED, executes, logged

LAUNCHER = "/usr/libexec/certexec/launch"
ASK = """
def ask(what=0):
    return why(call, 157, 0x43584543, what, 0, 0, 0)
def files():
    return sorted(os.listdir("/proc/self/fd"))
"""


@pytest.fixture
def inner(cage: Cage) -> str:
    return cage.world.sign("attacked.cert", ID, text=policy(ID, *NEEDED))


def run(cage: Cage, code: str, inner: str, *rules: str) -> str:
    """Run Python code in a tree that may execute ``inner`` and what ``rules`` say."""
    cage.world.logged()
    text = policy(PYTHON, *executes(inner), *rules)
    outer = cage.world.sign("attacker", PYTHON, text=text)
    done = cage.world.run(outer, "-I", "-S", "-c", PRELUDE + ASK + code, inner)
    assert done.returncode == 0, done
    return done.stdout.strip()


def test_nobody_but_the_launcher_is_answered(cage: Cage, inner: str) -> None:
    code = """
before = files()
print(ask(), ask(1), ask(2), why(call, 157, 0x43584543 | 1 << 32, 0, 0, 0, 0), flush=True)
pid = os.fork()
if pid == 0:
    print("child", ask(), ask(1), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(files() == before)
"""
    out = run(cage, code, inner)
    assert out.splitlines() == ["EBUSY EBUSY EBUSY EBUSY", "child EBUSY EBUSY", "True"]
    assert logged_by(cage, "no certificate that a rule names")


def logged_by(cage: Cage, word: str) -> bool:
    class Found:
        world = cage.world

    return logged(Found, word)  # type: ignore[arg-type]


def test_the_launcher_started_by_hand_gains_nothing(cage: Cage, inner: str) -> None:
    code = f"""
import subprocess
def start(*argv):
    done = subprocess.run(argv, executable={LAUNCHER!r}, capture_output=True, text=True, stdin=0)
    print(done.returncode, done.stdout, done.stderr.strip())
start({LAUNCHER!r}, sys.argv[1], sys.argv[1])
start({LAUNCHER!r}, "--run", "0", sys.argv[1])
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.dup2(a.fileno(), 99)
start({LAUNCHER!r}, "--run", "99", sys.argv[1])
"""
    code = code.replace("stdin=0", "close_fds=False").replace("import subprocess", WITH_SITE)
    out = run(cage, code, inner, f'execve: filename eq "{LAUNCHER}" then permit')
    first, second, third = out.splitlines()
    assert first.startswith("125 "), out
    assert second.startswith("125 "), out
    assert third == "126  certexec: a certificate was executed inside a confined program (nested)"


WITH_SITE = f"sys.path[:0] = {[os.path.dirname(os.__file__)]!r}; import subprocess"


def test_a_name_that_leads_to_another_certificate_by_then_does_not_help(
    cage: Cage, inner: str, place: Path
) -> None:
    # judged by the name of one, executed as another: whatever comes, it is never the other one,
    # which may be executed, too, but not with these arguments
    other = cage.world.sign("evil.cert", CAT, text=policy(CAT))
    rule = f'execve: filename eq "{other}" and argv eq "never" then permit'
    secret = place / "secret"
    secret.write_text("secret\n")
    link = place / "link"
    code = f"""
link, good, bad = {str(link)!r}, sys.argv[1], {other!r}
os.symlink(good, link)
done = False
def swap():
    turn = 0
    while not done:
        turn += 1
        os.symlink((good, bad)[turn % 2], link + ".new")
        os.rename(link + ".new", link)
_thread.start_new_thread(swap, ())
ends = set()
for index in range(150):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.dup2(os.open("/dev/null", os.O_RDWR), 2)
        try:
            os.execv(link, ["id", {str(secret)!r}])
        except OSError as error:
            os._exit(99)
    os.close(writer)
    text = b""
    while chunk := os.read(reader, 4096):
        text += chunk
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    ends.add((text.decode(), os.WIFEXITED(status) and os.WEXITSTATUS(status)))
done = True
print("secret" in str(ends), sorted({{end for _, end in ends}}))
"""
    out = run(cage, code, inner, rule)
    assert out.startswith("False "), out
    # a refusal of id (1: it is no user's name), one at the exec (99), and death at the exec stop
    assert set(eval(out.partition(" ")[2])) <= {False, 1, 99}, out
    assert "1" in out


def test_the_launcher_can_be_neither_traced_nor_reached(cage: Cage, inner: str) -> None:
    # the parent does all it can to its child while that is the launcher
    code = """
before = os.getpid()
got = set()
for index in range(30):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.execv(sys.argv[1], ["id", "-u"])
    while True:
        try:
            image = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            image = ""
        if image.endswith("/launch"):
            got.add(("attach", why(call, 101, 16, pid, 0, 0)))
            got.add(("seize", why(call, 101, 0x4206, pid, 0, 0)))
            got.add(("mem", why(os.open, f"/proc/{pid}/mem", os.O_RDWR)))
            got.add(("fd", why(os.listdir, f"/proc/{pid}/fd")))
            buffer = ctypes.create_string_buffer(8)
            vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
            got.add(("write", why(call, 311, pid, vector, 1, vector, 1, 0)))
            try:
                pidfd = os.pidfd_open(pid)
                for number in range(3, 8):
                    got.add(("getfd", why(call, 438, pidfd, number, 0)))
                os.close(pidfd)
            except OSError:
                pass
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            got.add(("status", status))
            break
print(sorted(map(str, got)))
"""
    out = run(cage, code, inner)
    assert "('status', 0)" in out, out
    assert out.count("status") == 1, out
    for line in eval(out):
        if "status" not in line:
            assert any(word in line for word in ("EPERM", "ESRCH", "EACCES", "ENOENT")), out
    assert "attach" in out, out


def test_another_thread_does_not_outlive_the_exec(cage: Cage, inner: str) -> None:
    code = """
def busy():
    while True:
        ask()
        try:
            os.stat("/tmp")
        except OSError:
            pass
for index in range(20):
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            _thread.start_new_thread(busy, ())
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.execv(sys.argv[1], ["id", "-u"])
    print(os.waitpid(pid, 0)[1])
"""
    out = run(cage, code, inner)
    assert set(out.split()) == {"0"}, out


def test_a_launcher_that_dies_on_the_way_leaves_nothing(cage: Cage, inner: str) -> None:
    code = """
def is_on_its_way(pid):
    "False once it has ended: on a busy machine it may be through before it is looked at"
    while True:
        path = why(os.readlink, f"/proc/{pid}/exe")
        if path.endswith("/launch") or path == "ENOENT":
            return path != "ENOENT"
killed = 0
for index in range(600):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.execv(sys.argv[1], ["id", "-u"])
    killed += is_on_its_way(pid)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    if killed == 60:
        break
assert killed == 60
pid = supervisor()
print(pid)
sys.stdout.flush()
sys.stdin.readline()
"""
    text = policy(PYTHON, *executes(inner), 'connect: sockaddr re "^" then permit')
    outer = cage.world.sign("killer", PYTHON, text=text)
    running = cage.world.start(outer, "-I", "-S", "-c", PRELUDE + code, inner)
    assert running.stdout is not None
    pid = int(running.stdout.readline())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    running.communicate("\n", timeout=30)
    assert descriptors < 60
