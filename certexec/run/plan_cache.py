"""The store of cached plans: /run/certexec/plans, which root alone writes and everybody may read.

One file is one entry (certexec.run.cache_entry), named after the certificate's inode and whom it
is for, so that the launcher finds it without a search. What is damaged, of another version, not
root's or writable by others counts as not there. ``certexec.run.cacheable`` makes entries, from
verdicts alone; nobody needs the cache: without it every start is judged anew.

There is no cache of a user's own. What a program of theirs may write to it could change, and that
program is the one that a certificate without a grant confines.
"""

from __future__ import annotations

import os
import stat

from certexec.errors import RunError, TrustError
from certexec.kernel.filesystem import number_of_file_system, type_name
from certexec.kernel.ownership import ROOT_ONLY, check_chain, check_object
from certexec.run.cache_entry import ANYBODY, FOR_CAPABLE, SIZE_MAX, Entry, decode
from certexec.run.freshness import staleness
from certexec.run.layout import SYSTEM, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MAX = 4096
"""files; /run is memory, and an entry has some ten kilobytes."""
_TEMPORARY = ".new-"
MODE = 0o755
"""of the directories; entries are 0644. Nothing in them is secret."""


def key(device: int, inode: int, capable: bool, uid: int = ANYBODY) -> str:
    """Return an entry's name, as the launcher makes it.

    ``device`` and ``inode`` are the certificate's (stat(2)); ``capable``: the invoker has
    capabilities; ``uid``: for that invoker only.
    """
    name = f"{device:016x}-{inode:016x}-{int(capable):x}"
    return name if uid == ANYBODY else f"{name}-{uid:08x}"


def key_of(entry: Entry, certificate: os.stat_result) -> str:
    """Return an entry's name for a certificate's file."""
    capable = bool(entry.flags & FOR_CAPABLE)
    return key(certificate.st_dev, certificate.st_ino, capable, entry.uid)


def write(name: str, entry: Entry, layout: Layout = SYSTEM) -> None:
    """Put an entry into the store, in one step; the one of that name is replaced.

    Raises RunError("not-root", "internal") and TrustError where others could write the store.
    """
    if os.geteuid() != 0:
        raise RunError("not-root", "only root writes cached plans")
    directory = _made(layout)
    temporary = f"{_TEMPORARY}{os.getpid()}-{name}"
    try:
        in_memory = type_name(directory) == "tmpfs"
        entry.memory = number_of_file_system(directory) if in_memory else 0
        block = entry.encode()
        _make_room(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o644)
            left = block
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        _unlink(temporary, directory)
        raise RunError(
            "internal", f'"{layout.plans}" cannot be written: {error.strerror}'
        ) from None
    finally:
        os.close(directory)


def read(name: str, layout: Layout = SYSTEM) -> Entry | None:
    """Return an entry, None where there is none that counts."""
    directory = _opened(layout)
    if directory is None:
        return None
    try:
        return _read_at(directory, name)
    finally:
        os.close(directory)


def entries(layout: Layout = SYSTEM) -> Iterator[tuple[str, Entry | None]]:
    """Yield the name and the entry of each file in the store; None: it does not count."""
    directory = _opened(layout)
    if directory is None:
        return
    try:
        for name in sorted(os.listdir(directory)):
            if not name.startswith(_TEMPORARY):
                yield name, _read_at(directory, name)
    finally:
        os.close(directory)


def verify(name: str, entry: Entry) -> str:
    """Say why an entry is of no use any more, "" where a launcher would use it for its invoker."""
    why = staleness(entry)
    if why:
        return why
    found = os.stat(entry.certificate)
    return "" if key_of(entry, found) == name else "it has another certificate's name"


def flush(layout: Layout = SYSTEM, names: Iterator[str] | list[str] | None = None) -> int:
    """Remove entries, all of them unless ``names`` says which; returns how many there were.

    Raises RunError("internal") where that cannot be done.
    """
    directory = _opened(layout)
    if directory is None:
        return 0
    try:
        gone = 0
        for name in os.listdir(directory) if names is None else names:
            gone += _unlink(name, directory)
        return gone
    except OSError as error:
        raise RunError(
            "internal", f'"{layout.plans}" cannot be emptied: {error.strerror}'
        ) from None
    finally:
        os.close(directory)


def _made(layout: Layout) -> int:
    """Open the store's directory, made where it is missing."""
    for path in (layout.state, layout.plans):
        try:
            os.mkdir(path, MODE)
            os.chmod(path, MODE)  # whatever the umask is
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError("internal", f'cannot make "{path}": {error.strerror}') from None
    return check_chain(layout.plans, ROOT_ONLY)


def _opened(layout: Layout) -> int | None:
    try:
        return check_chain(layout.plans, ROOT_ONLY)
    except TrustError:
        return None  # there is none, or it is not root's alone


def _read_at(directory: int, name: str) -> Entry | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    try:
        info = check_object(fd, name, ROOT_ONLY)
        if not stat.S_ISREG(info.st_mode) or info.st_size > SIZE_MAX:
            return None
        return decode(os.pread(fd, info.st_size, 0))
    except (OSError, TrustError, ValueError):
        return None
    finally:
        os.close(fd)


def _make_room(directory: int) -> None:
    """Remove the oldest entries where there are too many."""
    names = os.listdir(directory)
    if len(names) < ENTRIES_MAX:
        return
    ages = []
    for name in names:
        try:
            ages.append((os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns, name))
        except FileNotFoundError:
            continue
    for _, name in sorted(ages)[: len(names) // 4]:
        _unlink(name, directory)


def _unlink(name: str, directory: int) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
