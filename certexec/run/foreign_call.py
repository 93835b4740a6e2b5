"""A call of the 32-bit ABI, in the terms of the x86-64 call that does the same.

Everybody behind the listener knows x86-64's calls. So a 32-bit call is told to them as the call
that does the same, with its registers where that one has them; what differs in memory is told by
``Call.foreign`` (certexec.run.foreign_layout). Registers are cut to the 32 bits that the kernel
reads: in the upper halves a 64-bit program can leave anything.

The arguments of socketcall(2) lie in an array in memory. It is copied once, judged from the copy
and carried out on the copy: such a call is never left to the kernel, which would read it anew.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from certexec.errors import RunError
from certexec.kernel.bpf import WORD
from certexec.kernel.libc import syscall
from certexec.kernel.notify import Listener, Notification
from certexec.kernel.procfs import Status, proc
from certexec.kernel.syscalls import NUMBERS
from certexec.kernel.syscalls_i386 import NAMES_I386
from certexec.policy.foreign import meaning_of
from certexec.policy.foreign_table import decide
from certexec.policy.guards import ASKS, PROTECTION, RULES
from certexec.run.call import Call, Fault
from certexec.run.kill import kill_caller
from certexec.run.transitions import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from certexec.kernel.credentials import Mask
    from certexec.policy.decisions import Table
    from certexec.policy.guards import Decision
    from certexec.run.judge import Judge
    from certexec.run.places import Places
    from certexec.run.steady import Steady

NOT_ADMITTED = "foreign-abi"
"""Why a call was killed: the caller's policy has no part for the 32-bit ABI."""
ARRAY = 1
"""The register that points to socketcall's arguments."""
_SOCK_CLOEXEC = 0o2000000
_PAIR = struct.Struct("=2i")
_PAIR_ARGUMENT = 3
"""Which argument of socketpair(2) points to its two results."""
_NO_NUMBER = -1


class ForeignCall(Call):
    """One such call.

    Attributes:
        foreign: its own name; registers: its six, of 32 bits.
        copied: its arguments were copied from memory, so the kernel must not read them again.
    """

    __slots__ = ("_mask", "_number", "copied", "foreign", "meaning", "registers")

    def __init__(
        self, listener: Listener, given: Notification, read: Callable[[int], Status],
        steady: Steady, mask: Mask,
    ) -> None:  # fmt: skip
        """``mask``: for the rights of the caller, where the call is carried out here."""
        self._mask = mask
        self.registers = tuple(register & WORD for register in given.args)
        self._number = given.nr
        self.meaning = meaning_of(given.nr, self.registers[0])
        self.foreign = NAMES_I386.get(given.nr) or f"#{given.nr}"
        self.copied = False
        name = self.foreign if self.meaning is None else self.meaning.name
        super().__init__(listener, given, name, read, steady)
        self._mean(None)

    @property
    def number(self) -> int:
        """The call's number in the table of i386."""
        return self._number

    def _mean(self, copied: Sequence[int] | None) -> None:
        given, meaning = self.notification, self.meaning
        number, registers = _NO_NUMBER, self.registers
        if meaning is not None:
            number = meaning.number
            registers = tuple(one or 0 for one in meaning.registers(self.registers, copied))
        self.notification = Notification(given.cookie, given.tid, number, given.arch, registers)

    def is_admitted(self, judge: Judge, places: Places) -> bool:
        """Put the place of the policy's part for this ABI; False: there is none, it was killed."""
        place = places.foreign_of(self.place)
        if place != NONE:
            self.place = place
            return True
        judge.log(self, "kill", NOT_ADMITTED, 0)
        kill_caller(self)
        return False

    def decide(self, table: Table) -> Decision:
        """Return what a policy says; copies the arguments where they have a say.

        Raises Fault(EFAULT).
        """
        if self.meaning is None:
            return table.decide(_NO_NUMBER, self.registers)
        decision = decide(table, self.meaning, self.registers)
        if self.meaning.is_copied and (
            decision is None or decision.why in (RULES, PROTECTION)
            # who is asked about any other call is asked whether it may be made at all
            or (decision.why in ASKS and self.name in self._makers())
        ):
            copied = self._copy()
            decision = decide(table, self.meaning, self.registers, copied)
        assert decision is not None
        return decision

    def _copy(self) -> Sequence[int]:
        assert self.meaning is not None
        words = struct.Struct(f"={self.meaning.words}I")
        try:
            copied = words.unpack(self.memory.read(self.registers[ARRAY], words.size))
        except OSError:
            raise Fault(errno.EFAULT) from None
        self.copied = True
        self._mean(copied)
        return copied

    def resume(self) -> None:
        """Let the kernel run the call, unless its arguments were copied for the verdict.

        Then nobody but us may make it. Raises RunError("unsupported") for what nobody does.
        """
        if not self.copied:
            super().resume()
        elif make := self._makers().get(self.name):
            make(*(self.int_arg(index) for index in range(3)))
        else:
            raise RunError("unsupported", f"{self.foreign}: {self.name} is carried out by nobody")

    @property
    def hidden(self) -> bool:
        """As Call."""
        return self.meaning is not None and self.meaning.is_copied and not self.copied

    def _makers(self) -> Mapping[str, Callable[[int, int, int], None]]:
        """What is carried out here with copied arguments, beside what the supervisor emulates."""
        return {"socket": self._make_socket, "socketpair": self._make_pair}

    def _make_socket(self, domain: int, kind: int, protocol: int) -> None:
        """Carry out socket(2)."""
        fd = self._as_caller(NUMBERS["socket"], domain, kind | _SOCK_CLOEXEC, protocol)
        try:
            self.finish_with_fd(fd, bool(kind & _SOCK_CLOEXEC))
        finally:
            os.close(fd)

    def _make_pair(self, domain: int, kind: int, protocol: int) -> None:
        """Carry out socketpair(2); as in the kernel, where the numbers go is written to first."""
        made = ctypes.create_string_buffer(_PAIR.size)
        self.write(_PAIR_ARGUMENT, made)
        self._as_caller(NUMBERS["socketpair"], domain, kind | _SOCK_CLOEXEC, protocol, made)
        ours = _PAIR.unpack(made)
        try:
            theirs = [self.install_fd(fd, bool(kind & _SOCK_CLOEXEC)) for fd in ours]
        finally:
            for fd in ours:
                os.close(fd)
        self.write(_PAIR_ARGUMENT, _PAIR.pack(*theirs))
        self.finish(0)

    def _as_caller(self, number: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
        """Make a socket with the caller's rights. Raises Fault.

        It belongs to our network namespace, so the caller has to be in that one.
        """
        spaces = (proc(each, "ns/net") for each in ("self", self.task.tid))
        if not os.path.samestat(*map(os.stat, spaces)):
            raise Fault(errno.EPERM)
        self.still_waits()
        self.task.mask = self._mask
        try:
            self._mask.assume(self.rights)
            return syscall(number, *arguments)
        except OSError as error:
            raise Fault(error.errno or errno.EPERM) from None
        finally:
            self._mask.restore()
