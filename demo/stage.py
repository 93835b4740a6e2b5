"""Where the demonstration plays: a set-up of its own that leaves no trace.

Root gets a private mount namespace in which /etc/certexec and /usr/libexec/certexec are empty; the
kernel's handler is registered for the time of the show and whatever stood there before is put
back. Without root a user namespace with its own binfmt_misc does (Linux 6.7); where even that is
not to be had, ``certexec run`` shows what it can.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

HANDLERS = "/proc/sys/fs/binfmt_misc"
COVERED = (
    "/etc/certexec", "/usr/libexec/certexec", "/usr/lib/binfmt.d", "/usr/local/bin",
    "/run/certexec",
)  # fmt: skip
ROOT, NAMESPACE, RUN_ONLY = "root", "user namespace", "certexec run"
CLONE_NEWNS = 0x20000
ORDINARY_UID = 54321
"""Nobody's uid: the ordinary user of the show, where root plays it."""
STRANGER_UID = 54322
YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
INSIDE = "CERTEXEC_DEMO_INSIDE"


class Stage:
    """The place: how certificates are run here, and as whom.

    Attributes:
        mode: ROOT, NAMESPACE or RUN_ONLY; directory: everybody may enter it, only we write.
        ordinary: uid of the ordinary user, None for ourselves.
        user: uid of the one who types. That is the ordinary user, or root where Yama keeps
            ordinary users from supervising their own programs.
        barred: whether Yama does.
    """

    def __init__(self, mode: str, directory: str) -> None:
        self.mode = mode
        self.directory = directory
        self.barred = _ptrace_scope() > 0
        self.ordinary = ORDINARY_UID if mode == ROOT else None
        self.user = 0 if self.barred and mode == ROOT else self.ordinary
        self.bin = os.path.join(directory, "bin")
        os.mkdir(self.bin, 0o755)

    def path(self, name: str) -> str:
        """Return the path of a file on the stage."""
        return os.path.join(self.directory, name)

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """Write a file on the stage and return its path."""
        path = self.path(name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def certexec(self, *argv: str) -> str:
        """Run a verb as the one who administrates; returns its output, fails loudly."""
        done = subprocess.run(
            [sys.executable, "-m", "certexec.cli.main", *argv], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"certexec {' '.join(argv)}: {done.stderr}")
        return done.stdout

    def typed(
        self, *argv: str, user: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line as the ordinary user would: by name, through a shell and $PATH."""
        return subprocess.run(self.shell(*argv), **self.surroundings(user))

    def started(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command that goes on running."""
        settings = self.surroundings(None)
        return subprocess.Popen(self.shell(*argv), **settings)

    def shell(self, *argv: str) -> list[str]:
        """Return the argument vector that makes a shell look ``argv[0]`` up in $PATH."""
        if self.mode == RUN_ONLY:
            certificate = os.path.join(self.bin, argv[0])
            trust = self.path("trust")
            return [
                sys.executable, "-m", "certexec.cli.main", "run", "--trust", trust,
                certificate, "--", *argv[1:],
            ]  # fmt: skip
        return ["/bin/sh", "-c", 'exec "$0" "$@"', *argv]

    def surroundings(self, user: int | None) -> dict[str, object]:
        """Return how the ordinary user's processes are started."""
        user = self.user if user is None else user
        as_user: dict[str, object] = {}
        if user is not None and self.mode == ROOT:
            as_user = {"user": user, "group": user, "extra_groups": []}
        environment = {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
        if self.mode == RUN_ONLY:
            environment["PYTHONPATH"] = os.getcwd()
        return {
            "env": environment, "cwd": self.directory, "text": True,
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            **as_user,
        }  # fmt: skip


def _ptrace_scope() -> int:
    """Return kernel.yama.ptrace_scope, 0 on a kernel without Yama."""
    try:
        with open(YAMA_SCOPE) as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def stage(module: str = "demo") -> Iterator[Stage]:
    """Build the stage for the program ``module``, and take it away again whatever happens."""
    mode = os.environ.get(INSIDE) or _choose(module)
    with tempfile.TemporaryDirectory(prefix="certexec-demo-") as directory:
        os.chmod(directory, 0o755)
        with contextlib.ExitStack() as undo:
            if mode != RUN_ONLY:
                _cover(undo)
            place = Stage(mode, directory)
            if mode == RUN_ONLY:
                os.mkdir(place.path("trust"), 0o755)
            else:
                _set_up(place, undo)
            yield place


def _choose(module: str) -> str:
    """Find the best stage; without root this may replace the process by one in a namespace."""
    if os.geteuid() == 0:
        return ROOT
    probe = ["unshare", "-Urm", "sh", "-c", f"mount -t binfmt_misc none {HANDLERS}"]
    if shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode == 0:
        os.environ[INSIDE] = NAMESPACE
        inside = ["unshare", "-Urm", sys.executable, "-m", module, *sys.argv[1:]]
        os.execvp(inside[0], inside)
    return RUN_ONLY


def _mount(kind: str, target: str, flags: int = 0, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    data = options.encode() or None
    if libc.mount(b"none", target.encode(), kind.encode() or None, flags, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def _cover(undo: contextlib.ExitStack) -> None:
    """Hide an installed certexec behind empty directories that only we see."""
    libc = ctypes.CDLL(None, use_errno=True)
    inside = os.environ.get(INSIDE) == NAMESPACE
    if not inside:
        for path in COVERED:
            if not os.path.isdir(path) and os.path.isdir(os.path.dirname(path)):
                os.mkdir(path, 0o755)
                undo.callback(_remove_empty, path)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        _mount("", "/", 0x44000)  # MS_REC | MS_PRIVATE
        covered = [path for path in COVERED if os.path.isdir(path)]
    else:
        # outside's root is nobody in here, so nothing can be made in its directories: copies can
        _mount("tmpfs", "/usr/libexec", 0, "mode=755")
        _mount("tmpfs", "/mnt", 0, "mode=755")
        _copy_readable("/etc", "/mnt")
        _mount("tmpfs", "/etc", 0, "mode=755")
        _copy_readable("/mnt", "/etc")
        covered = [path for path in ("/usr/lib/binfmt.d", "/usr/local/bin") if os.path.isdir(path)]
    for path in covered:
        _mount("tmpfs", path, 0, "mode=755")
        undo.callback(subprocess.run, ["umount", path], capture_output=True)


def _copy_readable(source: str, target: str) -> None:
    """Copy a tree as far as we may read it."""
    subprocess.run(["cp", "-dR", f"{source}/.", target], capture_output=True)


def _remove_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _set_up(place: Stage, undo: contextlib.ExitStack) -> None:
    mounted = os.path.exists(f"{HANDLERS}/register")
    before = None
    if mounted and os.path.exists(f"{HANDLERS}/certexec"):
        with open(f"{HANDLERS}/certexec") as file:
            before = file.read()
    place.certexec("setup")
    if before is not None and place.mode == ROOT:
        undo.callback(_restore, before)
    if not mounted and place.mode == ROOT:
        undo.callback(subprocess.run, ["umount", HANDLERS], capture_output=True)
    undo.callback(place.certexec, "setup", "--remove", "--purge", "--yes")


def _restore(before: str) -> None:
    """Register again the handler that stood here before the show, from outside its covers."""
    fields = dict(line.split(" ", 1) for line in before.splitlines() if " " in line)
    interpreter, flags = fields["interpreter"].strip(), fields["flags:"].strip()
    magic = "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(fields["magic"].strip()))
    line = f":certexec:M:0:{magic}::{interpreter}:{flags}"
    command = ["nsenter", "-t", str(os.getppid()), "-m", "sh", "-c"]
    subprocess.run([*command, f"printf '%s' '{line}' > {HANDLERS}/register"], check=True)
