"""One version of what a run loads: collect it, copy it, prove that it is still what was copied.

A version is a directory named after its content::

    launch       the launcher (the stable copy beside it is the one that the kernel starts)
    python       symbolic link to the interpreter
    serve.py     the policy server's entry
    bundle/      the modules that it executes, each part in one file
    lib/         certexec without its command line, cryptography, cffi's backend
    MANIFEST     the digest and mode of every file, compiled modules included

The compiled modules (``unchecked-hash``, PEP 552) stand beside their sources, so that nothing is
ever compiled or written at run time.
"""

from __future__ import annotations

import _hashlib
import os
import stat
import sys

from cryptography.hazmat.bindings import _rust

from certexec.errors import RunError
from certexec.kernel.libc import syscall
from certexec.run import child
from certexec.run.interpreter import ISOLATED, Interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST = "MANIFEST"
LAUNCHER = "launch"
SERVER = "serve.py"
PYTHON = "python"
LIBRARY = "lib"
_FORMAT = "certexec version 1"
_ID_DIGITS = 16
"""hex digits; 64 bits of SHA-256 tell apart the few versions that one machine ever sees."""
_CHUNK = 1 << 20
_NOT_COPIED = frozenset({"__pycache__", "cli", "libexec", "tests"})
"""Directories of certexec that no run loads."""
_ENDINGS = (".py", ".so")
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_PROGRAM_MODE = 0o755
_SYNCFS = 306
_RENAMEAT2 = 316
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
SELF_TEST = "--self-test"
BUNDLE = "--bundle"
"""Arguments of the server's entry, for set-up."""
_MADE_HERE = ("__pycache__", "bundle")
"""Directories that the interpreter fills while a version is built."""


class Item:
    """One file to copy: where it stands, its path in the version, its mode there."""

    __slots__ = ("digest", "mode", "relative", "source")

    def __init__(self, source: str, relative: str, mode: int = _FILE_MODE) -> None:
        self.source = source
        self.relative = relative
        self.mode = mode
        self.digest = file_digest(source)


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file in hex; raises OSError."""
    digest = _hashlib.openssl_sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            digest.update(chunk)
    finally:
        os.close(fd)
    return str(digest.hexdigest())


def _below(directory: str, relative: str, skipped: frozenset[str]) -> list[Item]:
    items = []
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name not in skipped:
                items += _below(entry.path, f"{relative}/{entry.name}", skipped)
        elif entry.name.endswith(_ENDINGS) or ".so." in entry.name:
            items.append(Item(entry.path, f"{relative}/{entry.name}"))
    return items


def _libraries() -> list[Item]:
    """List cryptography and what its compiled part needs: cffi's backend and bundled libraries."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(str(_rust.__file__))))
    skipped = frozenset({"__pycache__", "tests"})
    items = _below(package, f"{LIBRARY}/cryptography", skipped)
    backend = getattr(sys.modules.get("_cffi_backend"), "__file__", None)
    if backend:
        items.append(Item(backend, f"{LIBRARY}/{os.path.basename(backend)}"))
    for bundle in ("cryptography.libs", "cffi.libs"):  # where auditwheel puts shared libraries
        beside = os.path.join(os.path.dirname(package), bundle)
        if os.path.isdir(beside):
            items += _below(beside, f"{LIBRARY}/{bundle}", skipped)
    return items


def collect(package: str) -> list[Item]:
    """List everything that a version holds, from the certexec package at ``package``.

    Raises RunError("not-found") where the launcher or the server's entry is missing.
    """
    launcher = os.path.join(package, "libexec", LAUNCHER)
    server = os.path.join(package, "run", SERVER)
    for path, what in ((launcher, "launcher"), (server, "policy server")):
        if not os.path.isfile(path):
            raise RunError(
                "not-found",
                f'the {what} "{path}" is missing',
                'install certexec with pip, which builds the launcher; in a source tree run "make"',
            )
    try:
        return [
            Item(launcher, LAUNCHER, _PROGRAM_MODE),
            Item(server, SERVER),
            *_below(package, f"{LIBRARY}/certexec", _NOT_COPIED),
            *_libraries(),
        ]
    except OSError as error:
        raise RunError("unreadable", f'cannot read "{error.filename}": {error.strerror}') from None


def identify(items: Iterable[Item], interpreter: Interpreter) -> str:
    """Return the name of the version that these files and this interpreter make."""
    lines = [_FORMAT, f"{interpreter.path} {interpreter.tag}"]
    lines += sorted(f"{item.digest} {item.mode:o} {item.relative}" for item in items)
    digest = _hashlib.openssl_sha256("\n".join(lines).encode())
    return str(digest.hexdigest())[:_ID_DIGITS]


def _write(path: str, data: Iterable[bytes], mode: int) -> str:
    digest = _hashlib.openssl_sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        for chunk in data:
            digest.update(chunk)
            while chunk:
                chunk = chunk[os.write(fd, chunk) :]
        os.fchown(fd, 0, 0)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return str(digest.hexdigest())


def _chunks(path: str) -> Iterable[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            yield chunk
    finally:
        os.close(fd)


def copy_file(source: str, target: str, mode: int) -> str:
    """Copy a file to a new name, owned by root; return the SHA-256 of what was written."""
    return _write(target, _chunks(source), mode)


def write_file(path: str, data: bytes, mode: int = _FILE_MODE) -> None:
    """Write a new file, owned by root. Raises OSError; FileExistsError where there is one."""
    _write(path, (data,), mode)


def make_directory(path: str) -> None:
    """Make one directory, root:root 0755 whatever the umask says. Raises OSError."""
    os.mkdir(path, 0o700)
    os.chown(path, 0, 0)
    os.chmod(path, _DIRECTORY_MODE)


def sync_file_system(path: str) -> None:
    """Write everything on the file system of ``path`` to its disk (syncfs(2)). Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall(_SYNCFS, fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable (fsync(2)). Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _compile(stage: str, final: str, interpreter: Interpreter) -> None:
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", stage, "-p", final]
    command = [interpreter.path, *ISOLATED, "-m", "compileall", *options, f"{stage}/{LIBRARY}"]
    outcome = child.run(command, limit=120.0)
    if outcome.code != 0:
        raise RunError("internal", f"compiling the policy server failed: {outcome.complaint}")
    outcome = child.run([interpreter.path, *ISOLATED[:2], f"{stage}/{SERVER}", BUNDLE], limit=60.0)
    if outcome.code != 0:
        raise RunError("internal", f"bundling the policy server failed: {outcome.complaint}")


def _walk(root: str, relative: str = "") -> Iterable[tuple[str, os.stat_result]]:
    """Yield (relative path, lstat) of everything below ``root``, directories before their files."""
    directory = f"{root}/{relative}" if relative else root
    for name in sorted(os.listdir(directory)):
        path = f"{relative}/{name}" if relative else name
        status = os.lstat(f"{root}/{path}")
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, path)


def _describe(root: str) -> list[str]:
    lines = [_FORMAT]
    for path, status in _walk(root):
        if path == MANIFEST:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if (status.st_uid, status.st_gid) != (0, 0):
            lines.append(f"owner {status.st_uid}:{status.st_gid} {path}")
        elif stat.S_ISLNK(status.st_mode):
            lines.append(f"link {os.readlink(f'{root}/{path}')} {path}")
        elif stat.S_ISDIR(status.st_mode):
            lines.append(f"directory {mode:o} {path}")
        elif stat.S_ISREG(status.st_mode):
            lines.append(f"{file_digest(f'{root}/{path}')} {mode:o} {path}")
        else:
            lines.append(f"strange {path}")
    return lines


def stage(items: Iterable[Item], interpreter: Interpreter, where: str, final: str) -> None:
    """Build a version at ``where``, which must not exist, for later use at ``final``.

    Raises RunError, or OSError (no room, read-only file system).
    """
    make_directory(where)
    # 1. the files, each checked against the digest that named the version
    for item in items:
        made = where
        for part in item.relative.split("/")[:-1]:
            made = f"{made}/{part}"
            if not os.path.isdir(made):
                make_directory(made)
        if copy_file(item.source, f"{where}/{item.relative}", item.mode) != item.digest:
            raise RunError("internal", f'"{item.source}" changed while it was copied')
    # 2. the interpreter and the compiled modules
    os.symlink(interpreter.path, f"{where}/{PYTHON}")
    _compile(where, final, interpreter)
    for path, status in _walk(where):
        if not set(_MADE_HERE).isdisjoint(path.split("/")):
            os.chown(f"{where}/{path}", 0, 0)
            directory = stat.S_ISDIR(status.st_mode)
            os.chmod(f"{where}/{path}", _DIRECTORY_MODE if directory else _FILE_MODE)
    # 3. what stands there now, and all of it on the disk before it gets its name
    write_file(f"{where}/{MANIFEST}", ("\n".join(_describe(where)) + "\n").encode())
    sync_file_system(where)


def damage(root: str) -> str:
    """Say what in a version differs from its manifest, "" for nothing. Raises nothing."""
    try:
        recorded = b"".join(_chunks(f"{root}/{MANIFEST}")).decode().splitlines()
        found = _describe(root)
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    if recorded[:1] != [_FORMAT]:
        return f'"{root}/{MANIFEST}" is of another format'
    for line in sorted(set(recorded).symmetric_difference(found)):
        return f'"{root}/{line.split(" ", 2)[-1]}" is not as it was set up'
    return ""


def self_test(root: str, uid: int | None) -> str:
    """Let the policy server of a version test itself as ``uid``; "" means that it works."""
    command = [f"{root}/{PYTHON}", *ISOLATED[:2], f"{root}/{SERVER}", SELF_TEST]
    outcome = child.run(command, uid=uid)
    return "" if outcome.code == 0 else outcome.complaint


def has_doors(root: str, uid: int | None) -> bool:
    """Tell whether the compiled doors of a version open for its interpreter, run as ``uid``."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from certexec.kernel.doors import compiled; sys.exit(compiled is None)"
    )
    command = [f"{root}/{PYTHON}", *ISOLATED, "-c", code, f"{root}/{LIBRARY}"]
    return child.run(command, uid=uid).code == 0


def exchange(first: str, second: str) -> None:
    """Swap two names in one step (renameat2(2), RENAME_EXCHANGE). Raises OSError."""
    names = os.fsencode(first), os.fsencode(second)
    syscall(_RENAMEAT2, _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)


def remove_tree(path: str) -> None:
    """Remove a directory and everything below it. Raises OSError."""
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)
