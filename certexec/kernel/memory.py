"""Another process's memory, read and written as the process itself could.

process_vm_readv(2) and process_vm_writev(2) honour page protection, which /proc/PID/mem does not,
and they look the address space up at each call: none that was left by an exec is ever seen.
"""

from __future__ import annotations

import ctypes
import struct

from certexec.kernel.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
_PROCESS_VM_READV = 310
_PROCESS_VM_WRITEV = 311
_SPACE_END = 1 << 63
_VECTOR = struct.Struct("=QQ")
_Page = ctypes.c_char * PAGE


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
        buffer = ctypes.create_string_buffer(size)
        self._peek(self._fill, buffer, address, size)
        return buffer.raw

    def read_available(self, address: int, size: int) -> bytes:
        """Read up to ``size`` bytes: what lies before the first bad address."""
        if not size or address >= _SPACE_END:
            return b""
        try:
            return self._peek(self._some, ctypes.create_string_buffer(size), address, size)
        except OSError:
            return b""

    def read_string(self, address: int, limit: int) -> bytes | None:
        """Read bytes up to the NUL; None when there is no NUL within ``limit`` bytes.

        Raises OSError for a bad address.
        """
        chunks = []
        while limit > 0:
            # never beyond the page that the string is known to reach into
            size = min(PAGE - address % PAGE, limit)
            buffer = _Page()
            self._peek(self._fill, buffer, address, size)
            chunk = buffer.value  # up to its first NUL, behind what was read if nowhere else
            chunks.append(chunk)
            if len(chunk) < size:
                return b"".join(chunks)
            address += size
            limit -= size
        return None

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` as the process itself could; raises OSError (EFAULT)."""
        if data:
            buffer = ctypes.create_string_buffer(data, len(data))
            self._transfer(_PROCESS_VM_WRITEV, buffer, address, len(data))

    def _fill(self, buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> bytes:
        self._transfer(_PROCESS_VM_READV, buffer, address, size)
        return b""

    def _some(self, buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> bytes:
        done = self._move(_PROCESS_VM_READV, buffer, address, size)
        return buffer.raw[:done]

    def _transfer(
        self, call: int, buffer: ctypes.Array[ctypes.c_char], address: int, size: int
    ) -> None:
        if address >= _SPACE_END or self._move(call, buffer, address, size) != size:
            raise OSError(14, "bad address")

    def _move(
        self, call: int, buffer: ctypes.Array[ctypes.c_char], address: int, size: int
    ) -> int:
        local = _VECTOR.pack(ctypes.addressof(buffer), size)
        return syscall(call, self.tid, local, 1, _VECTOR.pack(address, size), 1, 0)
