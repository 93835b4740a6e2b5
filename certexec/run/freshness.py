"""Whether everything that a verdict was built on is still as it was then.

Each object is known by what statx(2) says of it: file system, inode, birth, size, both times,
owner, mode, and the mount by which it was reached. A mount over any part of a path leads to another
mount or object, another mount namespace has mounts of its own, and whatever is written, renamed,
linked or given away gets another change time; on file systems where that is so.
"""

from __future__ import annotations

import os
import time

from certexec.kernel.filesystem import identify
from certexec.kernel.procfs import read_file
from certexec.run.cache_entry import ABSENT, LINK, PLACE, PROGRAM, Entry, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certexec.run.layout import Layout

BOOT_ID = "/proc/sys/kernel/random/boot_id"
ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf")
_REALTIME_COARSE = 5
"""The clock that change times are taken from (clock_gettime(2))."""
_GRAINS = 2
"""ticks of that clock: a change within one may leave the change time as it was."""
_SECOND = 10**9
_COARSE = 2 * _SECOND
"""Where change times are whole seconds (ext3, ext4 with inodes of 128 bytes, the network) or even
ones (vfat), all changes within this may have the same."""
_AT_FDCWD = -100


def look(path: str, flags: int = 0) -> Object:
    """Return an object as it is now; ABSENT where there is none. Raises OSError."""
    name = os.fsencode(path)
    try:
        found = identify(_AT_FDCWD, name, follow=not flags & LINK, unique_mount=True)
    except FileNotFoundError:
        return Object(name, flags | ABSENT)
    return Object(name, flags, found)


def look_at(fd: int, path: str) -> Object:
    """Return an open object as it is now. Raises OSError."""
    return Object(os.fsencode(path), 0, identify(fd, unique_mount=True))


def surroundings(layout: Layout) -> list[Object]:
    """Return what every verdict here depends on, beside the files that a certificate names.

    The trust store with each directory above it and each file in it, the accounts, and the
    version of certexec. Raises OSError.
    """
    found = [look(layout.current, LINK)]
    found += [look(path) for path in ACCOUNTS]
    store = layout.trust_store
    parts = store.strip("/").split("/")
    found += [
        look("/" + "/".join(parts[:depth]), LINK | PLACE) for depth in range(len(parts))
    ]
    found.append(look(store, LINK))
    found += [look(f"{store}/{name}", LINK) for name in sorted(os.listdir(store))]
    return found


def boot_id() -> bytes:
    """Return the kernel's name for the time since it started. Raises OSError."""
    return read_file(BOOT_ID)


def quiet_since() -> int:
    """Return the moment (nanoseconds since 1970) from which on a change could go unseen now."""
    grain = round(time.clock_getres(_REALTIME_COARSE) * _SECOND)
    return time.clock_gettime_ns(_REALTIME_COARSE) - _GRAINS * grain


def restless(objects: Iterable[Object], moment: int) -> list[Object]:
    """Return the objects that changed at ``moment`` or later: another change may look the same."""
    return [
        one for one in objects
        if one.identity is not None and not one.flags & PLACE
        and one.identity.changed >= moment - (0 if one.identity.changed % _SECOND else _COARSE)
    ]  # fmt: skip


def is_unchanged(recorded: Object) -> bool:
    """Tell whether a name leads to the recorded object, and that is as it was."""
    try:
        now = look(os.fsdecode(recorded.path), recorded.flags & ~ABSENT)
    except OSError:
        return False
    return now.flags == recorded.flags and now.state() == recorded.state()


def changed(objects: Sequence[Object]) -> str:
    """Return the path of the first object that is not as recorded, "" where all are."""
    for one in objects:
        if not is_unchanged(one):
            return os.fsdecode(one.path)
    return ""


def staleness(entry: Entry) -> str:
    """Say why an entry's plan may not be used any more, "" where it may.

    The launcher asks the same of its invoker's certificate (binfmt/cache.h), and besides whom the
    entry is for.
    """
    now = int(time.time())
    if now < entry.not_before:
        return "the clock was set back"
    if now > entry.not_after:
        return "its time is over"
    for name, text in entry.texts:
        path = os.fsdecode(name)
        try:
            content = read_file(path)
        except OSError:
            return f'"{path}" cannot be read'
        if text not in content:
            boot = path == BOOT_ID
            return "it is from before the last boot" if boot else f'"{path}" says something else'
    if len(entry.objects) <= PROGRAM:
        return "it names no program"
    path = changed(entry.objects)
    return f'"{path}" changed' if path else ""
