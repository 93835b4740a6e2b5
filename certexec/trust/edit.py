"""Changing the trust store: adding and removing keys. Never imported on the run path.

Files appear whole or not at all: temporary file, fsync, rename, fsync of the directory. The
constraints are in place before their key, and removed after it, so that at no moment a key counts
without them.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from certexec.errors import TrustError
from certexec.kernel.ownership import ROOT_ONLY, check_chain
from certexec.trust.constraints import Constraints, parse_constraints
from certexec.trust.keys import PublicKey
from certexec.trust.store import (
    CONSTRAINTS_SUFFIX,
    KEY_SUFFIX,
    MAX_KEYS,
    TrustedKey,
    load_open_store,
)

FILE_MODE = 0o644
"""Everybody may know whom this machine trusts; unprivileged runs read the store as the invoker."""
DIRECTORY_MODE = 0o755
MAX_STEM = 64
"""bytes; a file name, short enough to be typed."""


def check_stem(name: str) -> str:
    """Check what a key is called in the store; raises TrustError("usage")."""
    if (
        not name
        or len(name) > MAX_STEM
        or name[0] in ".-"
        or not all(one.isascii() and (one.isalnum() or one in "._-") for one in name)
    ):
        raise TrustError(
            "usage",
            f'"{name}" cannot be the name of a key in the store',
            'use letters, digits, ".", "_" and "-": "--name NAME"',
        )
    return name


def _make_directories(directory: str) -> None:
    """Make what is missing of the path, every new directory with ``DIRECTORY_MODE``."""
    missing = []
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        try:
            os.mkdir(path, DIRECTORY_MODE)
            os.chmod(path, DIRECTORY_MODE)  # whatever the umask
        except OSError as error:
            raise _cannot_write(path, error) from None


def _open_store(directory: str, owner_ok: Collection[int], create: bool) -> int:
    """Open the store for a change, making it first if wanted."""
    if create:
        _make_directories(directory)
    return check_chain(directory, owner_ok)


def _write_at(directory: int, name: str, content: bytes, shown: str) -> None:
    temporary = f".{name}.{os.getpid()}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=directory)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(content)
            os.fchmod(fd, FILE_MODE)  # whatever the umask
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError:
            pass
        raise _cannot_write(shown, error) from None


def _cannot_write(shown: str, error: OSError) -> TrustError:
    reason = "not-root" if isinstance(error, PermissionError) else "unreadable"
    hint = 'be root, or keep a store of your own with "--trust DIR"' if reason == "not-root" else ""
    return TrustError(reason, f'cannot write "{shown}": {error.strerror}', hint)


def _unlink_at(directory: int, name: str, shown: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(shown, error) from None
    os.fsync(directory)


def add_key(
    directory: str,
    key: PublicKey,
    constraints: Constraints,
    name: str,
    *,
    owner_ok: Collection[int] = ROOT_ONLY,
    create: bool = False,
) -> bool:
    """Trust ``key`` within ``constraints``, as ``name``; tell whether the key was new.

    A key that the store knows already, under the same name, gets the new constraints. Raises
    TrustError: "exists" when the key or the name is taken otherwise, "not-root" and "unreadable"
    for what the system refuses, and whatever ``load_store`` raises.
    """
    check_stem(name)
    text = constraints.to_toml()
    parse_constraints(text)  # what is written can be read back
    fd = _open_store(directory, owner_ok, create)
    try:
        store = load_open_store(fd, directory, owner_ok)
        same_key = [one for one in store if one.key.kid == key.kid]
        if same_key and same_key[0].name != name:
            raise TrustError(
                "exists",
                f'{key.fingerprint} is trusted already, as "{same_key[0].name}"',
                f'to change what it may sign: "--name {same_key[0].name}"',
            )
        if any(one.name == name and one.key.kid != key.kid for one in store):
            raise TrustError(
                "exists", f'another key is called "{name}" already', 'choose another "--name"'
            )
        if not same_key and len(store) >= MAX_KEYS:
            raise TrustError("usage", f"the store holds {MAX_KEYS} keys already")
        shown = f"{directory}/{name}"
        _write_at(fd, name + CONSTRAINTS_SUFFIX, text.encode(), shown + CONSTRAINTS_SUFFIX)
        _write_at(fd, name + KEY_SUFFIX, (key.line() + "\n").encode(), shown + KEY_SUFFIX)
    finally:
        os.close(fd)
    return not same_key


def find_key(store: list[TrustedKey], wanted: str) -> TrustedKey:
    """Find a key by fingerprint or name; raises TrustError("not-found")."""
    for trusted in store:
        if wanted in (trusted.key.fingerprint, trusted.name):
            return trusted
    raise TrustError(
        "not-found",
        f'no trusted key is called "{wanted}"',
        '"certexec trust list" shows names and fingerprints',
    )


def remove_key(
    directory: str, wanted: str, *, owner_ok: Collection[int] = ROOT_ONLY
) -> TrustedKey:
    """Stop trusting the key with this fingerprint or name; return what it was.

    Raises TrustError as ``add_key`` does, "not-found" when there is no such key.
    """
    fd = _open_store(directory, owner_ok, create=False)
    try:
        trusted = find_key(load_open_store(fd, directory, owner_ok), wanted)
        shown = f"{directory}/{trusted.name}"
        _unlink_at(fd, trusted.name + KEY_SUFFIX, shown + KEY_SUFFIX)
        _unlink_at(fd, trusted.name + CONSTRAINTS_SUFFIX, shown + CONSTRAINTS_SUFFIX)
    finally:
        os.close(fd)
    return trusted
