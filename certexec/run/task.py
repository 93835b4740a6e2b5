"""The thread whose call is being carried out, and where its relative names begin."""

from __future__ import annotations

import errno
import os

from certexec.kernel.procfs import proc
from certexec.run.step import OPEN_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from certexec.kernel.credentials import Mask

    Result = TypeVar("Result")

AT_FDCWD = -100


class Task:
    """The thread whose call is being carried out, as the resolver sees it.

    Attributes:
        tid: its number.
        mask: whose rights the thread that carries the call out has taken; None: only its own.
    """

    __slots__ = ("_tgid", "mask", "tid")

    def __init__(self, tid: int, tgid: int | Callable[[], int]) -> None:
        """``tgid``: its process's number, or who finds it out, since few calls ask for it."""
        self.tid = tid
        self._tgid = tgid
        self.mask: Mask | None = None

    @property
    def tgid(self) -> int:
        """Its process's number. Raises what the finding out does."""
        if not isinstance(self._tgid, int):
            self._tgid = self._tgid()
        return self._tgid

    def look_at_itself(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Look at something that tells the task about itself, with the task's own rights."""
        if self.mask is None or not self.mask.changed:
            return function(*arguments)
        return self.mask.with_ptrace(function, *arguments)

    def touch(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Do something to the task itself, with the supervisor's own rights."""
        if self.mask is None or not self.mask.changed:
            return function(*arguments)
        return self.mask.lifted(function, *arguments)


def base_path(task: Task, dirfd: int) -> str:
    """Return the name in /proc that leads to where a relative name of ``task`` begins."""
    if dirfd == AT_FDCWD:
        return proc(task.tid, "cwd")
    return proc(task.tid, "fd", dirfd)


def open_base(task: Task, dirfd: int) -> int:
    """Open the directory that a relative name of ``task`` starts from; raises OSError (EBADF)."""
    try:
        return task.touch(os.open, base_path(task, dirfd), OPEN_PATH)
    except FileNotFoundError:
        raise OSError(errno.EBADF if dirfd != AT_FDCWD else errno.ENOENT, "no base") from None
