"""Whether an open file has the size and both digests that were signed.

A comparison begins where the file is opened and is finished where the verdict is needed: a large
file is hashed meanwhile by a thread, while the policy is compiled. Nothing runs before it is
finished.
"""

from __future__ import annotations

import _thread
import os
import sys

from certexec.errors import RunError
from certexec.kernel.digest import OPENSSL_FROM, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certexec.certificate.model import FileDigest, Program

READ_CHUNK = 256 << 10
"""bytes read and hashed at a time, into one buffer that stays in the processor's cache."""
SWITCH_SECONDS = 20e-6
"""How long a thread that comes back from hashing waits for the interpreter. Python's own 5 ms, for
each chunk, would eat up what hashing beside the compiler saves."""
PYTHONS_SECONDS = 5e-3
"""What the interpreter starts with (sys.setswitchinterval)."""


def digest(fd: int, size: int, name: str = "sha256") -> bytes:
    """Hash the first ``size`` bytes of a file, by explicit offsets. Raises OSError."""
    state = new(name, size)
    _feed(fd, size, (state.update,))
    return state.digest()


def both_digests(fd: int, size: int) -> tuple[bytes, bytes]:
    """Return SHA-256 and SHA-512 of the first ``size`` bytes, reading them once. Raises OSError."""
    short, long = new("sha256", size), new("sha512", size)
    _feed(fd, size, (short.update, long.update))
    return short.digest(), long.digest()


def _feed(fd: int, size: int, takers: Sequence[Callable[[memoryview], None]]) -> None:
    buffer = memoryview(bytearray(min(READ_CHUNK, size)))
    offset = 0
    while offset < size:
        got = os.preadv(fd, [buffer[: size - offset]], offset)
        if not got:
            break
        offset += got
        for take in takers:
            take(buffer[:got])


class Digests:
    """SHA-256 and SHA-512 of an open file; of a large one SHA-512 comes from a thread."""

    def __init__(self, fd: int, size: int) -> None:
        """Begin. ``fd`` must stay open until ``finish`` has returned."""
        self._fd = fd
        self._size = size
        self._long: bytes | None = None
        self._done: _thread.LockType | None = None
        if size >= OPENSSL_FROM:
            sys.setswitchinterval(SWITCH_SECONDS)
            self._done = _thread.allocate_lock()
            self._done.acquire()
            _thread.start_new_thread(self._hash_long, (self._done,))

    def _hash_long(self, done: _thread.LockType) -> None:
        try:
            self._long = digest(self._fd, self._size, "sha512")
        except OSError:
            return  # the other digest fails in the same way, or the missing one says so
        finally:
            done.release()

    def finish(self) -> tuple[bytes, bytes]:
        """Return both digests, as soon as they are there. Raises OSError."""
        if self._done is None:
            return both_digests(self._fd, self._size)
        try:
            short = digest(self._fd, self._size)
        finally:
            with self._done:  # whatever happens, nobody reads the descriptor from now on
                sys.setswitchinterval(PYTHONS_SECONDS)
        if self._long is None:
            raise OSError("the file could not be read")
        return short, self._long


class Comparison:
    """An open file that is being compared with what was signed."""

    def __init__(
        self, fd: int, signed: Program | FileDigest, reason: str = "binary-mismatch"
    ) -> None:
        """Begin. ``fd`` must stay open until ``finish`` has returned or raised."""
        self._signed = signed
        self._reason = reason
        self._digests: Digests | None = None
        try:
            if os.fstat(fd).st_size == signed.size:
                self._digests = Digests(fd, signed.size)
        except OSError as error:
            raise self._unreadable(error) from None

    def finish(self) -> None:
        """Raise RunError unless the open file has the signed size and both signed digests."""
        signed = self._signed
        try:
            found = None if self._digests is None else self._digests.finish()
        except OSError as error:
            raise self._unreadable(error) from None
        if found != (signed.sha256, signed.sha512):
            raise mismatch(signed, self._reason)

    def _unreadable(self, error: OSError) -> RunError:
        return unreadable(self._signed, error)


def mismatch(signed: Program | FileDigest, reason: str) -> RunError:
    """Make the refusal of a file whose size or digests are not the signed ones."""
    return RunError(
        reason,
        f'"{signed.path}" is not the file that was signed',
        'it changed after signing; if that is right, sign it anew with "certexec sign"',
    )


def unreadable(signed: Program | FileDigest, error: OSError) -> RunError:
    """Make the refusal of a file that could be opened, but not read."""
    return RunError("binary-unusable", f'"{signed.path}": {error.strerror}')
