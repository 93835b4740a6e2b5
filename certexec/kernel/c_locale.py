"""The C locale for single calls into libc, whatever locale the interpreter took over.

Python calls setlocale(LC_CTYPE, "") when it starts, so fnmatch(3) and regexec(3) judge characters
of the invoker's locale: "?" then matches one "e" with an accent (two bytes), and "[a-z]" follows
the locale's order. systrace never called setlocale: its policies mean bytes. A verdict must not
depend on who runs the program either.
"""

from __future__ import annotations

import ctypes

from certexec.errors import KernelError

_LIBC = ctypes.CDLL(None)
_LC_ALL_MASK = 0x1FBF
"""All 12 categories of glibc's <locale.h>."""

_uselocale = _LIBC.uselocale
_uselocale.restype = ctypes.c_void_p
_uselocale.argtypes = (ctypes.c_void_p,)
_LIBC.newlocale.restype = ctypes.c_void_p
_LIBC.newlocale.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

_C = _LIBC.newlocale(_LC_ALL_MASK, b"C", None)


def enter() -> int:
    """Give this thread the C locale; return what ``leave`` takes to give the old one back.

    Only this thread is concerned (uselocale(3)). Raises KernelError when libc has no C locale.
    """
    if not _C:
        raise KernelError("kernel-unsupported", "the C library knows no C locale")
    previous: int = _uselocale(_C)
    return previous


def leave(previous: int) -> None:
    """Give this thread back the locale that it had before ``enter``."""
    _uselocale(previous)
