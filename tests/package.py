"""A certexec package to set up from: this source tree, with a launcher and a server for tests."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile

from tests.isolation import PROJECT, Machine

LIBEXEC = "/usr/libexec/certexec"

PAGE = 0x400000
EXIT_126 = bytes.fromhex("b83c000000bf7e0000000f05")  # mov eax, 60; mov edi, 126; syscall
SERVER = '''\
"""A policy server that only proves that it can be loaded, or holds on to its version."""
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE + "/lib")
if sys.argv[1:] == ["--starting"]:
    print("starting", flush=True)
    sys.stdin.read()
from certexec.kernel import ownership, procfs
from cryptography.hazmat.bindings import _rust

places = [ownership.__file__, _rust.__file__, ownership.__cached__]
if not all(place.startswith(HERE) for place in places):
    sys.exit("loaded from elsewhere")
if sys.argv[1:] == ["--self-test"] and BROKEN:
    sys.exit("broken on purpose")
if sys.argv[1:] == ["--hold"]:
    print("holding", flush=True)
    sys.stdin.read()
    from certexec.run import layout  # late, from the same version
    print(layout.__file__, flush=True)
'''


def tiny_program(code: bytes = EXIT_126) -> bytes:
    """Return a static x86-64 program of some 130 bytes (elf(5))."""
    size = 64 + 56 + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, PAGE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, PAGE, PAGE, size, size, 0x1000)
    return header + segment + code


def make_package(parent: str, *, broken: bool = False, mark: str = "") -> str:
    """Copy the package below ``parent`` and return its path; ``mark`` makes another version."""
    target = os.path.join(parent, "certexec")
    if os.path.isdir(target):
        shutil.rmtree(target)
    ignored = shutil.ignore_patterns("__pycache__", "libexec", "*.so")
    shutil.copytree(os.path.join(PROJECT, "certexec"), target, ignore=ignored)
    os.mkdir(os.path.join(target, "libexec"))
    launcher = os.path.join(target, "libexec", "launch")
    with open(launcher, "wb") as binary:
        binary.write(tiny_program() + mark.encode())
    os.chmod(launcher, 0o755)
    with open(os.path.join(target, "run", "serve.py"), "w") as file:
        file.write(f"BROKEN = {broken}\n# {mark}\n{SERVER}")
    for directory, _, _ in os.walk(parent):
        os.chmod(directory, 0o755)
    return target


class Site:
    """A machine and a package to set it up from."""

    def __init__(self, identity: bool = True) -> None:
        self.machine = Machine(identity)  # first: it may skip the test
        self.parent = tempfile.mkdtemp(prefix="certexec-test-")
        os.chmod(self.parent, 0o755)
        make_package(self.parent)

    def close(self) -> None:
        self.machine.stop()
        shutil.rmtree(self.parent)

    def package(self, **settings: object) -> None:
        make_package(self.parent, **settings)  # type: ignore[arg-type]

    def certexec(
        self, *argv: str, uid: int | None = None, umask: str = "022"
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "certexec.cli.main", *argv]
        command = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *command]
        return self.machine.run(*command, uid=uid, env={"PYTHONPATH": self.parent})

    def setup(self, umask: str = "022") -> str:
        done = self.certexec("setup", umask=umask)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def versions(self) -> list[str]:
        return sorted(os.listdir(self.machine.path(f"{LIBEXEC}/versions")))

    def current(self) -> str:
        return os.path.basename(os.readlink(self.machine.path(f"{LIBEXEC}/current")))

    def serve(self, flag: str) -> subprocess.Popen[str]:
        server = [f"{LIBEXEC}/current/python", "-I", "-S", f"{LIBEXEC}/current/serve.py", flag]
        return subprocess.Popen(
            self.machine.command(*server), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tree(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for directory, below, names in os.walk(self.machine.path(LIBEXEC)):
            for name in [*below, *names]:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                found[path] = (status.st_uid, status.st_gid, status.st_mode)
        return found
