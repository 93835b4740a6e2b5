"""The trees of a Landlock domain, as they stand now: which exist, and which objects they are.

The launcher makes the domain (docs/plan-format.md, step 8): it opens each tree anew and compares it
with what was seen here, so that no name is trusted twice.
"""

from __future__ import annotations

import os
import stat
import struct

from certexec.kernel.filesystem import openat2
from certexec.kernel.landlock import OF_FILES, READ_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.landlock import Landlocked

_AT_FDCWD = -100
_OPEN_TREE = os.O_PATH | os.O_CLOEXEC
_NO_SYMLINKS = 4
"""RESOLVE_NO_SYMLINKS: a policy's trees are real paths. What lies behind a link has another one."""
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PT_INTERP = 3
_SEGMENTS_MAX = 128
"""program headers of which the kernel reads one page at most (fs/binfmt_elf.c)."""


class Tree:
    """One rule of the domain.

    Attributes:
        path: absolute, in normal form, without links.
        rights: bits of certexec.kernel.landlock, those that this object can have.
        device, inode: the object's identity.
    """

    __slots__ = ("device", "inode", "path", "rights")

    def __init__(self, path: bytes, rights: int, device: int, inode: int) -> None:
        self.path = path
        self.rights = rights
        self.device = device
        self.inode = inode


def standing(landlocked: Landlocked) -> list[Tree]:
    """Return the trees that exist and can be reached. The others grant nothing."""
    trees = []
    for path, rights in landlocked.trees.items():
        name = os.fsencode(path)
        try:
            fd = openat2(_AT_FDCWD, name, _OPEN_TREE, _NO_SYMLINKS)
        except OSError:
            continue
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        if not stat.S_ISDIR(info.st_mode):
            rights &= OF_FILES
        if rights:
            trees.append(Tree(name, rights, info.st_dev, info.st_ino))
    return trees


def can_start(landlocked: Landlocked, program: str) -> bool:
    """Tell whether the domain lets the kernel execute ``program``, and so read it and its loader.

    A sealed copy of it would need no right, but which mode is taken is not known yet.
    """
    if not landlocked.handled & READ_FILE:
        return True
    readable = [path for path, rights in landlocked.trees.items() if rights & READ_FILE]
    try:
        files = [program]
        loader = _loader(program)
        if loader:
            files.append(loader)
        real = [os.path.realpath(each, strict=True) for each in files]
    except OSError:
        return False
    return all(any(_beneath(each, tree) for tree in readable) for each in real)


def _beneath(path: str, tree: str) -> bool:
    return tree == "/" or path == tree or path.startswith(tree + "/")


def _loader(program: str) -> str:
    """Return the loader that a 64-bit ELF file names, "" where it names none.

    Raises OSError where that cannot be told: a script, a damaged file.
    """
    with open(program, "rb", buffering=0) as file:
        head = file.read(64)
        if len(head) < 64 or not head.startswith(b"\x7fELF\x02\x01"):
            raise OSError("no ELF file")
        start, size, count = (_ELF_HEADER.unpack_from(head)[each] for each in (5, 9, 10))
        if size != _SEGMENT.size or count > _SEGMENTS_MAX:
            raise OSError("no ELF file")
        for index in range(count):
            segment = os.pread(file.fileno(), size, start + index * size)
            if len(segment) < size:
                raise OSError("no ELF file")
            kind, _, offset, _, _, length, _, _ = _SEGMENT.unpack(segment)
            if kind == _PT_INTERP:
                name = os.pread(file.fileno(), min(length, 4096), offset)
                return os.fsdecode(name.partition(b"\0")[0])
    return ""
