"""Programs whose content this process has compared with what was signed, known again unhashed.

To hash a program takes two milliseconds a megabyte, twice for each start: when it is judged, and at
its exec stop. What was hashed at an exec stop had no writer then, by the kernel's word, and where
root alone can write a file, and every write moves its change time, the same inode with the same
times has the same bytes (design "cached"). For one process that serves one kind of caller.
"""

from __future__ import annotations

import time

from certexec.errors import CertexecError
from certexec.kernel import filesystem
from certexec.run.ground import why_not_standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.certificate.model import FileDigest, Program

    State = tuple[object, ...]

CHOICES = ("auto", "cached")
"""What a certificate says of integrity where a verdict may be kept."""
PROVEN_MAX = 64
"""programs."""
SETTLED = 2_500_000_000
"""nanoseconds without a change before a file's times tell every later one; the coarsest count in
two seconds."""


def state(fd: int) -> State | None:
    """Return what an open file cannot change without; None where that is not all told.

    Raises OSError and KernelError.
    """
    found = filesystem.identify(fd)
    if not found.complete or found.birth is None:
        return None
    return filesystem.number_of_file_system(fd), *found.key()


class Proven:
    """States of files, by what they were proved to hold."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[tuple[str, bytes, bytes], State] = {}

    def recognise(self, fd: int, signed: Program | FileDigest) -> State | None:
        """Return the state of an open file that is known to hold what was signed; else None."""
        known = self._states.get((signed.path, signed.sha256, signed.sha512))
        return known if known is not None and known == state(fd) else None

    def learn(self, fd: int, signed: Program | FileDigest, before: State | None) -> None:
        """Note what has just been hashed at an exec stop, where it can be known again.

        ``before``: its state at that stop, before it was hashed.

        1. all of the state is told, and has not changed so lately that a change would not show;
        2. it is root's, and nobody else's, with all directories above it;
        3. it still is as it was then.
        """
        # 1.
        if before is None or filesystem.identify(fd).changed > time.time_ns() - SETTLED:
            return
        try:
            # 2.
            if why_not_standing(fd, signed.path):
                return
            # 3.
            if state(fd) != before:
                return
        except (OSError, CertexecError):
            return
        if len(self._states) >= PROVEN_MAX:
            del self._states[next(iter(self._states))]
        self._states[signed.path, signed.sha256, signed.sha512] = before
