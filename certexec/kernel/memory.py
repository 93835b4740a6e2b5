"""Another process's memory, read and written as the process itself could.

process_vm_readv(2) and process_vm_writev(2) honour page protection, which /proc/PID/mem does not,
and they look the address space up at each call: none that was left by an exec is ever seen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from certexec.kernel.doors import compiled
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Buffer = bytearray | ctypes.Array[ctypes.c_char]

PAGE = 4096
GLIMPSED_MAX = 16
"""memory files that are kept open: those of the threads that called last."""
_PROCESS_VM_READV = 310
_PROCESS_VM_WRITEV = 311
_SPACE_END = 1 << 63
_VECTOR = struct.Struct("=QQ")
_FIRST_LOOK = 256
"""bytes of a string that are copied first: few names of files are longer."""


class _Room:
    """Where strings are copied to: a page, and a NUL behind what was copied."""

    __slots__ = ("buffer", "address")

    def __init__(self) -> None:
        self.buffer = (ctypes.c_char * (PAGE + 1))()
        self.address = ctypes.addressof(self.buffer)


_rooms: list[_Room] = []
"""Those that nobody uses; threads take one each (list.pop and append are atomic)."""


def read_text(tid: int, address: int, limit: int) -> bytes | None:
    """Return the bytes up to the NUL; None when there is none within ``limit`` bytes.

    Raises OSError(EFAULT), whatever makes the address a bad one.
    """
    text, look = b"", _FIRST_LOOK
    room = _rooms.pop() if _rooms else _Room()
    try:
        while limit > 0:
            # never beyond the page that the string is known to reach into
            size = min(PAGE - address % PAGE, limit, look)
            if address >= _SPACE_END or _copy_in(tid, room.address, address, size) != size:
                raise OSError(errno.EFAULT, "bad address")
            room.buffer[size] = b"\0"
            chunk = room.buffer.value  # up to its first NUL
            text += chunk
            if len(chunk) < size:
                return text
            address += size
            limit -= size
            look = PAGE
    finally:
        _rooms.append(room)
    return None


def _copy_in(tid: int, to: int, address: int, size: int) -> int:
    local, remote = _VECTOR.pack(to, size), _VECTOR.pack(address, size)
    try:
        return syscall(_PROCESS_VM_READV, tid, local, 1, remote, 1, 0)
    except OSError:
        return -1


def _copy(writes: bool, tid: int, here: bytes | _Buffer, address: int) -> int:
    """Copy between ``here`` and a process; return how many bytes. Raises OSError."""
    size = len(here)
    if isinstance(here, bytes):
        here = ctypes.create_string_buffer(here, size)
    elif isinstance(here, bytearray):
        here = (ctypes.c_char * size).from_buffer(here)
    local, remote = _VECTOR.pack(ctypes.addressof(here), size), _VECTOR.pack(address, size)
    call = _PROCESS_VM_WRITEV if writes else _PROCESS_VM_READV
    return syscall(call, tid, local, 1, remote, 1, 0)


if compiled is not None:
    read_text, _copy = compiled.read_text, compiled.copy


def _plainly(function: Callable[..., bytes], *arguments: object) -> bytes:
    return function(*arguments)


class Memory:
    """The address space of the process of thread ``tid``.

    ``peek`` calls the function that it is given, which reads, and may do something before or after.
    """

    __slots__ = ("_peek", "tid")

    def __init__(
        self, tid: int, peek: Callable[..., bytes] = _plainly
    ) -> None:
        self.tid = tid
        self._peek = peek

    def read(self, address: int, size: int) -> bytes:
        """Read exactly ``size`` bytes; raises OSError (EFAULT, EPERM, ESRCH)."""
        if not size:
            return b""
        return self._peek(self._read, bytearray(size), address)

    def read_available(self, address: int, size: int) -> bytes:
        """Read up to ``size`` bytes: what lies before the first bad address."""
        if not size or address >= _SPACE_END:
            return b""
        try:
            return self._peek(self._some, bytearray(size), address)
        except OSError:
            return b""

    def read_string(self, address: int, limit: int) -> bytes | None:
        """Read bytes up to the NUL; None when there is no NUL within ``limit`` bytes.

        Raises OSError for a bad address.
        """
        return self._peek(read_text, self.tid, address, limit)

    def write(self, address: int, data: bytes | _Buffer) -> None:
        """Write ``data`` as the process itself could; raises OSError (EFAULT)."""
        if data:
            self._transfer(True, data, address)

    def _read(self, buffer: bytearray, address: int) -> bytes:
        self._transfer(False, buffer, address)
        return bytes(buffer)

    def _some(self, buffer: bytearray, address: int) -> bytes:
        done = _copy(False, self.tid, buffer, address)
        return bytes(buffer[:done])

    def _transfer(self, writes: bool, here: bytes | _Buffer, address: int) -> None:
        if address >= _SPACE_END or _copy(writes, self.tid, here, address) != len(here):
            raise OSError(errno.EFAULT, "bad address")


class Glimpse:
    """Reads short texts of a few processes, again and again.

    Only for looking: /proc/PID/mem takes half the time of process_vm_readv(2), and shows what the
    process itself may not read, too. A file of a process that has executed or ended shows nothing.
    """

    __slots__ = ("_files", "_room")

    def __init__(self, room: int) -> None:
        """``room``: bytes of the longest text, with its NUL."""
        self._room = room
        self._files: dict[int, int] = {}

    def text(self, tid: int, address: int) -> bytes | None:
        """Return the bytes up to the NUL; None where there is none in the room, or no memory."""
        fd = self._files.get(tid, -1)
        data = b""
        try:
            if fd >= 0:
                data = os.pread(fd, self._room, address)
            if not data:
                data = os.pread(self._open(tid), self._room, address)
        except (OSError, OverflowError):
            return None
        end = data.find(b"\0")
        return data[:end] if end >= 0 else None

    def _open(self, tid: int) -> int:
        old = self._files.pop(tid, -1)
        if old < 0 and len(self._files) >= GLIMPSED_MAX:
            old = self._files.pop(next(iter(self._files)))
        if old >= 0:
            os.close(old)
        fd = self._files[tid] = os.open(proc(tid, "mem"), os.O_RDONLY | os.O_CLOEXEC)
        return fd

    def close(self) -> None:
        """Give all files back."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
