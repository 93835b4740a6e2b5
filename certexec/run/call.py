"""One system call that is being judged: its registers, its memory, and the one answer to it."""

from __future__ import annotations

import errno

from certexec.kernel.memory import Memory, read_text
from certexec.kernel.notify import Listener, Notification
from certexec.kernel.procfs import Status, is_main_thread, read_status
from certexec.run.resolve import PATH_MAX
from certexec.run.steady import Steady
from certexec.run.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import Array, c_char
    from typing import TypeVar

    from certexec.policy.decisions import Table
    from certexec.policy.guards import Decision
    from certexec.run.judge import Judge
    from certexec.run.places import Places

    Result = TypeVar("Result")


class GoneError(Exception):
    """The caller died or left the call while it was being carried out: nobody waits any more."""


class Fault(Exception):  # noqa: N818 - not an error of ours: the answer that the program gets
    """The call ends with this errno before there is anything to judge (EFAULT, ENAMETOOLONG).

    Attributes:
        code: a positive errno.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def signed(register: int) -> int:
    """Read the low half of a register as C's int."""
    value = register & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


class Call:
    """A notified call. Facts about the caller are read once, when asked for, while it still waits.

    Attributes:
        notification: the registers; name: the system call's name.
        place: that of its policy among those of the tree.
        look: what looks at each name that the caller gives, before it is used; None: nobody.
        answer: (value, errno, left to the kernel) once ``answered``; text: for the trace.
        foreign: the name of a call of the 32-bit ABI (certexec.run.foreign_call), "" for others;
            copied: its arguments were in memory, and are known from a copy.
    """

    foreign = ""
    copied = False

    __slots__ = (
        "_memory", "_puts_off", "_read_status", "_rights", "_status", "_steady", "_task",
        "answer", "answered", "listener", "look", "name", "notification", "place", "text",
    )  # fmt: skip

    def __init__(
        self, listener: Listener, notification: Notification, name: str,
        read: Callable[[int], Status] = read_status, steady: Steady | None = None,
    ) -> None:  # fmt: skip
        self.listener = listener
        self.notification = notification
        self.name = name
        self.answered = False
        self.answer = (0, 0, False)
        self.text = ""
        self.place = 0
        self.look: Callable[[Call, bytes], None] | None = None
        self._read_status = read
        self._steady = steady
        self._rights: Status | None = None
        self._puts_off = False
        self._memory: Memory | None = None
        self._status: Status | None = None
        self._task: Task | None = None

    @property
    def hidden(self) -> bool:
        """Whether the arguments lie in an array that nobody has looked at (socketcall)."""
        return False

    @property
    def number(self) -> int:
        """The system call's number in the table that the caller used."""
        return self.notification.nr

    @property
    def status(self) -> Status:
        """The caller's ids and masks. Raises GoneError when it is no longer there."""
        if self._status is None:
            try:
                self._status = self._read_status(self.notification.tid)
            except (OSError, KeyError, ValueError):
                raise GoneError from None
            self.still_waits()  # so they are the caller's, not those of a later process
        return self._status

    @property
    def task(self) -> Task:
        """Whose call it is."""
        if self._task is None:
            self._task = Task(self.notification.tid, self._find_process)
        return self._task

    def _find_process(self) -> int:
        return self.status.tgid

    @property
    def process(self) -> int:
        """Its process's number, as ``task.tgid``, for who asks nothing else: nothing is kept.

        Raises GoneError when the caller is no longer there.
        """
        tid = self.notification.tid
        if self._status is None and is_main_thread(tid):
            self.still_waits()  # so it was the caller's number when we asked
            return tid
        return self.status.tgid

    @property
    def rights(self) -> Status:
        """The caller's ids, groups and capabilities, with nothing else that is sure to be of now.

        Raises GoneError when it is no longer there.
        """
        if self._rights is not None:
            return self._rights
        if self._steady is None:
            return self.status
        return self._steady.rights or self._steady.learn(self.status)

    def execs(self) -> None:
        """Take the rights of now for those of this call: what it executes may get others."""
        self._rights = self.rights
        if self._steady is not None:
            self._steady.hold(self.notification.cookie)

    def decide(self, table: Table) -> Decision:
        """Return what a table says about the call."""
        return table.decide(self.notification.nr, self.notification.args)

    def is_admitted(self, judge: Judge, places: Places) -> bool:
        """Tell whether the caller may make calls of this ABI at all; False: it was killed."""
        return True

    def still_waits(self) -> None:
        """Raise GoneError unless the caller still waits for this very answer."""
        if not self.listener.is_valid(self.notification.cookie):
            raise GoneError

    def put_off_check(self) -> None:
        """Ask only at ``check`` whether what is read from here on was the caller's.

        For those who do nothing but look until then.
        """
        self._puts_off = True

    def check(self) -> None:
        """Raise GoneError unless all that was read was the caller's, for it still waits."""
        self._puts_off = False
        self.still_waits()

    def arg(self, index: int) -> int:
        """Return a register as unsigned 64 bits."""
        return self.notification.args[index]

    def int_arg(self, index: int) -> int:
        """Return a register as C's int."""
        return signed(self.notification.args[index])

    @property
    def memory(self) -> Memory:
        """The caller's address space. Reading raises Fault(EPERM) where that is forbidden."""
        if self._memory is None:
            self._memory = Memory(self.notification.tid, self._peek)
        return self._memory

    def _peek(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Look into the caller's memory, with the right to do so.

        Only then ask whether it still waits: so what was read is not a later process's.
        """
        try:
            return self.task.look_at_itself(function, *arguments)
        except PermissionError:
            raise Fault(errno.EPERM) from None
        finally:
            if not self._puts_off:
                self.still_waits()

    def path(self, index: int) -> bytes:
        """Copy the name of a file that a register points to.

        Raises Fault(EFAULT, ENAMETOOLONG, or what ``look`` says).
        """
        return self.given(self.string(index))

    def given(self, path: bytes) -> bytes:
        """Return the name of a file that the caller gave. Raises Fault(what ``look`` says)."""
        if self.look is not None:
            self.still_waits()  # before anything is said of it
            self.look(self, path)
        return path

    def string(self, index: int) -> bytes:
        """Copy a text of at most a path's length. Raises Fault(EFAULT or ENAMETOOLONG)."""
        try:
            address = self.notification.args[index]
            path = self._peek(read_text, self.notification.tid, address, PATH_MAX)
        except OSError:
            raise Fault(errno.EFAULT) from None
        if path is None:
            raise Fault(errno.ENAMETOOLONG)
        return path

    def block(self, index: int, size: int) -> bytes:
        """Copy ``size`` bytes that a register points to. Raises Fault(EFAULT)."""
        try:
            return self.memory.read(self.arg(index), size)
        except OSError:
            raise Fault(errno.EFAULT) from None

    def write(self, index: int, data: bytes | bytearray | Array[c_char]) -> None:
        """Write a result to where a register points. Raises Fault(EFAULT)."""
        self.still_waits()
        try:
            self.task.touch(self.memory.write, self.arg(index), data)
        except OSError:
            raise Fault(errno.EFAULT) from None

    def finish(self, value: int) -> None:
        """End the call with a result."""
        self.answered = True
        self.answer = (value, 0, False)
        self.listener.answer(self.notification.cookie, value=value)

    def fail(self, code: int) -> None:
        """End the call with a positive errno."""
        self.answered = True
        self.answer = (-1, code, False)
        self.listener.answer(self.notification.cookie, error=code)

    def finish_with_fd(self, fd: int, close_on_exec: bool) -> None:
        """End the call with a new descriptor in the caller, or with the errno it would get."""
        value, code = self.listener.answer_with_fd(self.notification.cookie, fd, close_on_exec)
        self.answered = True
        self.answer = (value, code, False)
        if code and code != errno.ENOENT:
            self.listener.answer(self.notification.cookie, error=code)

    def install_fd(self, fd: int, close_on_exec: bool) -> int:
        """Install a copy of a descriptor in the caller. Raises Fault(EMFILE), GoneError."""
        try:
            return self.listener.install_fd(self.notification.cookie, fd, close_on_exec)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise GoneError from None
            raise Fault(error.errno or errno.EIO) from None

    def resume(self) -> None:
        """Let the kernel run the call: only for verdicts that depend on registers alone."""
        self.answered = True
        self.answer = (0, 0, True)
        self.listener.resume(self.notification.cookie)
