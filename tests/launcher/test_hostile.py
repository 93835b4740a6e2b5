"""An ordinary user tries: a program with a grant gives nothing beyond the grant."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launcher.rig import PYTHON, STRANGER, USER, Rig, assert_refused, become, skip_or_fail

pytestmark = pytest.mark.root

GRANT = "flags=plans.PLAN_PRIVILEGED, euid=0, env=[b'PATH=/usr/bin:/bin']"
SPY = """
#include <unistd.h>
__attribute__((constructor)) static void spy(void) { write(1, "SPY\\n", 4); }
"""
VARIABLES = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME",
             "PYTHONINSPECT", "GCONV_PATH", "GLIBC_TUNABLES", "TMPDIR", "LD_DEBUG")  # fmt: skip


@pytest.fixture(scope="module")
def spy(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("spy")
    for one in (directory, *directory.parents):
        if "pytest" in one.name:
            one.chmod(0o755)
    source = directory / "spy.c"
    source.write_text(SPY)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", directory / "spy.so", source], check=True
    )
    (directory / "spy.so").chmod(0o755)
    return str(directory / "spy.so")


def test_no_variable_of_the_invoker_reaches_a_program_with_a_grant(rig: Rig, spy: str) -> None:
    hostile = dict.fromkeys(VARIABLES, spy)
    code = "import os; print(sorted(os.environ), os.getresuid())"
    # the variables do work where nothing is granted
    bare = subprocess.run(
        [PYTHON, "-c", "pass"], env={"LD_PRELOAD": spy}, capture_output=True, text=True, check=False
    )
    assert "SPY" in bare.stdout
    for fields in (GRANT, GRANT.replace("euid=0", "euid=1000, groups=[4]")):
        rig.server(f"serve({fields})")
        done = rig.run("-I", "-c", code, uid=USER, setuid=True, env=hostile)
        assert "SPY" not in done.stdout
        assert done.stdout.startswith("['LC_CTYPE', 'PATH']") or done.stdout.startswith("['PATH']")


def test_no_variable_reaches_the_server_even_without_a_grant(rig: Rig, spy: str) -> None:
    rig.server("serve(NOOP)\nnote('maps', open('/proc/self/maps').read())")
    assert rig.run(uid=USER, env=dict.fromkeys(VARIABLES, spy)).returncode == 42
    assert "spy" not in str(rig.note("maps"))


def test_a_copy_of_a_set_user_id_certificate_gives_nothing(rig: Rig) -> None:
    rig.server(f"serve(NOOP, {GRANT})")
    original = rig.certificate(setuid=True)
    copy = rig.notes / "copy"

    def make_copy() -> None:
        become(USER)
        shutil.copyfile(original, copy)
        os.chmod(copy, 0o4755)

    pid = os.fork()
    if pid == 0:
        try:
            make_copy()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert copy.stat().st_uid == USER
    assert_refused(rig.run(uid=USER, path=copy), 126, "not owned by root:root")
    assert_refused(rig.run(uid=STRANGER, path=copy), 126, "neither the invoker's nor 0")


def test_a_tracer_takes_the_privilege_away_before_it_sees_anything(rig: Rig) -> None:
    rig.server(f"serve(NOOP, {GRANT})")
    libc = ctypes.CDLL(None)
    certificate = rig.certificate(setuid=True)
    rig.register()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(USER)
        os.dup2(writer, 2)
        libc.ptrace(0, 0, 0, 0)
        os.execv(certificate, ["x"])
    os.close(writer)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSTOPPED(status)
    libc.ptrace(17, pid, 0, 0)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 126
    with os.fdopen(reader) as file:
        assert "the kernel withheld the identity" in file.read()


def ordinary() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell ignores it in background jobs
    become(USER)


def start(rig: Rig, body: str) -> subprocess.Popen[bytes]:
    rig.server(body)
    rig.register()
    certificate = rig.certificate(setuid=True)
    return subprocess.Popen(
        [certificate, "-c", "import time; time.sleep(30)"], preexec_fn=ordinary,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def as_user(action: object) -> int:
    """Run a function as USER in a child; return its errno, 0 when it worked."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            become(USER)
            action()  # type: ignore[operator]
            code = 0
        except OSError as error:
            code = error.errno or 98
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_byte(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def attach(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


@pytest.mark.parametrize("moment", ["server", "program"])
def test_launcher_server_and_program_cannot_be_traced_or_read(rig: Rig, moment: str) -> None:
    wait = "time.sleep(30)" if moment == "server" else "pass"
    process = start(
        rig,
        "import time\nchannel = Channel(3)\nhello = channel.recv_hello()\n"
        f"note('pids', [os.getpid(), channel.peer_pid])\n{wait}\n"
        f"channel.send_plan(make(hello, {GRANT}).encode(), program(PYTHON))\ntime.sleep(30)",
    )
    try:
        server, launcher = rig.note("pids")  # type: ignore[misc]
        assert launcher == process.pid
        if moment == "program":
            while b"sleep" not in Path(f"/proc/{launcher}/cmdline").read_bytes().split(b"\0")[2]:
                time.sleep(0.01)
            time.sleep(0.2)
        for pid in (server, launcher):
            assert as_user(lambda p=pid: attach(p)) == 1  # EPERM
            for name in ("mem", "environ", "auxv", "syscall"):
                assert as_user(lambda p=pid, n=name: read_byte(f"/proc/{p}/{n}")) in (1, 13)
            assert as_user(lambda p=pid: os.listdir(f"/proc/{p}/fd")) in (1, 13)
        assert as_user(lambda: os.kill(server, signal.SIGKILL)) == 1
        # the program is the invoker's own process: that he may end it is no escape
        assert as_user(lambda: os.kill(launcher, signal.SIGTERM)) == 0
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        try:
            os.kill(server, signal.SIGKILL)
        except OSError:
            pass


@pytest.mark.parametrize(
    "limit",
    ["RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_LOCKS" if hasattr(resource, "RLIMIT_LOCKS")
     else "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_MEMLOCK", "RLIMIT_RTPRIO"],
)  # fmt: skip
def test_a_limit_of_zero_breaks_nothing(rig: Rig, limit: str) -> None:
    number = getattr(resource, limit)
    for setuid, fields in ((False, ""), (True, GRANT)):
        rig.server(f"serve(NOOP, {fields})")
        done = rig.run(
            uid=USER, setuid=setuid, after=lambda: resource.setrlimit(number, (0, 0))
        )
        assert done.returncode == 42, (limit, done)


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_NPROC"])
def test_a_limit_that_starves_refuses_or_works_but_never_hangs(rig: Rig, limit: str) -> None:
    number = getattr(resource, limit)
    for setuid, fields in ((False, ""), (True, GRANT)):
        rig.server(f"serve(NOOP, {fields})")
        done = rig.run(
            uid=12346, setuid=setuid,
            after=lambda: resource.setrlimit(number, (1 << 16 if number > 5 else 1,) * 2),
        )  # fmt: skip
        assert done.returncode in (42, 125, -signal.SIGSEGV, -signal.SIGKILL), done
        assert "Traceback" not in done.stderr


def test_every_signal_ignored_or_blocked_changes_nothing(rig: Rig) -> None:
    def worst() -> None:
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))

    for setuid, fields in ((False, ""), (True, GRANT)):
        rig.server(f"serve(NOOP, {fields})")
        assert rig.run(uid=USER, setuid=setuid, after=worst).returncode == 42


def test_a_user_namespace_of_ones_own_gives_nothing(rig: Rig) -> None:
    if shutil.which("unshare") is None:
        skip_or_fail("needs unshare")
    rig.server(f"serve({GRANT})")
    certificate = rig.certificate(setuid=True)
    rig.register()
    for options in (["--user"], ["--user", "--map-root-user"], ["--user", "--mount"],
                    ["--user", "--map-root-user", "--mount", "--pid", "--fork"]):  # fmt: skip
        done = subprocess.run(
            ["unshare", *options, certificate, "-c", "import os; print(os.getresuid())"],
            preexec_fn=lambda: become(USER), capture_output=True, text=True, timeout=30,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        # inside, root is only the namespace's: outside it stays uid 1000
        assert done.returncode != 0 or done.stdout == "(0, 0, 0)\n", done
        if done.returncode != 0:
            assert done.stderr.startswith(("certexec: ", "unshare: ")), done


def test_ctrl_c_while_the_server_thinks_ends_the_launch(rig: Rig) -> None:
    process = start(rig, "import time\nnote('there', 1)\ntime.sleep(30)")
    rig.note("there")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT


def test_a_stop_and_a_continuation_while_the_server_thinks_harm_nothing(rig: Rig) -> None:
    rig.server("import time\nnote('there', 1)\ntime.sleep(1)\nserve(NOOP)")
    rig.register()
    process = subprocess.Popen([rig.certificate()])
    rig.note("there")
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 42
