"""What the first bytes of a program say about it (elf(5))."""

from __future__ import annotations

import os

_IDENT_SIZE = 5
_CLASS_32 = b"\x7fELF\x01"
"""EI_MAG0 to EI_MAG3, and ELFCLASS32."""


def is_32_bit(path: str) -> bool:
    """Tell whether a file is a 32-bit program, as far as it can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.pread(fd, _IDENT_SIZE, 0) == _CLASS_32
    except OSError:
        return False
    finally:
        os.close(fd)
