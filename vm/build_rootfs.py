"""The guest's root disk: this machine's own Python and a few of its Debian packages, on ext4.

The guest runs the very interpreter that runs the harness, so wheels of a venv made from it (cffi,
cryptography) load inside. Only the kernel is foreign. The base tree is kept under the cache; each
run links it, adds its own trees and makes one image with `mke2fs -d`, everything owned by root.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Debian packages whose files the guest has where this machine has them.
PACKAGES = (
    "base-files", "bash", "coreutils", "dash", "findutils", "grep", "libc-bin", "login", "mawk",
    "mount", "netbase", "passwd", "procps", "sed", "util-linux", "util-linux-extra",
    "iproute2", "libcap2-bin", "nginx-light", "nginx", "tcpdump", "strace",
)
NOT_WANTED = ("/usr/share/", "/usr/lib/python3", "/etc/apparmor", "/lib/systemd",
              "/usr/lib/systemd", "/usr/lib/locale", "/usr/lib/tc")
ALTERNATIVES = ("/usr/bin/awk", "/usr/bin/which", "/bin/sh")
# Parts of the standard library that no step needs.
STDLIB_LEFT_OUT = shutil.ignore_patterns(
    "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "pydoc_data",
    "dist-packages", "site-packages", "config-3.*", "*.a",
)
TREE_LEFT_OUT = (
    ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "node_modules",
)
ACCOUNTS = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
alice:x:1000:1000:alice:/home/alice:/bin/bash
bob:x:1001:1001:bob:/home/bob:/bin/bash
service:x:900:900:service:/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
shadow:x:42:
www-data:x:33:
netadmin:x:950:alice
alice:x:1000:
bob:x:1001:
service:x:900:
nogroup:x:65534:
"""
SPARE_BYTES = 512 << 20  # free space on the root disk; the image is sparse
INODES = 65536
TOOL_TIMEOUT = 300  # seconds for mke2fs, ldd, dpkg


def interpreter() -> Path:
    """Return the real path of the interpreter below the venv, if any, that runs the harness."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _stdlib() -> Path:
    variables = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
    return Path(sysconfig.get_path("stdlib", vars=variables)).resolve()


def _output(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=False
    ).stdout


def _package_files() -> list[Path]:
    """Return the files of PACKAGES; a package that is not installed has none."""
    lines = _output("dpkg-query", "-L", *PACKAGES).splitlines()
    kept = [line for line in lines if line.startswith("/") and not line.startswith(NOT_WANTED)]
    return [Path(line) for line in dict.fromkeys([*kept, *ALTERNATIVES])]


def _copy(source: Path, root: Path) -> None:
    """Copy one file to the same place under `root`, following no symlink but the parents'."""
    try:
        kind = source.lstat().st_mode
    except OSError:
        return
    target = root / str(source.parent.resolve() / source.name).lstrip("/")
    if target.is_symlink() or target.is_file():
        return
    if stat.S_ISDIR(kind):
        target.mkdir(parents=True, exist_ok=True)
    elif stat.S_ISLNK(kind):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.readlink())
        _copy(source.parent / source.readlink(), root)
    elif stat.S_ISREG(kind):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    """Copy every shared library that one of `programs` (paths on this machine) asks for."""
    names = [str(path) for path in programs]
    libraries = set()
    for start in range(0, len(names), 100):
        for line in _output("ldd", *names[start : start + 100]).splitlines():
            word = line.split("=>")[-1].split("(")[0].strip()
            # A library that stands beside its user ($ORIGIN) is in the guest already.
            if line.startswith("\t") and word.startswith("/") and not word.startswith(str(root)):
                libraries.add(word)
    for library in sorted(libraries):
        _copy(Path(library), root)


def _elf_files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and _is_elf(path)]


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _make_base(root: Path) -> None:
    """Fill `root` with the tree that every run shares."""
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "home", "mnt", "opt", "srv", "etc",
                 "vm", "usr/bin", "usr/sbin", "usr/lib", "usr/local/bin", "usr/local/lib",
                 "usr/libexec", "var/log", "var/tmp", "var/lib", "var/cache"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        here = Path("/") / name
        if here.is_symlink():
            (root / name).symlink_to(here.readlink())
            (root / here.readlink()).mkdir(parents=True, exist_ok=True)
    files = _package_files()
    for path in files:
        _copy(path, root)
    python, stdlib = interpreter(), _stdlib()
    _copy(python, root)
    shutil.copytree(stdlib, root / str(stdlib).lstrip("/"), symlinks=True, ignore=STDLIB_LEFT_OUT)
    for name in ("/usr/bin/python3", f"/usr/local/bin/python3.{sys.version_info[1]}"):
        target = root / name.lstrip("/")
        if not target.exists() and not target.is_symlink() and name != str(python):
            target.symlink_to(python)
    (root / "vm/python").symlink_to(python)
    programs = [path for path in files if path.is_file() and _is_elf(path)]
    _copy_libraries(root, [python, *programs, *_elf_files(stdlib / "lib-dynload")])
    _write(root / "etc/passwd", ACCOUNTS)
    _write(root / "etc/group", GROUP)
    _write(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    _write(root / "etc/hosts", "127.0.0.1 localhost\n")
    _write(root / "etc/hostname", "guest\n")
    for name in ("etc/ld.so.conf", "etc/ld.so.conf.d"):
        source = Path("/") / name
        for path in [source, *(source.glob("*.conf") if source.is_dir() else [])]:
            _copy(path, root)


def _base(cache: Path) -> Path:
    """Return the shared tree, made anew when what it is made from has changed."""
    python = interpreter()
    facts = [sys.version, str(python), python.stat().st_mtime_ns, Path(__file__).read_text()]
    versions = _output("dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n", *PACKAGES)
    stamp = hashlib.sha256(json.dumps([*facts, versions]).encode()).hexdigest()[:16]
    kept = cache / f"base-{stamp}"
    if not kept.is_dir():
        unfinished = cache / f"base-{stamp}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        _make_base(unfinished)
        try:
            unfinished.rename(kept)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
        for old in cache.glob("base-*"):
            if old.name != kept.name and "." not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    return kept


def _as_root(*command: str) -> None:
    """Run a tool that must see every file as root's: in a user namespace when this user is not."""
    prefix = () if os.geteuid() == 0 else ("unshare", "--map-root-user")
    done = subprocess.run(
        [*prefix, *command], capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")


def _tool(name: str) -> str:
    """Return a tool's path, also where an ordinary user's PATH lacks the sbin directories."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        raise RuntimeError(f"{name} is not installed")
    return found


def distributions(names: list[str], destination: str) -> list[tuple[Path, str]]:
    """Return the trees that put installed Python distributions below `destination`.

    What they require comes along, without extras. Everything that a distribution recorded inside
    its site-packages directory is copied, its metadata too.
    """
    trees: dict[str, tuple[Path, str]] = {}
    waiting, seen = list(names), set()
    while waiting:
        name = re.split(r"[^A-Za-z0-9._-]", waiting.pop().strip())[0].lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise
            continue  # required on other systems or by other Pythons only
        # "pycparser; implementation_name != 'PyPy'" counts, "pytest; extra == 'test'" does not.
        waiting += [line for line in found.requires or [] if "extra ==" not in line]
        for file in found.files or []:
            if file.parts[0] not in ("..", "__pycache__"):
                top = Path(str(found.locate_file(file.parts[0])))
                trees[file.parts[0]] = (top, f"{destination.rstrip('/')}/{file.parts[0]}")
    return list(trees.values())


def _leave_out(cache: Path) -> Callable[[str, list[str]], list[str]]:
    def ignore(directory: str, names: list[str]) -> list[str]:
        here = Path(directory)
        return [name for name in names if name in TREE_LEFT_OUT or (here / name) == cache]

    return ignore


def build(trees: list[tuple[Path, str]], cache: Path, image: Path) -> None:
    """Make the root disk `image`: the base and each (source, absolute destination) of `trees`."""
    base = _base(cache)
    staging = image.with_suffix(".staging")
    shutil.copytree(base, staging, symlinks=True, copy_function=os.link)
    added: list[Path] = []
    try:
        for source, destination in trees:
            target = staging / destination.strip("/")
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True,
                                ignore=_leave_out(cache))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)  # never write through a link into the base
                shutil.copy2(source, target)
            added += _elf_files(target) if target.is_dir() else [target]
        _copy_libraries(staging, [path for path in added if _is_elf(path)])
        _as_root(_tool("ldconfig"), "-r", str(staging))
        size = sum(path.lstat().st_size for path in staging.rglob("*")) + SPARE_BYTES
        _as_root(
            _tool("mke2fs"), "-q", "-F", "-t", "ext4", "-d", str(staging), "-N", str(INODES),
            "-L", "guest", "-E", "root_owner=0:0,lazy_itable_init=1", "-m", "0", str(image),
            f"{size // 1024}k",
        )
    finally:
        shutil.rmtree(staging)
