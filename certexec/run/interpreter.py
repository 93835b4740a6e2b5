"""Which Python runs the policy server: one that nobody but root can have changed.

The interpreter judges every certificate, so its binary, its standard library, every shared
library it maps and every directory above must belong to root and be writable by nobody else. A
pyenv below somebody's home does not do, and neither does one in a virtual environment of theirs.
"""

from __future__ import annotations

import os
import stat
import sys

from certexec.errors import CertexecError, RunError, TrustError
from certexec.kernel.ownership import check_chain, check_file, check_object, root_owners
from certexec.run import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

ISOLATED = ("-I", "-S", "-B")
"""No environment, no user directory, no site-packages, no .pth files, nothing written."""
NOT_ON_THE_PATH = frozenset({"site-packages", "dist-packages"})
"""Directories of the standard library's tree that ``-S`` leaves out."""
HINT = 'install the distribution\'s own interpreter ("apt install python3") and run setup with it'

_QUESTION = """
import sys
import _ctypes, _hashlib, _socket, _struct, binascii, fcntl, grp, pwd, resource, select
import ctypes, os, struct, syslog, zlib
print("version", sys.version_info[0], sys.version_info[1], sys.implementation.cache_tag)
for path in sys.path:
    print("path", path)
for line in open("/proc/self/maps"):
    words = line.rstrip("\\n").split(None, 5)
    if len(words) == 6 and words[5].startswith("/"):
        print("map", words[5])
"""
"""Loads every compiled module that the run path may load, then tells what was mapped."""


class Interpreter:
    """A Python that passed every check.

    Attributes:
        path: the binary, without symbolic links.
        version: (major, minor); tag: what its compiled files are named after.
    """

    __slots__ = ("path", "tag", "version")

    def __init__(self, path: str, version: tuple[int, int], tag: str) -> None:
        self.path = path
        self.version = version
        self.tag = tag


def candidates() -> list[str]:
    """List interpreters to try, best first: the one that runs this, then the distribution's.

    Only the same major.minor version comes into question: compiled modules (cffi's backend, which
    cryptography loads) are built for one.
    """
    own = getattr(sys, "_base_executable", None) or sys.executable
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = []
    for path in (own, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        real = os.path.realpath(path)
        if real not in found and os.path.isfile(real):
            found.append(real)
    return found


def _check_absent(path: str, owners: Collection[int]) -> None:
    """Judge a path that does not exist: nobody else may be able to make it."""
    above = os.path.dirname(path)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    os.close(check_chain(os.path.realpath(above), owners))


def _check_link(path: str, owners: Collection[int]) -> None:
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        _check_absent(real, owners)
    elif os.path.isdir(real):
        os.close(check_chain(real, owners))
    else:
        os.close(check_file(real, owners))


def check_tree(path: str, owners: Collection[int]) -> None:
    """Judge a directory, every directory above and everything below it. Raises TrustError.

    Below the first directory names are enough: a directory is judged before anything in it is
    looked at, and from then on only root can change what its names mean.
    """
    os.close(check_chain(path, owners))
    pending = [path]
    while pending:
        directory = pending.pop()
        for entry in os.scandir(directory):
            if entry.name in NOT_ON_THE_PATH and directory == path:
                continue
            if entry.is_symlink():
                _check_link(entry.path, owners)
                continue
            fd = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = check_object(fd, entry.path, owners)
            finally:
                os.close(fd)
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)


def _check_loaded(answer: str, owners: Collection[int]) -> tuple[tuple[int, int], str]:
    """Judge what an interpreter told about itself; return its version and tag."""
    version, tag = (0, 0), ""
    judged: set[str] = set()
    for line in answer.splitlines():
        word, _, value = line.partition(" ")
        if word == "version":
            major, minor, tag = value.split()
            version = (int(major), int(minor))
        elif word == "map" and value not in judged:
            judged.add(value)
            os.close(check_file(os.path.realpath(value), owners))
        elif word == "path" and value:
            real = os.path.realpath(value)
            if os.path.isdir(real):
                check_tree(real, owners)
            elif os.path.lexists(real):
                os.close(check_file(real, owners))
            else:
                _check_absent(real, owners)
    return version, tag


def judge(path: str, uid: int | None) -> Interpreter:
    """Judge one interpreter, which is asked as ``uid`` so that it must work for anybody.

    Raises TrustError("trust-unsafe") or RunError("unreadable").
    """
    owners = root_owners()
    try:
        # 1. the binary, before it is run
        os.close(check_file(path, owners))
        # 2. what it loads from, as it says itself (it belongs to root, so it may be asked)
        outcome = child.run([path, *ISOLATED, "-c", _QUESTION], uid=uid)
        if outcome.code != 0:
            raise RunError(
                "unreadable", f'"{path}" does not run for an ordinary user: {outcome.complaint}'
            )
        # 3. every file and directory it named
        version, tag = _check_loaded(outcome.output.decode("utf-8", "replace"), owners)
    except OSError as error:
        raise RunError("unreadable", f'cannot judge "{path}": {error.strerror}') from None
    if version != sys.version_info[:2]:
        raise RunError("unreadable", f'"{path}" is Python {version[0]}.{version[1]}, not this one')
    return Interpreter(path, version, tag)


def choose(uid: int | None) -> Interpreter:
    """Return the first interpreter that passes; ``uid``: see ``judge``.

    Raises the first one's error, with what to do about it.
    """
    first: CertexecError | None = None
    for path in candidates():
        try:
            return judge(path, uid)
        except CertexecError as error:
            first = first or error
    if first is None:
        raise RunError("unreadable", "no Python interpreter was found", HINT)
    raise TrustError(first.reason, f"no Python that only root can change: {first.message}", HINT)
