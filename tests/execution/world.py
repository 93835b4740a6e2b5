"""A machine on which certexec is set up, people who use it, and ways to run things as them.

The machine is a namespace (tests/isolation.py), everything else is real: the launcher compiled
from this tree, ``certexec setup``, the kernel's handler, certificates executed by execve(2).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from certexec.certificate.sign import sign_certificate
from certexec.certificate.verify import read_unverified
from certexec.kernel.syscalls import NUMBERS
from certexec.trust.private_keys import from_pem
from tests.isolation import PROJECT, Machine

ALICE, BOB, SERVICE, NETADMIN = 61001, 61002, 61003, 61100
"""Ordinary users of the machine; "netadmin" is a group that Alice belongs to."""
ALL_COMPILED = os.environ.get("CERTEXEC_TEST_COMPILED") == "1"
"""Let every world run on the compiled doors; else only those do that ask for it."""
TIMEOUT = 60
SO_FAR = b"so far"
"""A datagram of ours behind all that programs have sent to syslog."""
SETTLE = 5.0
"""seconds that helpers may take to end after their program; they take milliseconds."""
REFUSED, NOT_FOUND, INTERNAL = 126, 127, 125
BY_NAMES = (
    "open openat openat2 creat stat lstat newfstatat statx access faccessat faccessat2 readlink "
    "readlinkat mkdir mkdirat rmdir unlink unlinkat connect bind"
).split()
"""The calls that a supervisor carries out when a rule on names or addresses reaches them."""
WATCHED = ("fsread", "fswrite", "connect", "bind")

CLERK = """
import io, json, os, sys
import certexec.cli.sign, certexec.cli.install, certexec.cli.trust, certexec.cli.verify
from certexec.cli.main import main
for line in sys.stdin:
    argv, uid = json.loads(line)
    ends = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, (_, writer) in enumerate(ends, 1):
                os.dup2(writer, number)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            if uid:
                os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
            sys.argv = ["certexec", *argv]
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"))
            sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb"))
            code = main()
            sys.stdout.flush(); sys.stderr.flush()
        finally:
            os._exit(code)
    texts = []
    for reader, writer in ends:
        os.close(writer)
        texts.append(os.fdopen(reader, "rb").read().decode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, *texts]), flush=True)
"""
"""Runs verbs inside the machine without starting Python for each of them."""

OWN_DEV = """
mkdir /mnt/dev
mount --rbind /dev /mnt/dev
mount -t tmpfs -o mode=755 none /dev
for name in null zero full random urandom tty; do
    touch /dev/$name
    mount --bind /mnt/dev/$name /dev/$name
done
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 none /dev/pts
mount --rbind /mnt/dev/shm /dev/shm
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
"""
"""A /dev like the one outside, in which the machine's /dev/log can be ours."""

BEFORE_EXEC = """
import fcntl, os, resource, signal, socket, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
argv = sys.argv[1:]
program = argv[0]
{ids}
{before}
os.execve(program, argv, {env!r})
"""


def load_hook() -> ModuleType:
    """Return binfmt/build_hook.py as a module."""
    spec = importlib.util.spec_from_file_location("build_hook", f"{PROJECT}/binfmt/build_hook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def policy(program: str, *rules: str, without: Sequence[str] = ()) -> str:
    """Permit every call, but those that ``rules`` govern only as they say.

    ``rules`` are written without "native-"; one on "fsread", "fswrite", "connect" or "bind" takes
    the plain permission from all calls that it is to reach.
    """
    reached = {rule.partition(":")[0] for rule in rules} | set(without)
    if reached & {"fsread", "fswrite"}:
        reached |= set(BY_NAMES) - {"connect", "bind"}
    lines = [f"Policy: {os.path.realpath(program)}, Emulation: native"]
    lines += [f"\tnative-{rule}" for rule in rules]
    for name in NUMBERS:
        if name not in reached and not name.startswith("io_uring"):
            lines.append(f"\tnative-{name}: permit")
    return "\n".join(lines) + "\n"


SUPERVISED = (
    'fsread: filename re "^" then permit',
    'fswrite: filename re "^" then permit',
    'connect: sockaddr re "^" then permit',
    'bind: sockaddr re "^" then permit',
)
"""Everything is permitted, but each name and address is looked at by the supervisor."""


class World:
    """The machine, a directory that inside and outside share, and the people."""

    def __init__(self, compiled: bool = ALL_COMPILED) -> None:
        """``compiled``: with the compiled doors, as ``pip install`` makes them."""
        self.place = Path(tempfile.mkdtemp(prefix="certexec-world-"))
        self.place.chmod(0o755)
        self.package = self._package(compiled)
        self.machine = Machine(extra=OWN_DEV)
        self._log: list[str] = []
        try:
            self._start_syslog()
            self._people()
            self.clerk = self._start_clerk()
            self.bin = self.directory("bin")
            self.verb("setup")
            self.verb("keygen", "--no-passphrase", "-f", self.path("ops"))
            self.verb("trust", "add", self.path("ops.pub"), "--may-grant", "root")
            self.verb("keygen", "--no-passphrase", "-f", self.path("plain"))
            self.verb("trust", "add", self.path("plain.pub"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take everything away."""
        self._syslog.shutdown(socket.SHUT_RDWR)
        self.machine.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    def _package(self, compiled: bool) -> Path:
        """Copy this tree's package and compile its launcher, so that nobody edits under us."""
        target = self.place / "package" / "certexec"
        ignored = shutil.ignore_patterns("__pycache__", "libexec", "*.so")
        shutil.copytree(f"{PROJECT}/certexec", target, ignore=ignored)
        hook = load_hook()
        hook.compile_launcher(target / "libexec" / "launch")
        if compiled:
            hook.compile_doors(target.parent / hook.DOORS_WHEEL_PATH)
        for directory, _, _ in os.walk(target.parent):
            os.chmod(directory, 0o755)
        return target.parent

    def _people(self) -> None:
        for file, lines in (
            ("passwd", [f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh" for name, uid in (
                ("alice", ALICE), ("bob", BOB), ("service", SERVICE))]),
            ("group", [f"alice:x:{ALICE}:", f"bob:x:{BOB}:", f"service:x:{SERVICE}:",
                       f"netadmin:x:{NETADMIN}:alice"]),
        ):  # fmt: skip
            inside = Path(self.machine.path(f"/etc/{file}"))
            inside.unlink()  # it may lead to the file outside
            inside.write_text(Path(f"/etc/{file}").read_text() + "\n".join([*lines, ""]))

    def _start_syslog(self) -> None:
        """Be the machine's syslog daemon."""
        self._taken = threading.Event()
        self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        where = self.machine.path("/dev/log")
        self._syslog.bind(where)
        os.chmod(where, 0o666)

        def take() -> None:
            while data := self._syslog.recv(65536):
                if data == SO_FAR:
                    self._taken.set()
                else:
                    self._log.append(data.decode(errors="replace"))

        threading.Thread(target=take, daemon=True).start()

    def logged(self) -> list[str]:
        """Return the lines that were sent to syslog since this was asked for last."""
        self._taken.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(SO_FAR, self._syslog.getsockname())
        assert self._taken.wait(TIMEOUT)  # what was sent before has been taken before
        lines, self._log = self._log, []
        return lines

    def _start_clerk(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.machine.command(sys.executable, "-c", CLERK), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(self.package),
                 "LC_ALL": "C"},
        )  # fmt: skip

    # -- files ------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return the path of a file in the shared directory."""
        return str(self.place / name)

    def directory(self, name: str, mode: int = 0o755, owner: int = 0) -> Path:
        """Make a directory in the shared one."""
        made = self.place / name
        made.mkdir()
        made.chmod(mode)
        os.chown(made, owner, owner)
        return made

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> str:
        """Write a file in the shared directory."""
        path = self.place / name
        path.unlink(missing_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return str(path)

    def copy(self, program: str, name: str, mode: int = 0o755) -> str:
        """Copy a program of the system into the shared directory."""
        return self.write(name, Path(program).read_bytes(), mode)

    def compile(self, name: str, source: str, *flags: str) -> str:
        """Compile a C program; returns its path."""
        text = self.write(f"{name}.c", source)
        target = self.path(name)
        subprocess.run(["gcc", "-O1", "-Wall", "-o", target, text, *flags], check=True)
        return target

    # -- verbs ------------------------------------------------------------------------------------

    def attempt(self, *argv: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb inside the machine."""
        assert self.clerk.stdin is not None and self.clerk.stdout is not None
        self.clerk.stdin.write(json.dumps([argv, uid]) + "\n")
        self.clerk.stdin.flush()
        code, out, err = json.loads(self.clerk.stdout.readline())
        return subprocess.CompletedProcess(argv, code, out, err)

    def verb(self, *argv: str, uid: int = 0) -> str:
        """Run a verb that must succeed."""
        done = self.attempt(*argv, uid=uid)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def sign(
        self, name: str, program: str, *options: str, text: str | None = None, key: str = "ops"
    ) -> str:
        """Sign a certificate for a program; everybody may run it unless an option says who."""
        program = os.path.realpath(program)
        rules = self.write(f"{name}.policy", policy(program) if text is None else text)
        listed = any(one.startswith(("--allow", "--deny")) for one in options)
        self.verb(
            "sign", "--force", "-k", self.path(f"{key}.key"), "-p", rules, "-o",
            str(self.bin / name), *(() if listed else ("--allow-everyone",)), *options, program,
        )  # fmt: skip
        return str(self.bin / name)

    def forge(self, name: str, program: str, key: str = "ops", **changes: Any) -> str:
        """Sign what ``certexec sign`` would refuse: a good certificate with rows changed.

        ``changes`` are attributes, with dots written as "__": ``policy__language=2``.
        """
        source = Path(self.sign(name, program)).read_bytes()
        certificate = read_unverified(source)
        for path, value in changes.items():
            *way, last = path.split("__")
            target: Any = certificate
            for step in way:
                target = getattr(target, step)
            setattr(target, last, value)
        signer = from_pem(Path(self.path(f"{key}.key")).read_bytes(), None, key)
        with mock.patch.multiple(
            "certexec.certificate.sign",
            check_enforceable=lambda _: None, read_message=lambda _: certificate,
        ):  # fmt: skip
            data = sign_certificate(certificate, [signer])
        return self.write(f"bin/{name}", data, 0o755)

    def install(self, name: str, program: str, *options: str, text: str | None = None) -> str:
        """Sign a certificate and put it into $PATH; returns where it is."""
        self.verb("install", "-f", self.sign(name, program, *options, text=text),
                  f"/usr/local/bin/{name}")  # fmt: skip
        return f"/usr/local/bin/{name}"

    def directory_of_policies(self) -> Path:
        """Return /etc/certexec/policies.d inside, as seen from here."""
        directory = Path(self.machine.path("/etc/certexec/policies.d"))
        directory.mkdir(mode=0o755, exist_ok=True)
        return directory

    def forget_policies(self) -> None:
        """Take that directory away."""
        shutil.rmtree(self.machine.path("/etc/certexec/policies.d"))

    def put_by_hand(self, source: str, mode: int = 0o4755, uid: int = 0, gid: int = 0) -> str:
        """Copy a certificate to its place as somebody would who does not use "certexec install"."""
        target = self.path("bin/by-hand")
        if os.path.lexists(target):
            os.unlink(target)
        shutil.copy(source, target)
        os.chown(target, uid, gid)
        os.chmod(target, mode)
        return target

    # -- running ----------------------------------------------------------------------------------

    def command(
        self, *argv: str, uid: int = ALICE, before: str = "", env: dict[str, str] | None = None,
        groups: Sequence[int] = (), cwd: str | Path = "/",
    ) -> list[str]:  # fmt: skip
        """Return a command line that executes ``argv[0]`` as a user, exactly as ``before`` left
        things: Python code that may change ``program``, ``argv`` and the process."""
        ids = f"os.chdir({str(cwd)!r}); os.setgroups({list(groups)})"
        ids += f"; os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})"
        code = BEFORE_EXEC.format(ids=ids, before=before, env=self.environment(env))
        return self.machine.command(sys.executable, "-I", "-S", "-c", code, *argv)

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """Return an ordinary environment."""
        path = f"{self.bin}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, "LC_ALL": "C", **(more or {})}

    def run(
        self, *argv: str, uid: int = ALICE, before: str = "", env: dict[str, str] | None = None,
        groups: Sequence[int] = (), cwd: str | Path = "/", **options: Any,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Execute ``argv[0]`` as a user and wait for its end."""
        settings: dict[str, Any] = {
            "capture_output": True, "text": True, "timeout": TIMEOUT, "check": False,
            "stdin": subprocess.DEVNULL, **options,
        }  # fmt: skip
        if "stdout" in options or "stderr" in options:
            del settings["capture_output"]
        if "input" in options:
            del settings["stdin"]
        command = self.command(*argv, uid=uid, before=before, env=env, groups=groups, cwd=cwd)
        done = subprocess.run(command, **settings)
        done.args = argv  # what a failed assertion shows
        return done

    def start(
        self, *argv: str, uid: int = ALICE, before: str = "", env: dict[str, str] | None = None,
        groups: Sequence[int] = (), cwd: str | Path = "/", **options: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start ``argv[0]`` as a user; its pid is the returned one."""
        settings: dict[str, Any] = {
            "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "text": True, **options,
        }  # fmt: skip
        return subprocess.Popen(
            self.command(*argv, uid=uid, before=before, env=env, groups=groups, cwd=cwd),
            **settings,
        )

    def python(self, code: str, *argv: str, uid: int = ALICE, **options: Any) -> str:
        """Run Python code as a user, unconfined; returns what it printed."""
        done = self.run(sys.executable, "-I", "-S", "-c", code, *argv, uid=uid, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # -- what is left -----------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Return the processes of the machine and their command lines."""
        home = os.readlink(f"/proc/{self.machine.pid}/ns/user")
        found = {}
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and os.readlink(f"/proc/{name}/ns/user") == home:
                    line = Path(f"/proc/{name}/cmdline").read_bytes()
                    if line:  # a zombie has none
                        found[int(name)] = line.replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
        return found

    def strangers(self) -> dict[int, str]:
        """Return the processes that a test left behind."""
        expected = {self.machine.pid, self.clerk.pid}
        return {pid: line for pid, line in self.processes().items() if pid not in expected}

    def settle(self) -> dict[int, str]:
        """Wait for helpers to end; returns those that did not."""
        left = self.strangers()
        deadline = time.monotonic() + SETTLE
        while left and time.monotonic() < deadline:
            time.sleep(0.005)
            left = self.strangers()
        return left

    def sweep(self) -> None:
        """End what a failed test left behind, so that the next one is judged for itself."""
        for pid in self.strangers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


REASON = re.compile(r"\(([a-z-]+)\)(;|$|\n)")


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return the reason word of the one line that a refused execution says."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, (done.returncode, done.stderr)
    assert lines[0].startswith("certexec: "), done.stderr
    found = REASON.search(lines[0])
    assert found is not None, done.stderr
    return found[1]


def refused(done: subprocess.CompletedProcess[str], word: str, code: int = REFUSED) -> None:
    """Check that nothing was run, with this reason, said in exactly one line."""
    assert (done.returncode, reason(done), done.stdout) == (code, word, ""), done


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; fails the test when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
