"""What a supervised call asks for, once its arguments are copied and its objects pinned.

An operation is made in three moves, all in one thread that has the caller's rights:
prepare (copy, resolve, pin), judge (outside, on ``variant`` and ``values``), perform (on what was
pinned). Nothing between them looks at the caller's memory or at a name again.

What is pinned is the object that the call is about, or the directory in which it makes or removes
a name. Of a pinned directory only the last component is looked up again, by the kernel, which does
not follow it: that is the name that was judged, whatever it is the name of by then.
"""

from __future__ import annotations

import errno
import os

from certexec.kernel.procfs import own_fd
from certexec.policy.calls import choose_variant
from certexec.run.call import Call, Fault
from certexec.run.resolve import Resolved, Resolver
from certexec.run.task import open_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.kernel.procfs import Status
    from certexec.policy.evaluate import Verdict
    from certexec.run.judge import Judge

AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000


class MustWait(Exception):  # noqa: N818 - not an error: a thread of its own goes on
    """The call cannot be ended without waiting."""


class Operation:
    """One prepared call.

    Attributes:
        call: whose, and the way to answer.
        variant: which of the things that the call can do it does (certexec.policy.calls).
        values: argument name to its texts, as policies see them.
        verdict: of the rules on ``values``, once they were asked; outermost: of the outermost
            policy's, where several count.
        also: what else the call does, each like ``values``: all of it must be permitted.
        judge: whom to ask about what comes of the call; None where nobody judges it.
        rights: with which it is made: the caller's, or those that a rule gives it.
        elevated: as whom, in words, where they are not the caller's.
        patient: it may wait now: it is carried out by a thread of its own.
        asked: of ``also`` and ``values``, what an agent has to permit, and whether that is because
            no rule matches.
        by_registers: nothing but registers is judged, and the kernel carries the call out.
    """

    verdict: Verdict | None = None
    outermost: Verdict | None = None
    also: Sequence[Mapping[str, list[str]]] = ()
    judge: Judge | None = None
    elevated = ""
    patient = False
    by_registers = False

    def __init__(self, call: Call) -> None:
        self.call = call
        self.variant = choose_variant(call.name, call.notification.args).label
        self.values: Mapping[str, list[str]] = {}
        self.rights: Status = call.rights
        self.asked: list[tuple[Mapping[str, list[str]], bool]] = []

    def may_block(self) -> bool:
        """Whether performing may wait for somebody else; such calls get a thread of their own."""
        return False

    def perform(self) -> None:
        """Carry the call out on the pinned objects and answer it.

        May raise OSError, Fault and, unless ``patient``, MustWait: to go on where it stopped.
        """
        raise AssertionError(self.call.name)

    def close(self) -> None:
        """Give back what was pinned."""


class OnObject(Operation):
    """Base of the calls that are about one existing object.

    ``flags``: AT_* bits, of which AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH count; ``null``: the call
    takes a null pointer for an empty name.
    """

    def __init__(
        self, call: Call, resolver: Resolver, dirfd: int, path_index: int, flags: int,
        null: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(call)
        empty = flags & AT_EMPTY_PATH and null and call.arg(path_index) == 0
        self.path = b"" if empty else call.path(path_index)
        if not self.path and flags & AT_EMPTY_PATH:
            self.found = self._descriptor(resolver, dirfd)
        else:
            follow = not flags & AT_SYMLINK_NOFOLLOW
            self.found = resolver.object(call.task, dirfd, self.path, follow)
        self.values = {"filename": [self.found.text]}

    def _descriptor(self, resolver: Resolver, dirfd: int) -> Resolved:
        """Pin what an open descriptor stands for: a name has nothing to do with the call.

        Where rules know such a call by another name (fstat) it has no file name, else it is judged
        by the real path of its object.
        """
        call = self.call
        self.variant = choose_variant(call.name, call.notification.args, empty_path=True).label
        if self.variant == "fd":
            try:
                return Resolved("", open_base(call.task, dirfd), -1, b"", 0)
            except OSError as error:
                raise Fault(error.errno or errno.EBADF) from None
        found = resolver.descriptor(call.task, dirfd)
        if found.error == errno.EBADF:
            raise Fault(errno.EBADF)
        return found

    def object(self) -> int:
        """Return the pinned object; raises OSError with what the caller would get."""
        if self.found.fd < 0:
            raise OSError(self.found.error or errno.ENOENT, "missing")
        return self.found.fd

    def link(self) -> bytes:
        """Return a name that leads to the very object, for calls that take no O_PATH descriptor.

        It is a magic link of this thread group's own: nothing stands between it and the inode.
        Raises OSError with what the caller would get.
        """
        return own_fd(self.object()).encode()

    def close(self) -> None:
        """Give back what was pinned."""
        self.found.close()


class InDirectory(Operation):
    """Base of the calls that make or remove a name in a pinned directory."""

    def __init__(self, call: Call, resolver: Resolver, dirfd: int, path_index: int) -> None:
        super().__init__(call)
        self.found = resolver.parent(call.task, dirfd, call.path(path_index))
        self.values = {"filename": [self.found.text]}

    def parent(self) -> int:
        """Return the pinned directory; raises OSError with what the caller would get."""
        return parent_of(self.found)

    def close(self) -> None:
        """Give back what was pinned."""
        self.found.close()


def parent_of(found: Resolved) -> int:
    """Return the pinned directory of a name; raises OSError with what the caller would get."""
    if found.parent < 0:
        raise OSError(found.error or errno.ENOENT, os.strerror(found.error or errno.ENOENT))
    return found.parent
