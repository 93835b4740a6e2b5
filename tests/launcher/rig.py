"""A launcher of one's own: compiled for a temporary home, registered for a magic of its own.

The policy server in that home is a few lines of Python that each test writes. So every state that
the launcher can be in is one test away, and nothing of an installed certexec is touched.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.launcher.filters import ALLOW, ERRNO

PROJECT = Path(__file__).resolve().parents[2]
MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
PYTHON = os.path.realpath(sys.executable)
TIMEOUT = 30
USER, STRANGER = 1000, 12345

PRELUDE = """
import os, sys, json
sys.path.insert(0, {project!r})
sys.dont_write_bytecode = True
from certexec.run.channel import Channel
from certexec.run import plan as plans
from certexec.run.plan import Plan
sys.path.insert(0, {rig!r})
from filters import *
HOME = {home!r}
PYTHON = {python!r}
NOOP = HOME + "/noop"
def note(name, value):
    with open(HOME + "/notes/" + name, "w") as file:
        json.dump(value, file)
def make(hello, **fields):
    plan = Plan()
    plan.ruid = plan.euid = hello.ruid
    plan.rgid = plan.egid = hello.rgid
    plan.bpf, plan.patches = gate([RET(ALLOW)])
    if "env" not in fields and fields.get("flags", 0) & plans.PLAN_PRIVILEGED:
        plan.env = [b"PATH=/usr/bin:/bin"]
    for name, value in fields.items():
        setattr(plan, name, value)
    return plan
def program(path):
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
def serve(path=PYTHON, **fields):
    channel = Channel(3)
    hello = channel.recv_hello()
    channel.send_plan(make(hello, **fields).encode(), program(path))
    return channel
def raw(data, *fds):
    import socket, array
    one = socket.socket(fileno=os.dup(3))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    one.sendmsg([data], rights)
    one.detach()
"""

PROBE = """
import ctypes, json, os, resource, sys
def fds():
    found = {}
    for name in os.listdir("/proc/self/fd") if os.access("/proc/self/fd", 4) else ():
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass
    return found
status = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    status[name] = value.strip()
try:
    os.waitpid(-1, os.WNOHANG)
    child = True
except ChildProcessError:
    child = False
mask = os.umask(0)
with open("/proc/self/cmdline", "rb") as file:
    argv = file.read().split(b"\\0")[:-1]
try:
    with open("/proc/self/environ", "rb") as file:
        environment = file.read().split(b"\\0")[:-1]
except PermissionError:  # not dumpable, as it should be
    environment = []
secure = ctypes.CDLL(None).getauxval(23)
result = {
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "status": status,
    "child": child, "umask": mask, "nice": os.getpriority(0, 0), "secure": secure,
    "limits": {n: resource.getrlimit(n) for n in range(16)}, "fds": fds(), "pid": os.getpid(),
    "argv": [one.decode("latin-1") for one in argv], "cwd": os.getcwd(), "ppid": os.getppid(),
    "env": [one.decode("latin-1") for one in environment],
    "oom": int(open("/proc/self/oom_score_adj").read()),
}
target = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] != "-" else None
text = json.dumps(result)
if target:
    with open(target, "w") as file:
        file.write(text)
else:
    os.write(1, text.encode() + b"\\n")
"""

NOOP = """
__attribute__((noreturn, used)) void _start(void) {
    __asm__ volatile("syscall" : : "a"(231), "D"(42) : "memory");
    for (;;) ;
}
"""


def skip_or_fail(reason: str) -> None:
    """Skip, unless the run must not skip anything."""
    if MUST_WORK:
        pytest.fail(reason)
    pytest.skip(reason)


def load_hook() -> ModuleType:
    """Return binfmt/build_hook.py as a module."""
    spec = importlib.util.spec_from_file_location("build_hook", PROJECT / "binfmt/build_hook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def become(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> None:
    """Take an ordinary user's ids, for good."""
    os.setgroups(list(groups))
    gid = uid if gid is None else gid
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def lie(number: int, *arguments: tuple[int, int], errno: int = 0) -> None:
    """Make a call fail silently in this process and its children: skipped, and 0 returned.

    ``arguments``: (index, low word) that must all match. Needs CAP_SYS_ADMIN; sets no
    no_new_privs, so set-user-ID files still work.
    """
    code = [(0x20, 0, 0, 0), (0x15, 0, 2 * len(arguments) + 1, number)]
    for position, (index, word) in enumerate(arguments):
        left = 2 * (len(arguments) - position) - 1
        code += [(0x20, 0, 0, 16 + 8 * index), (0x15, 0, left, word & 0xFFFFFFFF)]
    code += [(0x06, 0, 0, ERRNO | errno), (0x06, 0, 0, ALLOW)]
    data = b"".join(struct.pack("<HBBI", c, t, f, k) for c, t, f, k in code)
    block = ctypes.create_string_buffer(data, len(data))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(code), ctypes.addressof(block))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(317, 1, 0, ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


class Rig:
    """One home, one launcher, one registered handler."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="certexec-rig-"))
        self.home.chmod(0o755)
        (self.home / "current").mkdir()
        self.notes = self.home / "notes"
        self.notes.mkdir()
        self.notes.chmod(0o777)
        (self.home / "current/python").symlink_to(PYTHON)
        (self.home / "probe.py").write_text(PROBE)
        self.launcher = self.home / "launch"
        hook = load_hook()
        self.socket = self.home / "server.sock"
        places = [f'CERTEXEC_HOME="{self.home}"', f'RESIDENT_SOCKET="{self.socket}"']
        hook.compile_launcher(self.launcher, places)
        (self.home / "noop.c").write_text(NOOP)
        subprocess.run(
            ["gcc", "-nostdlib", "-static", "-O2", "-o", self.home / "noop", self.home / "noop.c"],
            check=True,
        )
        self.name = f"certexec-test-{os.getpid()}"
        self.magic = b"CXT" + struct.pack(">I", os.getpid()).hex().encode()
        self._mounted = self._registered = False

    def register(self, flags: str = "POCF") -> None:
        """Register the handler, once."""
        if self._registered:
            return
        if not (BINFMT / "register").exists():
            done = subprocess.run(
                ["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False
            )
            if done.returncode != 0:
                skip_or_fail("binfmt_misc cannot be mounted")
            self._mounted = True
        line = f":{self.name}:M:0:{self.magic.decode()}::{self.launcher}:{flags}"
        (BINFMT / "register").write_text(line)
        self._registered = True

    def reregister(self, flags: str) -> None:
        """Register anew with other flags."""
        self.unregister()
        self.register(flags)

    def unregister(self) -> None:
        """Take the handler away."""
        if self._registered:
            (BINFMT / self.name).write_text("-1")
            self._registered = False

    def remove(self) -> None:
        """Leave the machine as it was."""
        self.unregister()
        if self._mounted and len(list(BINFMT.iterdir())) == 2:
            subprocess.run(["umount", BINFMT], check=False)
        shutil.rmtree(self.home)

    def server(self, body: str) -> None:
        """Write the policy server: ``body`` after the prelude (see PRELUDE for its names)."""
        for old in self.notes.iterdir():
            old.unlink()
        prelude = PRELUDE.format(
            project=str(PROJECT), rig=str(Path(__file__).parent), home=str(self.home),
            python=PYTHON,
        )  # fmt: skip
        (self.home / "current/serve.py").write_text(prelude + body)

    def note(self, name: str) -> object:
        """Return what the server noted, waiting for it a little."""
        path = self.notes / name
        for _ in range(500):
            if path.exists() and path.stat().st_size:
                return json.loads(path.read_text())
            signal.sigtimedwait([], 0.01)
        raise AssertionError(f"the server noted no {name}")

    def certificate(self, *, setuid: bool = False, name: str = "program") -> Path:
        """Make a certificate file: root:root, 4755 or 0755."""
        path = self.home / name
        path.unlink(missing_ok=True)
        path.write_bytes(self.magic + b" for tests\n")
        path.chmod(0o4755 if setuid else 0o755)
        return path

    def run(
        self,
        *arguments: str,
        uid: int | None = None,
        setuid: bool = False,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
        path: Path | None = None,
        groups: Sequence[int] = (),
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        """Execute a certificate as ``uid``; ``before`` runs as root, ``after`` as that user."""
        self.register()
        target = path or self.certificate(setuid=setuid)

        def prepare() -> None:
            if before is not None:
                before()
            if uid is not None:
                become(uid, groups=groups)
            if after is not None:
                after()

        keywords: dict[str, object] = {
            "capture_output": True, "text": True, "timeout": TIMEOUT, "check": False,
            "stdin": subprocess.DEVNULL, "preexec_fn": prepare, "cwd": "/", "close_fds": False,
        }  # fmt: skip
        if "stdout" in options or "stderr" in options:
            del keywords["capture_output"]
        keywords.update(options)
        return subprocess.run([str(target), *arguments], **keywords)  # type: ignore[call-overload,no-any-return]

    def probe(self, *arguments: str, **options: object) -> dict[str, object]:
        """Execute a certificate whose program is the probe, and return what it found."""
        done = self.run("-I", "-S", str(self.home / "probe.py"), *arguments, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert done.stderr == ""
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def run_form(
        self, server: Callable[[socket.socket], None], *argv: str, uid: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Start ``launch --run`` with a server that is a function in a forked child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                server(theirs)
            finally:
                os._exit(0)
        theirs.close()
        done = subprocess.run(
            [self.launcher, "--run", str(ours.fileno()), *argv], capture_output=True, text=True,
            timeout=TIMEOUT, check=False, pass_fds=[ours.fileno()], stdin=subprocess.DEVNULL,
            preexec_fn=(lambda: become(uid)) if uid is not None else None,
        )  # fmt: skip
        ours.close()
        os.waitpid(pid, 0)
        return done


def assert_refused(done: subprocess.CompletedProcess[str], code: int, text: str) -> None:
    """Check for one line on stderr, the exit code, and that nothing ran."""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("certexec: "), done.stderr
    assert text in done.stderr
    assert done.returncode == code, done
    assert done.stdout == ""
