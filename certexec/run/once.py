"""Answers that are worked out once, by whichever of several processes comes first.

A fixed table in memory that is shared by fork(2), and a lock for each of its groups. Who finds no
answer works it out under the lock, so that the others wait for it instead of doing the same. A
process that dies lets its locks go with it, and its answer is worked out again. A full group
forgets one of its answers: memory stays bounded, and what is forgotten is only work.
"""

from __future__ import annotations

import fcntl
import mmap
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEY_SIZE = 32
"""bytes; a SHA-256."""
VALUE_SIZE = 96
"""bytes; a SHA-256 and a SHA-512, the longest answer."""
WAYS = 8
"""Answers in a group: where one more comes, one is forgotten."""
GROUPS = 8192
"""Groups: 65,536 answers, 8 MiB of which only the pages that are used exist."""
SLOT = KEY_SIZE + VALUE_SIZE
EMPTY = bytes(KEY_SIZE)


class Once:
    """The table; made before the processes that use it are forked."""

    def __init__(self) -> None:
        self._table = mmap.mmap(-1, GROUPS * WAYS * SLOT)
        self._locks = os.memfd_create("certexec-once")

    def answer(self, key: bytes, work: Callable[[], bytes]) -> bytes:
        """Return what ``work`` returned for ``key`` in whichever process, else call it.

        ``key`` are 32 bytes that are not all zero, the answer has 96. What ``work`` raises is
        raised, and nothing is remembered.
        """
        group = int.from_bytes(key[:4], "little") % GROUPS
        # record locks belong to a process: the kernel lets them go when it ends, however it ends
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, group)
        try:
            place = group * WAYS * SLOT
            free = None
            for at in range(place, place + WAYS * SLOT, SLOT):
                found = self._table[at : at + KEY_SIZE]
                if found == key:
                    return self._table[at + KEY_SIZE : at + SLOT]
                if free is None and found == EMPTY:
                    free = at
            made = work()
            at = place + key[4] % WAYS * SLOT if free is None else free
            # without a key while the answer is written: who dies here leaves no half of one
            self._table[at : at + KEY_SIZE] = EMPTY
            self._table[at + KEY_SIZE : at + SLOT] = made
            self._table[at : at + KEY_SIZE] = key
            return made
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, group)

    def close(self) -> None:
        """Give the memory back."""
        self._table.close()
        os.close(self._locks)
