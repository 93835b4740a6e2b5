"""Landlock's access rights for files, and which of them the running kernel knows.

The rights are the bits of ``struct landlock_ruleset_attr.handled_access_fs`` (landlock(7),
include/uapi/linux/landlock.h). A right that a ruleset handles is denied everywhere but beneath the
trees that grant it; one that it does not handle is left alone, except REFER, which is always denied
once anything is handled.
"""

from __future__ import annotations

from certexec.kernel.libc import syscall

WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_FIFO = 1 << 10
REFER = 1 << 13
"""Rename and link between directories. Since ABI 2 (Linux 5.19); before, nothing grants it."""
TRUNCATE = 1 << 14
"""Since ABI 3 (Linux 6.2); before, Landlock has no say about it."""

READS = READ_FILE | READ_DIR
"""What open(2) needs in order to read."""
WRITES = WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_FIFO
"""What the calls need that count as fswrite."""
OF_FILES = WRITE_FILE | READ_FILE | TRUNCATE
"""What can be granted on a file; the rest only on directories (landlock_add_rule(2), EINVAL)."""

ABI_REFER = 2
ABI_TRUNCATE = 3

_CREATE_RULESET = 444
_CREATE_RULESET_VERSION = 1


def abi() -> int:
    """Return the version of Landlock that the kernel speaks, 0 where there is none."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0  # ENOSYS: not built in; EOPNOTSUPP: not among the active modules
