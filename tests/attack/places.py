"""The file systems that the attacks happen on, mounted where nobody else sees them."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from certexec.kernel.filesystem import type_name

CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x44000
IMAGE_SIZE = 64 << 20
"""bytes of an ext4 image, where the machine has no ext4 of its own."""
_USERFAULTFD = 323
_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class UnusableError(Exception):
    """This machine cannot have what was asked for; the text says why."""


def mount(kind: str, target: str, options: str = "", flags: int = 0) -> None:
    """mount(2). Raises UnusableError."""
    arguments = (b"none", os.fsencode(target), kind.encode() or None, flags)
    if _LIBC.mount(*arguments, options.encode() or None) != 0:
        raise UnusableError(f"{kind} cannot be mounted: {os.strerror(ctypes.get_errno())}")


def need_userfaultfd() -> None:
    """Raise UnusableError where page faults cannot be handled, so a write not be held up."""
    fd = _LIBC.syscall(_USERFAULTFD, os.O_CLOEXEC)
    if fd < 0:
        raise UnusableError(f"userfaultfd(2): {os.strerror(ctypes.get_errno())}")
    os.close(fd)


def give_to(path: str, uid: int) -> None:
    """Change a file's owner and group; raises UnusableError where there is only one user."""
    try:
        os.chown(path, uid, uid)
    except OSError as error:
        raise UnusableError(f"no second user: {error.strerror}") from None


def file_system(path: str) -> str:
    """Return the name of the file system that a directory is on."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return type_name(fd)
    finally:
        os.close(fd)


def end_with_parent() -> None:
    """Have this process killed when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)


def enter_namespace() -> None:
    """Leave the machine's mount table; without root by way of a user namespace.

    Raises UnusableError.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        if _LIBC.unshare(CLONE_NEWNS) != 0:
            raise UnusableError(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    else:
        if _LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
            raise UnusableError(f"no user namespace: {os.strerror(ctypes.get_errno())}")
        for name, text in (
            ("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"),
        ):  # fmt: skip
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("", "/", flags=MS_REC_PRIVATE)


def _ext4(base: str) -> str:
    target = os.path.join(base, "ext4")
    os.mkdir(target, 0o755)
    if file_system(base) == "ext4":
        return target
    image = os.path.join(base, "ext4.image")
    with open(image, "wb") as file:
        file.truncate(IMAGE_SIZE)
    for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, target]):
        if shutil.which(command[0]) is None:
            raise UnusableError(f"there is no {command[0]}")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise UnusableError(f"{command[0]}: {done.stderr.strip()}")
    os.chmod(target, 0o755)
    return target


def _tmpfs(base: str) -> str:
    target = os.path.join(base, "tmpfs")
    os.mkdir(target, 0o755)
    mount("tmpfs", target, "mode=755")
    return target


def upper_layer(base: str) -> str:
    """Return the directory into which the overlay writes."""
    return os.path.join(base, "layers", "upper")


def _overlayfs(base: str) -> str:
    layers, target = os.path.join(base, "layers"), os.path.join(base, "overlayfs")
    for directory in (layers, target):
        os.mkdir(directory, 0o755)
    mount("tmpfs", layers, "mode=755")
    names = [os.path.join(layers, name) for name in ("lower", "upper", "work")]
    for name in names:
        os.mkdir(name, 0o755)
    mount("overlay", target, "lowerdir={},upperdir={},workdir={}".format(*names))
    return target


MAKERS: dict[str, Callable[[str], str]] = {"ext4": _ext4, "tmpfs": _tmpfs, "overlayfs": _overlayfs}


def make_places(base: str) -> tuple[dict[str, str], dict[str, str]]:
    """Mount everything below ``base``; return directories and, by name, what is missing and why."""
    made, missing = {}, {}
    for name, maker in MAKERS.items():
        try:
            made[name] = maker(base)
            if file_system(made[name]) != name:
                raise UnusableError(f"it is {file_system(made[name])}")
        except (UnusableError, OSError) as reason:
            made.pop(name, None)
            missing[name] = str(reason)
    return made, missing


@contextmanager
def ground() -> Iterator[str]:
    """Yield an empty directory that everybody may enter, and take it away whatever happens.

    The mounts are made in a child that leaves the mount table (``enter_namespace``); they end
    with it, so here only plain files are left.
    """
    base = tempfile.mkdtemp(prefix="certexec-attack-")
    os.chmod(base, 0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)
