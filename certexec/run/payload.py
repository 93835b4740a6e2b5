"""What a message says: read from the caller's memory piece by piece, when it is sent.

Nothing of it is judged, so it need not be copied before. What lies behind a bad address, or is more
than we would hold at once, is given to the kernel as a bad address of ours: then it answers as it
would have answered the caller, whatever else it has to say first.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault

_MMAP = 9
_MUNMAP = 11
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS = 3, 0x22
_USER_TOP = (1 << 56) - 4096
"""where the addresses of programs end at most (TASK_SIZE_MAX, five levels of page tables)."""
_RW_MAX = 0x7FFFF000
"""bytes that one call can move (MAX_RW_COUNT)."""
PIECES_MAX = 1024
"""pieces of one message (UIO_MAXIOV)."""
_BAD_ADDRESS = 8
_PAIR = struct.Struct("=QQ")
"""struct iovec."""


class Payload:
    """The pieces of one message, (address, size) each; ``size``: bytes in all."""

    __slots__ = ("_call", "_pieces", "size")

    def __init__(self, call: Call, pieces: list[tuple[int, int]]) -> None:
        """Raises Fault(EFAULT) where a piece lies outside any program."""
        self._call, self._pieces, self.size = call, [], 0
        for address, size in pieces:
            if address + size > _USER_TOP:
                raise Fault(errno.EFAULT)
            size = min(size, _RW_MAX - self.size)
            self._pieces.append((address, size))
            self.size += size

    def read(self, start: int, size: int) -> bytes:
        """Return what can be read of ``size`` bytes from ``start`` on."""
        memory = self._call.memory
        chunks = []
        for address, length in self._pieces:
            if start >= length:
                start -= length
                continue
            wanted = min(length - start, size)
            chunk = memory.read_available(address + start, wanted)
            chunks.append(chunk)
            size -= wanted
            if len(chunk) < wanted or not size:
                break
            start = 0
        return b"".join(chunks)


def copy_pieces(call: Call, address: int, count: int) -> Payload:
    """Copy an array of struct iovec; raises Fault (EMSGSIZE, EFAULT, EINVAL) as the kernel does."""
    if count > PIECES_MAX:
        raise Fault(errno.EMSGSIZE)
    pair, sign = _PAIR, 63
    if call.foreign:
        from certexec.run.foreign_layout import PIECE

        pair, sign = PIECE, 31
    try:
        data = call.memory.read(address, count * pair.size) if count else b""
    except OSError:
        raise Fault(errno.EFAULT) from None
    pieces = list(pair.iter_unpack(data))
    if any(size >> sign for _, size in pieces):
        raise Fault(errno.EINVAL)
    return Payload(call, pieces)


class Copy:
    """Bytes in our own memory, as the kernel is to be given them: an array of struct iovec.

    ``missing``: so many bytes follow that we do not have. ``lasting``: the kernel goes on reading
    after the call (MSG_ZEROCOPY): then they lie on pages of their own, which it keeps.
    """

    __slots__ = ("_data", "_mapped", "count", "vector")

    def __init__(self, data: bytes, missing: int, lasting: bool = False) -> None:
        self._data, self._mapped = data, 0
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        if lasting and data:
            flags = _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS
            self._mapped = syscall(_MMAP, 0, len(data), *flags, -1, 0)
            ctypes.memmove(self._mapped, data, len(data))
            address = self._mapped
        pieces = [(address, len(data))] if data else []
        if missing:
            pieces.append((_BAD_ADDRESS, missing))
        self.count = len(pieces)
        self.vector = b"".join(_PAIR.pack(*piece) for piece in pieces)

    def close(self) -> None:
        """Give the pages back; the kernel keeps those that it still reads."""
        if self._mapped:
            syscall(_MUNMAP, self._mapped, len(self._data))
            self._mapped = 0
