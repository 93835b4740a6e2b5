"""Who asks: the ids, groups, terminal and arguments of the process that typed the name.

Everything is the kernel's word about the launcher's process, which waits for our answer: its ids
are those that the kernel gave it when the certificate was executed, whatever a message claims.
"""

from __future__ import annotations

import os

from certexec.errors import RunError
from certexec.kernel.procfs import proc, read_argv, read_file, read_status, read_tty

KERNEL_ARGUMENTS = 2
"""What binfmt_misc (flag P) puts before argv[0]: the interpreter and the certificate's path."""
ENVIRONMENT_MAX = 4 << 20
"""bytes; more than exec's own limit for one process (execve(2): 6 MiB less the arguments)."""


class Invoker:
    """The process that executes the certificate.

    Attributes:
        pid: its process, which becomes the program.
        uid, gid: real ids, the invoker's own; they never change.
        euid, egid: effective ids as the kernel set them from the certificate's file.
        groups: supplementary groups.
        tracer: process that traces it, 0 for none.
        cwd: working directory as text, for messages and $CWD.
        capabilities: permitted ones, a bit mask; an ordinary invoker's come from its ambient set.
    """

    __slots__ = (
        "_tty", "capabilities", "cwd", "egid", "euid", "gid", "groups", "pid", "tracer", "uid",
        "umask",
    )  # fmt: skip

    def __init__(self, pid: int, inside: bool = False) -> None:
        """Read the facts; raises RunError("internal") when the process is gone.

        ``inside``: it is confined already, and keeps the ids that it has, whatever they are.
        """
        try:
            status = read_status(pid)
        except (OSError, KeyError, ValueError) as error:
            raise _unreadable(error) from None
        self.pid = pid
        self._tty: int | None = None
        self.uid, self.euid, saved_uid, fs_uid = status.uids
        self.gid, self.egid, saved_gid, fs_gid = status.gids
        self.groups = status.groups
        self.tracer = status.tracer
        self.umask = status.umask
        self.capabilities = status.caps["prm"]
        try:
            self.cwd = os.readlink(proc(pid, "cwd"))
        except OSError:
            self.cwd = ""
        if inside:
            return
        if (saved_uid, fs_uid) != (self.euid, self.euid) or self.euid not in (self.uid, 0):
            raise RunError("setuid-denied", "the launcher runs with ids that certexec never gives")
        if (self.egid, saved_gid, fs_gid) != (self.gid, self.gid, self.gid):
            raise RunError("setuid-denied", "the launcher runs with a foreign group id")

    @classmethod
    def assumed(cls, uid: int, gid: int, capable: bool) -> Invoker:
        """Return an invoker without a process: somebody with these ids and nothing else."""
        one = cls.__new__(cls)
        one.pid = one._tty = one.tracer = 0
        one.uid = one.euid = uid
        one.gid = one.egid = gid
        one.groups = []
        one.cwd = ""
        one.umask = 0o22
        one.capabilities = int(capable)
        return one

    @property
    def tty(self) -> int:
        """Device number of its terminal, 0 for none. Raises RunError("internal")."""
        if self._tty is None:
            try:
                self._tty = read_tty(self.pid)
            except (OSError, ValueError) as error:
                raise _unreadable(error) from None
        return self._tty

    @property
    def is_elevated(self) -> bool:
        """Whether the kernel honoured the set-user-ID bit (or the invoker is root)."""
        return self.euid == 0

    def argv(self, before: int = KERNEL_ARGUMENTS) -> list[bytes]:
        """Return the program's arguments, argv[0] included, as they lie on the stack."""
        return read_argv(self.pid)[before:]

    def environment(self) -> dict[bytes, bytes]:
        """Return the environment; the first of equal names counts, as getenv(3) has it."""
        try:
            text = read_file(proc(self.pid, "environ"), ENVIRONMENT_MAX)
        except OSError as error:
            raise RunError("internal", f"the environment cannot be read: {error}") from None
        result: dict[bytes, bytes] = {}
        for entry in text.split(b"\0"):
            name, equals, value = entry.partition(b"=")
            if equals and name:
                result.setdefault(name, value)
        return result


def _unreadable(error: Exception) -> RunError:
    return RunError("internal", f"the launcher's process cannot be read: {error}")
