"""One cached plan as a block of bytes: the plan, and everything on which it depends.

docs/plan-format.md describes the format, binfmt/cache.h is the reader. An entry is made by root
alone and holds no secrets; its sum only tells damage, who may write it is what protects it.
"""

from __future__ import annotations

import struct

from certexec.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.kernel.filesystem import FileIdentity

MAGIC = b"CXCCACH1"
VERSION = 1
SIZE_MAX = 1 << 20
"""bytes; a plan with 4096 instructions and the longest trust store has a tenth of it."""
ANYBODY = (1 << 64) - 1
"""In place of a uid or gid: the entry is for every invoker."""

FOR_CAPABLE = 1 << 0
"""Made for invokers that have capabilities; otherwise for those that have none."""
EUID_FOLLOWS = 1 << 1
"""The plan's effective uid is the invoker's."""
EGID_FOLLOWS = 1 << 2
"""The plan's effective gid is the invoker's."""
FLAGS = FOR_CAPABLE | EUID_FOLLOWS | EGID_FOLLOWS

LINK = 1 << 0
"""An object that is not followed where it is a symbolic link."""
ABSENT = 1 << 1
"""A name that leads nowhere, and must lead nowhere still."""
PLACE = 1 << 2
"""Only which object it is and who may change it counts, not its size and times."""

EVERYONE, USER, GROUP = 0, 1, 2
"""Whom a line of the numeric invocation list is about."""

PREFIX = 1 << 0
"""A variable's name only begins so."""
PLAIN = 1 << 1
"""The variable passes only with a short value of harmless characters."""

CERTIFICATE, PROGRAM = 0, 1
"""Which objects these are: the launcher judges them on open descriptors."""

BOOT = 0
"""Which text names the boot."""

_HEADER = struct.Struct("<8s21Q")
_OBJECT = struct.Struct("<QIIIIIIQQQqqq")
_ROW = struct.Struct("<4I")
_PAIR = struct.Struct("<2Q")
_WORD = (1 << 64) - 1
_SUM_AT = 24
_SUM_START, _SUM_FACTOR = 0xCBF29CE484222325, 0x9E3779B97F4A7C15
_NO_TIME = -1
"""In place of a birth time that the file system does not record."""


class Object:
    """A file, directory or link that was judged, and what it was then.

    Attributes:
        path: absolute; flags: LINK, ABSENT and PLACE.
        identity: what statx(2) said; None with ABSENT.
    """

    __slots__ = ("flags", "identity", "path")

    def __init__(self, path: bytes, flags: int = 0, identity: FileIdentity | None = None) -> None:
        self.path = path
        self.flags = flags
        self.identity = identity

    def state(self) -> tuple[int, ...]:
        """Return the numbers that must be the same when the plan is used."""
        found = self.identity
        if found is None or self.flags & ABSENT:
            return (0,) * 11
        whose = found.mode, found.uid, found.gid, *found.device, found.inode, found.mount or 0
        birth = _NO_TIME if found.birth is None else found.birth
        if self.flags & PLACE:
            return (*whose, 0, birth, 0, 0)
        return (*whose, found.size, birth, found.changed, found.modified)


class Entry:
    """One cached plan. Make it, set attributes, ``encode``; or get one from ``decode``.

    Attributes:
        plan: the encoded plan (certexec.run.plan), for no particular invoker where ids follow.
        flags: FOR_CAPABLE, EUID_FOLLOWS, EGID_FOLLOWS.
        uid, gid: the only invoker that it is for, or ANYBODY.
        not_before, not_after: seconds since 1970, both included.
        file_systems: statfs(2)'s f_fsid of the certificate's and the program's.
        objects: what was judged, the certificate first, then the program.
        texts: (path, content): files of the kernel's that must hold this content; the boot's first.
        memory: f_fsid of the tmpfs that holds the entry, which ends with the boot; 0: none does.
        listed: the numeric invocation list, (allow, EVERYONE or USER or GROUP, number) in order;
            the first line that fits decides, none denies.
        passed: (name, PREFIX and PLAIN): which of the invoker's variables pass beside those of
            the plan; counts where the plan has an environment.
    """

    __slots__ = (
        "file_systems", "flags", "gid", "listed", "memory", "not_after", "not_before", "objects",
        "passed", "plan", "texts", "uid",
    )  # fmt: skip

    def __init__(self, plan: bytes = b"") -> None:
        self.plan = plan
        self.flags = 0
        self.uid = self.gid = ANYBODY
        self.not_before = self.not_after = self.memory = 0
        self.file_systems = (0, 0)
        self.objects: Sequence[Object] = []
        self.texts: list[tuple[bytes, bytes]] = []
        self.listed: list[tuple[bool, int, int]] = []
        self.passed: list[tuple[bytes, int]] = []

    @property
    def program(self) -> str:
        """The program's path."""
        return self.objects[PROGRAM].path.decode("utf-8", "surrogateescape")

    @property
    def certificate(self) -> str:
        """Where the certificate stood when it was judged; only for people."""
        return self.objects[CERTIFICATE].path.decode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """Return the block. Raises RunError("internal") where it would be too large."""
        body = _Body()
        plan = body.add(self.plan)
        rows = [
            _OBJECT.pack(body.text(one.path), one.flags, *one.state())
            for one in self.objects
        ]
        texts = [_PAIR.pack(body.text(path), body.text(text)) for path, text in self.texts]
        passed = [_PAIR.pack(body.text(name), how) for name, how in self.passed]
        listed = [_ROW.pack(allow, kind, number, 0) for allow, kind, number in self.listed]
        tables = [
            (body.add(b"".join(table)), len(table)) for table in (rows, texts, listed, passed)
        ]
        body.text(b"")  # the last byte is NUL: every string ends inside the entry
        if body.size > SIZE_MAX:
            raise RunError("internal", f"the entry has {body.size} bytes, more than {SIZE_MAX}")
        block = _HEADER.pack(
            MAGIC, VERSION, body.size, 0, self.flags, self.uid, self.gid,
            self.not_before, self.not_after, *self.file_systems, plan, len(self.plan),
            *(number for table in tables for number in table), self.memory,
        ) + b"".join(body.parts)  # fmt: skip
        total = checksum(block)
        return block[:_SUM_AT] + total.to_bytes(8, "little") + block[_SUM_AT + 8 :]


def decode(block: bytes) -> Entry | None:
    """Return the entry in a block, None for one that is damaged or of another version."""
    try:
        return _decoded(block)
    except (struct.error, ValueError):
        return None  # tables that lead out of it


def _decoded(block: bytes) -> Entry | None:
    if not _HEADER.size <= len(block) <= SIZE_MAX or len(block) % 8:
        return None
    magic, version, size, total, *rest = _HEADER.unpack_from(block)
    if (magic, version, size) != (MAGIC, VERSION, len(block)) or total != checksum(block):
        return None
    flags, uid, gid, first, last, one_system, other_system, plan, length, *tables = rest[:17]
    memory = rest[17]
    entry = Entry(block[plan : plan + length])
    entry.flags, entry.uid, entry.gid = flags, uid, gid
    entry.not_before, entry.not_after, entry.memory = first, last, memory
    entry.file_systems = one_system, other_system
    objects, texts, listed, passed = (
        (tables[at], tables[at + 1]) for at in range(0, len(tables), 2)
    )

    def rows(shape: struct.Struct, table: tuple[int, int]) -> list[tuple[int, ...]]:
        start, count = table
        return list(shape.iter_unpack(block[start : start + count * shape.size]))

    def text(at: int) -> bytes:
        return block[at : block.index(b"\0", at)]

    entry.objects = [
        Recorded(text(at), kind, state) for at, kind, *state in rows(_OBJECT, objects)
    ]
    entry.texts = [(text(path), text(content)) for path, content in rows(_PAIR, texts)]
    entry.listed = [(bool(allow), kind, who) for allow, kind, who, _ in rows(_ROW, listed)]
    entry.passed = [(text(name), how) for name, how in rows(_PAIR, passed)]
    return entry


class Recorded(Object):
    """An object as an entry holds it."""

    __slots__ = ("_state",)

    def __init__(self, path: bytes, flags: int, state: Sequence[int]) -> None:
        super().__init__(path, flags)
        self._state = tuple(state)

    def state(self) -> tuple[int, ...]:
        """Return the recorded numbers."""
        return self._state


class _Body:
    """What follows the header; every piece starts at a multiple of 8."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = _HEADER.size

    def add(self, data: bytes) -> int:
        """Add bytes; return their offset in the entry."""
        offset = self.size
        padded = data + bytes(-len(data) % 8)
        self.parts.append(padded)
        self.size += len(padded)
        return offset

    def text(self, data: bytes) -> int:
        """Add a string with its NUL; return its offset."""
        return self.add(data + b"\0")


def checksum(block: bytes) -> int:
    """Return a sum of the 64-bit words, its own place taken as 0. It tells damage, not malice."""
    total = _SUM_START
    for index, (word,) in enumerate(struct.iter_unpack("<Q", block)):
        total = (total ^ (0 if index * 8 == _SUM_AT else word)) * _SUM_FACTOR & _WORD
        total ^= total >> 29
    return total

