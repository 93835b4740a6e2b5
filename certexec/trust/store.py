"""The trust store: a directory of ``NAME.pub`` files, each with its constraints beside it.

Whoever can write there decides which certificates run, so everything is judged before it is read:
the directory, every directory above it, and each file on the descriptor that is then read.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.errors import TrustError
from certexec.kernel.ownership import ROOT_ONLY, check_chain, check_object
from certexec.trust import constraints as constraints_module
from certexec.trust.constraints import Constraints, parse_constraints
from certexec.trust.keys import MAX_LINE, PublicKey, parse_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

DEFAULT_DIRECTORY = "/etc/certexec/trust.d"
MISSING_HINT = 'make a trust store with "certexec trust add", or name one with "--trust DIR"'
KEY_SUFFIX = ".pub"
CONSTRAINTS_SUFFIX = ".toml"
MAX_KEYS = 256
"""Keys in one store; each costs the run path a file and a check."""


class TrustedKey:
    """A key of the store: the key, what it may sign, and the name of its files."""

    __slots__ = ("constraints", "key", "name")

    def __init__(self, key: PublicKey, constraints: Constraints, name: str) -> None:
        self.key = key
        self.constraints = constraints
        self.name = name


def _read_at(directory: int, name: str, shown: str, limit: int, owners: Collection[int]) -> bytes:
    """Read a file of the store: a regular file that only its owners can write, once."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise TrustError("trust-unsafe", f'"{shown}" is a symbolic link') from None
        raise TrustError("unreadable", f'cannot read "{shown}": {error.strerror}') from None
    try:
        if not stat.S_ISREG(check_object(fd, shown, owners).st_mode):
            raise TrustError("trust-unsafe", f'"{shown}" is not a regular file')
        content = b""
        while len(content) <= limit:
            block = os.read(fd, limit + 1 - len(content))
            if not block:
                return content
            content += block
    except OSError as error:
        raise TrustError("unreadable", f'cannot read "{shown}": {error.strerror}') from None
    finally:
        os.close(fd)
    raise TrustError("bad-key", f'"{shown}" is longer than {limit} bytes')


def _load_key(directory: int, name: str, path: str, owners: Collection[int]) -> TrustedKey:
    shown = f"{path}/{name}{KEY_SUFFIX}"
    try:
        key = parse_public(_read_at(directory, name + KEY_SUFFIX, shown, MAX_LINE, owners))
    except TrustError as error:
        if error.reason == "bad-key":
            message = f'"{shown}": {error.message}'
            raise TrustError("bad-key", message, "remove the file, or restore it") from None
        raise
    beside = name + CONSTRAINTS_SUFFIX
    shown = f"{path}/{beside}"
    try:
        os.stat(beside, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return TrustedKey(key, Constraints(), name)
    except OSError as error:
        raise TrustError("unreadable", f'cannot read "{shown}": {error.strerror}') from None
    content = _read_at(directory, beside, shown, constraints_module.MAX_FILE, owners)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise TrustError("trust-syntax", f'"{shown}" is not UTF-8') from None
    return TrustedKey(key, parse_constraints(text, shown), name)


def load_open_store(
    directory: int, path: str, owner_ok: Collection[int] = ROOT_ONLY
) -> list[TrustedKey]:
    """Read the store behind an open directory that was judged already; see ``load_store``."""
    owners = frozenset(owner_ok) | ROOT_ONLY
    try:
        entries = sorted(os.listdir(directory))
    except OSError as error:
        raise TrustError("unreadable", f'cannot list "{path}": {error.strerror}') from None
    stems = [
        entry[: -len(KEY_SUFFIX)]
        for entry in entries
        if entry.endswith(KEY_SUFFIX) and not entry.startswith(".")
    ]
    if len(stems) > MAX_KEYS:
        raise TrustError("trust-unsafe", f'"{path}" holds more than {MAX_KEYS} keys')
    found: dict[bytes, TrustedKey] = {}
    for stem in stems:
        trusted = _load_key(directory, stem, path, owners)
        twin = found.get(trusted.key.kid)
        if twin is not None:
            # two files for one key would be two answers to what it may sign
            raise TrustError(
                "bad-key",
                f'"{path}" holds one key twice, as "{twin.name}" and "{stem}"',
                f'remove one of them with "certexec trust remove {stem}"',
            )
        found[trusted.key.kid] = trusted
    return list(found.values())


def load_store(directory: str, *, owner_ok: Collection[int] = ROOT_ONLY) -> list[TrustedKey]:
    """Read the trust store in ``directory`` (an absolute path), sorted by name.

    Files and the directories themselves may belong to root or to a uid in ``owner_ok``. One file
    that cannot be used refuses the whole store: it could be the constraint that matters.

    Raises:
        TrustError: "trust-unsafe" when somebody else could write any of it, "unreadable" when it
            is missing or cannot be read, "bad-key" or "trust-syntax" for the content of a file.
    """
    try:
        fd = check_chain(directory, owner_ok)
    except TrustError as error:
        if error.reason == "unreadable" and not error.hint:
            raise TrustError("unreadable", error.message, MISSING_HINT) from None
        raise
    try:
        return load_open_store(fd, directory.rstrip("/") or "/", owner_ok)
    finally:
        os.close(fd)


def by_kid(store: list[TrustedKey]) -> dict[bytes, TrustedKey]:
    """File the keys under their ids, as ``certificate.verify`` wants them."""
    return {trusted.key.kid: trusted for trusted in store}
