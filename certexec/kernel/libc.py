"""The door to libc: raw system calls, fnmatch(3) and regcomp(3).

Everything goes through ``CDLL(None)``, the libc that the interpreter already runs on:
``ctypes.util.find_library`` would start ldconfig, or even gcc found in $PATH.

Raw system calls matter for credentials: glibc's setresuid() changes every thread of the process,
the system call only the calling one.
"""

from __future__ import annotations

import ctypes
import os

from certexec.errors import PolicyError
from certexec.kernel.doors import compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

_shapes: dict[tuple[type, ...], Callable[..., int]] = {}
"""syscall(2) once for each sequence of argument types: converting by ctypes' own prototypes takes
half the time of wrapping each argument."""
_SHAPES_MAX = 200

FNM_NOESCAPE = 1 << 1
FNM_PATHNAME = 1 << 0
FNM_PERIOD = 1 << 2
FNM_LEADING_DIR = 1 << 3

REG_EXTENDED = 1
REG_NOSUB = 1 << 3
REGEX_T_SIZE = 256
"""bytes; glibc's regex_t is 64 bytes, musl's 56: room to spare."""


def syscall(
    number: int, *arguments: int | bytes | bytearray | ctypes.Array[ctypes.c_char] | None
) -> int:
    """Make the raw system call ``number`` and return its result.

    Integers are passed as 64-bit registers (so -1 and 2**64-1 are the same), bytes and buffers
    (bytearray, ctypes') by address. Raises OSError with the kernel's errno (syscall(2)).
    """
    shape = tuple(map(type, arguments))
    function = _shapes.get(shape)
    if function is None:
        function = _shaped(*shape)
        if len(_shapes) < _SHAPES_MAX:  # each length of buffer is a type
            _shapes[shape] = function
    result = function(number, *arguments)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _by_address(argument: Any) -> Any:
    if isinstance(argument, bytearray):
        return (ctypes.c_char * len(argument)).from_buffer(argument)
    return argument


def _shaped(*shape: type) -> Callable[..., int]:
    """Return syscall(2) for arguments of these types, behind the number."""
    function = _LIBC["syscall"]  # each look-up by name makes a function with types of its own
    function.restype = ctypes.c_long
    function.argtypes = (
        ctypes.c_long,
        *(ctypes.c_long if issubclass(kind, int)
          else ctypes.c_char_p if issubclass(kind, bytes) else ctypes.c_void_p for kind in shape),
    )  # fmt: skip
    if bytearray in shape:
        return lambda number, *arguments: function(number, *map(_by_address, arguments))
    return function


if compiled is not None:
    syscall = compiled.syscall


def fnmatch(pattern: bytes, value: bytes, flags: int) -> bool:
    """Tell whether ``value`` matches the shell pattern, as the C library decides it (fnmatch(3)).

    A NUL cannot be part of either string: such a value matches nothing.
    """
    if b"\0" in pattern or b"\0" in value:
        return False
    return bool(_LIBC.fnmatch(pattern, value, flags) == 0)


class Regex:
    """A compiled POSIX extended regular expression (regcomp(3), REG_EXTENDED | REG_NOSUB)."""

    __slots__ = ("_compiled",)

    def __init__(self, pattern: bytes) -> None:
        """Compile ``pattern``; raises PolicyError("policy-syntax") when regcomp refuses it."""
        compiled = ctypes.create_string_buffer(REGEX_T_SIZE)
        if b"\0" in pattern or _LIBC.regcomp(compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0:
            shown = pattern.decode("utf-8", "replace")
            raise PolicyError("policy-syntax", f"invalid regular expression: {shown}")
        self._compiled = compiled

    def search(self, value: bytes) -> bool:
        """Tell whether the expression matches anywhere in ``value``."""
        if b"\0" in value:
            return False
        return bool(_LIBC.regexec(self._compiled, value, 0, None, 0) == 0)

    def __del__(self) -> None:
        compiled = getattr(self, "_compiled", None)
        if compiled is not None:
            _LIBC.regfree(compiled)
