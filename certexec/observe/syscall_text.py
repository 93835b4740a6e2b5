"""System calls as text, strace-like: the one adapter to python-ptrace.

python-ptrace knows names, prototypes, flags and signals; here it decodes and renders, nothing
else. It never traces: its debugger has no SEIZE, no EXITKILL and no seccomp events, and a tracee
survives its tracer (tests/observe shows that). Values are the registers of the notification and
memory read through the supervisor.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ptrace.func_call import FunctionCall, FunctionCallOptions
from ptrace.syscall import SYSCALL_PROTOTYPES, SyscallArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

STRING_MAX = 200
"""bytes of a string argument that are shown."""
AT_FDCWD = -100
READ_MAX = 16 << 10
"""bytes read for one argument; a program may pass any length."""
_HIDDEN_PROTOTYPES = {
    "openat2": (
        ("int", "dirfd"),
        ("const char *", "pathname"),
        ("struct open_how *", "how"),
        ("size_t", "size"),
    ),
    "newfstatat": (
        ("int", "dirfd"),
        ("const char *", "pathname"),
        ("struct stat *", "statbuf"),
        ("int", "flags"),
    ),
    "statx": (
        ("int", "dirfd"),
        ("const char *", "pathname"),
        ("int", "flags"),
        ("unsigned int", "mask"),
        ("struct statx *", "statxbuf"),
    ),
    "faccessat2": (
        ("int", "dirfd"),
        ("const char *", "pathname"),
        ("int", "mode"),
        ("int", "flags"),
    ),
}
"""Calls that are newer than python-ptrace's tables (Linux 5.8), or missing there."""



class _Reader:
    """What python-ptrace's renderer asks of a process; reads only, through a function."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._unlimited = read

    def _read(self, address: int, size: int) -> bytes:
        """Read a little; the renderer believes every length that a program passes."""
        if not 0 <= size <= READ_MAX:
            raise OSError(errno.EFAULT, "too long to be shown")
        return self._unlimited(address, size)

    def readBytes(self, address: int, size: int) -> bytes:  # noqa: N802
        """Read exactly ``size`` bytes."""
        return self._read(address, size)

    def readStruct(self, address: int, struct: Any) -> Any:  # noqa: N802
        """Read a ctypes structure."""
        return struct.from_buffer_copy(self._read(address, ctypes.sizeof(struct)))

    def readArray(self, address: int, basetype: Any, count: int) -> Any:  # noqa: N802
        """Read a ctypes array."""
        if not 0 <= count <= READ_MAX:
            raise OSError(errno.EFAULT, "too many to be shown")
        return self.readStruct(address, basetype * count)

    def readCString(  # noqa: N802
        self, address: int, max_size: int, chunk_length: int = 64
    ) -> tuple[bytes, bool]:
        """Read up to the NUL; the flag says that there was more."""
        text = b""
        while len(text) < max_size:
            step = min(chunk_length - address % chunk_length, max_size - len(text))
            chunk = self._read(address, step)
            end = chunk.find(b"\0")
            if end >= 0:
                return text + chunk[:end], False
            text += chunk
            address += step
        return text, True

    def readWord(self, address: int) -> int:  # noqa: N802
        """Read one machine word."""
        return int.from_bytes(self._read(address, 8), "little")


def render(name: str, args: Sequence[int], read: Callable[[int, int], bytes]) -> str:
    """Return ``name(arg, ...)`` with the arguments decoded as far as they are known.

    ``read`` copies memory and raises OSError for a bad address; such an argument is shown as its
    number. Nothing that a program writes there can make this fail.
    """
    options = FunctionCallOptions(string_max_length=STRING_MAX)
    call = FunctionCall(name, options, SyscallArgument)
    call.process = _Reader(read)
    prototype = _HIDDEN_PROTOTYPES.get(name)
    if prototype is None and name in SYSCALL_PROTOTYPES:
        prototype = SYSCALL_PROTOTYPES[name][1]
    if prototype is None:
        for value in args:
            call.addArgument(value=value)
    else:
        for value, (kind, label) in zip(args, prototype, strict=False):
            call.addArgument(value=_narrow(value, kind), name=label, type=kind)
    texts = [text for text in map(_text, call.arguments) if text]
    return f"{name}({', '.join(texts)})"


def _narrow(value: int, kind: str) -> int:
    """A C int fills half a register."""
    if kind == "int":
        value &= 0xFFFFFFFF
        return value - (1 << 32) if value & 0x80000000 else value
    return value


def _text(argument: Any) -> str:
    if argument.name == "dirfd" and argument.value == AT_FDCWD:
        return "AT_FDCWD"
    try:
        text = str(argument.createText())
    except Exception:  # noqa: BLE001 - a renderer that stumbles must not stop the program
        text = hex(argument.value & 0xFFFFFFFFFFFFFFFF)
    return "".join(char if char.isprintable() else f"\\x{ord(char) & 0xFF:02x}" for char in text)


def result_text(value: int, code: int, resumed: bool) -> str:
    """Return what stands behind the "=": a number, an errno, or "?" for the kernel's own answer."""
    if resumed:
        return "? (left to the kernel)"
    if code:
        name = errno.errorcode.get(code, "ERESTARTSYS" if code == 512 else f"errno {code}")
        return f"-1 {name} ({os.strerror(code)})"
    return str(value)


def argument_names(name: str) -> list[str]:
    """Return what the arguments of a system call are called, in order; none for an unknown one."""
    prototype = _HIDDEN_PROTOTYPES.get(name)
    if prototype is None:
        prototype = SYSCALL_PROTOTYPES.get(name, ("", ()))[1]
    return [label for _, label in prototype]
