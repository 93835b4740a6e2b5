"""A machine of one's own for tests: user and mount namespace, own binfmt_misc, private /etc.

Everything that set-up writes to is covered inside it: /usr/libexec, /usr/lib/binfmt.d and /run by a
tmpfs, /etc by one with links to what was there, a mounted binfmt_misc by an empty directory. So
tests change nothing outside. Until it has a binfmt_misc of its own, handlers outside count.

With root all ids are mapped one to one, so that the inside looks like the initial namespace;
without root only uid 0 is mapped, to the caller.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
ALL_IDS = "0 0 4294967295"
COVER = """
set -e
umask 022
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/etc /mnt/free
mount --rbind /etc /mnt/etc
mount -t tmpfs -o mode=755 none /etc
for name in $(ls -A /mnt/etc); do
    test $name = certexec || test $name = binfmt.d || ln -s /mnt/etc/$name /etc/$name
done
mkdir /etc/binfmt.d
for directory in /usr/libexec /usr/lib/binfmt.d; do
    test ! -d $directory || mount -t tmpfs -o mode=755 none $directory
done
mount -t tmpfs -o mode=755 none /usr/local/bin
mount -t tmpfs -o mode=755 none /run
test ! -d /proc/sys/fs/binfmt_misc || mount -t tmpfs none /proc/sys/fs/binfmt_misc
mkdir /usr/local/bin/free
"""


def skip_or_fail(reason: str) -> None:
    """Skip, unless the run must not skip anything."""
    if MUST_WORK:
        pytest.fail(reason)
    pytest.skip(reason)


def needs(holds: bool, reason: str) -> pytest.MarkDecorator:
    """Mark tests that cannot be made where something does not hold; they fail if all must work."""
    return pytest.mark.skipif(not holds and not MUST_WORK, reason=reason)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


class Machine:
    """One isolated machine; commands run in it until ``stop``."""

    def __init__(self, identity: bool = True, extra: str = "") -> None:
        """Make it; with ``identity`` False the uid map covers 0 to 65533 only (or just one id)."""
        asks, told = os.pipe(), os.pipe()
        uid, gid = os.geteuid(), os.getegid()
        self.pid = os.fork()
        if self.pid == 0:
            self._inside(asks[1], told[0], extra)
        os.close(asks[1])
        os.close(told[0])
        if os.read(asks[0], 1) != b"u":
            self._give_up(asks[0], told[1], "no user namespaces here")
        if uid == 0:
            ids = ALL_IDS if identity else "0 0 65534"
            _write(f"/proc/{self.pid}/uid_map", ids)
            _write(f"/proc/{self.pid}/gid_map", ids)
        else:
            _write(f"/proc/{self.pid}/setgroups", "deny")
            _write(f"/proc/{self.pid}/uid_map", f"0 {uid} 1")
            _write(f"/proc/{self.pid}/gid_map", f"0 {gid} 1")
        os.write(told[1], b"m")
        if os.read(asks[0], 1) != b"r":
            self._give_up(asks[0], told[1], "cannot mount in a user namespace here")
        os.close(asks[0])
        self._leash = told[1]

    def _give_up(self, first: int, second: int, reason: str) -> None:
        os.close(first)
        os.close(second)
        os.waitpid(self.pid, 0)
        skip_or_fail(reason)

    def _inside(self, asks: int, told: int, extra: str) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0:
                os.write(asks, b"u")
                os.read(told, 1)
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                if subprocess.run(["sh", "-c", COVER + extra], check=False).returncode == 0:
                    os.write(asks, b"r")
                    os.set_inheritable(told, False)
                    os.close(asks)
                    for fd in range(3, 1024):
                        if fd != told:
                            try:
                                os.close(fd)
                            except OSError:
                                pass
                    os.read(told, 1)  # ends with the test process, whatever becomes of it
        finally:
            os._exit(0)

    def stop(self) -> None:
        """End it; the kernel takes mounts and handlers away with the last process."""
        os.close(self._leash)
        os.waitpid(self.pid, 0)

    def path(self, inside: str) -> str:
        """Return where a path of the machine is reached from outside."""
        return f"/proc/{self.pid}/root{inside}"

    def command(self, *argv: str, uid: int | None = None) -> list[str]:
        """Return the command line that runs ``argv`` inside."""
        enter = ["nsenter", "-t", str(self.pid), "-U", "-m", "--preserve-credentials"]
        if uid is not None:
            drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
            return [*enter, *drop, *argv]
        return [*enter, "setpriv", "--reuid=0", "--regid=0", "--keep-groups", *argv]

    def run(
        self, *argv: str, uid: int | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command inside, as root of the machine or as ``uid``."""
        base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": PROJECT, "LC_ALL": "C"}
        return subprocess.run(
            self.command(*argv, uid=uid), capture_output=True, text=True, timeout=60,
            env={**base, **(env or {})}, stdin=subprocess.DEVNULL, check=False,
        )

    def python(self, code: str, uid: int | None = None) -> str:
        """Run Python code inside and return what it printed; fails the test when it fails."""
        done = self.run(sys.executable, "-c", code, uid=uid)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def certexec(
        self, *argv: str, uid: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line of this source tree inside."""
        return self.run(sys.executable, "-m", "certexec.cli.main", *argv, uid=uid)


def need(*programs: str) -> None:
    """Skip unless these programs are installed."""
    missing: Sequence[str] = [name for name in programs if shutil.which(name) is None]
    if missing:
        skip_or_fail(f"needs {', '.join(missing)}")
