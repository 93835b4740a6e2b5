"""What a run that verifies many certificates need not find out twice.

The content of a file, a policy that can be enforced, a user's number: each is asked for once, and
counts for as long as the run lasts, which judges the machine as it was at that moment. A file is
the same one as long as device, inode, size and both its times are.
"""

from __future__ import annotations

import os
import struct

from certexec.kernel.digest import sha256, stay_with_openssl
from certexec.kernel.userdb import SystemUsers
from certexec.run.content import Digests, both_digests
from certexec.run.once import VALUE_SIZE, Once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

SHORT = 32
"""bytes of a SHA-256; those of the SHA-512 follow."""
ENTRIES_MAX = 1 << 16
"""entries that one process keeps of each kind; a run over more files forgets them all at once."""
LARGE = 16 << 20
"""bytes from which a file is hashed by two threads though every processor has a process: others
will wait for it, or have nothing left to do."""
IDENTITY = struct.Struct("<QQQqq")
"""Device, inode, size, modification and change time in nanoseconds."""
FILES, POLICIES = b"files", b"policies"
Note = tuple[bool, str]
"""Whether it is a warning, and its text."""


class Memory:
    """Answers of this run; with a table that processes share, those of all of them."""

    def __init__(self, shared: Once | None = None) -> None:
        """``shared``: for many, so that loading OpenSSL at the start pays."""
        if shared is not None:
            stay_with_openssl()
        self._shared = shared
        self._digests: dict[bytes, bytes] = {}
        self._good: dict[Hashable, bool] = {}
        self._policies: dict[bytes, list[Note]] = {}
        self._numbers: dict[tuple[str, str], int | None] = {}
        self._users = SystemUsers()

    def number(self, kind: str, name: str) -> int | None:
        """Return the number of a user or a group here, None where there is none."""
        found = self._numbers.get((kind, name), -1)
        if found == -1:
            found = self._users.uid(name) if kind == "user" else self._users.gid(name)
            _make_room(self._numbers)
            self._numbers[kind, name] = found
        return found

    def digests(self, fd: int, info: os.stat_result) -> tuple[bytes, bytes]:
        """Return SHA-256 and SHA-512 of an open file, ``info`` being its fstat. Raises OSError."""
        identity = _identity(info)
        both = self._digests.get(identity)
        if both is None:
            # what changes meanwhile has another change time, and is asked for anew the next time
            alone = self._shared is None or info.st_size >= LARGE
            both = self._answer(FILES + identity, lambda: _hash(fd, info.st_size, alone))
            _make_room(self._digests)
            self._digests[identity] = both
        return both[:SHORT], both[SHORT:]

    def is_good(self, question: Hashable) -> bool:
        """Tell whether a file that was ``found_good`` under this question was one already."""
        return question in self._good

    def found_good(self, question: Hashable) -> None:
        """Remember that a file may be executed and has the signed content."""
        _make_room(self._good)
        self._good[question] = True

    def policy(self, question: bytes, judge: Callable[[], list[Note]]) -> list[Note]:
        """Return what ``judge`` says of a policy that can be enforced; raises what it raises.

        ``question`` is all that the verdict depends on. Only verdicts without notes are shared.
        """
        known = self._policies.get(question)
        if known is None:
            said: list[Note] = []

            def work() -> bytes:
                said.extend(judge())
                if said:
                    raise _NotesError
                return bytes(VALUE_SIZE)

            try:
                self._answer(POLICIES + question, work)
            except _NotesError:
                pass
            _make_room(self._policies)
            self._policies[question] = known = said
        return known

    def _answer(self, question: bytes, work: Callable[[], bytes]) -> bytes:
        return work() if self._shared is None else self._shared.answer(sha256(question), work)


class _NotesError(Exception):
    """A verdict that comes with notes, which the shared table has no room for."""


def _identity(info: os.stat_result) -> bytes:
    return IDENTITY.pack(
        info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
    )


def _hash(fd: int, size: int, alone: bool) -> bytes:
    """Hash a file; ``alone``: with a processor to spare for the second digest."""
    return b"".join(Digests(fd, size).finish() if alone else both_digests(fd, size))


def _make_room(kept: dict[Any, Any]) -> None:
    if len(kept) >= ENTRIES_MAX:
        kept.clear()
