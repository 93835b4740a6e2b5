"""What the calls of the 32-bit ABI (i386) mean: the x86-64 call that does the same (pure).

A 32-bit program, and ``int 0x80`` in a 64-bit one, enter the kernel with numbers of a table of
their own. Rules, guards and emulation know the calls of x86-64. So every call of i386 stands here
with the one that does the same, and with where each of that call's registers comes from: one of the
32-bit registers, two of them, a fixed value, or memory.

Only the low halves of the registers count: a 64-bit program that uses ``int 0x80`` can leave
anything in the upper ones, which the kernel ignores and a filter is shown (measured on 6.18). A
name without an x86-64 call (``vm86``, ``ulimit``) means nothing that Linux still has.

Sources: arch/x86/entry/syscalls/syscall_32.tbl, arch/x86/kernel/sys_ia32.c, net/compat.c
(socketcall), ipc/syscall.c (ipc), kernel/uid16.c.
"""

from __future__ import annotations

from certexec.kernel.bpf import HIGH, LOW, WORD
from certexec.kernel.syscalls import NUMBERS
from certexec.kernel.syscalls_i386 import NUMBERS_I386
from certexec.policy.guards import Test

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REGISTERS = 6
_SIGN = 1 << 31
_ID = 0xFFFF
"""The old 16-bit ids, of which the highest means "leave it" and is widened to the 32-bit one."""
_PRIO_PROCESS = 0


class Source:
    """Where a register of the x86-64 call comes from; this one: from memory, not from a register.

    ``word``: its place in the array that socketcall(2) is given.
    """

    __slots__ = ("word",)

    def __init__(self, word: int = 0) -> None:
        self.word = word

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int | None:
        """Return the 64-bit value, None for what lies in memory and has not been copied."""
        if copied is None:
            return None
        return copied[self.word] if self.word < len(copied) else 0

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return a test of the register as tests of 32-bit ones, or its outcome.

        None: registers do not tell.
        """
        return None


class Plain(Source):
    """A 32-bit register with zeroes above it."""

    __slots__ = ()

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int:
        """Return the register."""
        return registers[self.word]

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return the same test, for the high word its outcome."""
        if test.word == HIGH:
            return test.value == 0
        return (Test(self.word, test.value, test.mask),)


class Signed(Plain):
    """A 32-bit register whose sign is extended."""

    __slots__ = ()

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int:
        """Return the register with its sign in the upper half."""
        value = registers[self.word]
        return value | WORD << 32 if value & _SIGN else value

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return the same test, for the high word one of the sign."""
        if test.word == LOW:
            return super().tests(test)
        positive, negative = test.value == 0, test.value == test.mask
        if positive and negative:
            return True
        if not (positive or negative):
            return False
        return (Test(self.word, _SIGN if negative else 0, _SIGN),)


class OldId(Plain):
    """A 16-bit id: the lower half of a 32-bit register."""

    __slots__ = ()

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int:
        """Return the id as the calls with wider ones take it."""
        value = registers[self.word] & _ID
        return WORD if value == _ID else value

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return a test of the 16 bits for one of a certain id; others the supervisor makes."""
        if test.word == HIGH:
            return test.value == 0
        if test.mask != WORD:
            return None
        if test.value != WORD and test.value >= _ID:
            return False
        return (Test(self.word, test.value & _ID, _ID),)


class Pair(Source):
    """Two 32-bit registers, the lower half first: ``word`` and the one after it."""

    __slots__ = ()

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int:
        """Return both as one."""
        return registers[self.word] | registers[self.word + 1] << 32

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return the same test, of the register that holds that half."""
        return (Test(self.word + test.word, test.value, test.mask),)


class Fixed(Source):
    """A value that the 32-bit call implies: ``word``, of 32 bits."""

    __slots__ = ()

    def value(self, registers: Sequence[int], copied: Sequence[int] | None) -> int:
        """Return it."""
        return self.word

    def tests(self, test: Test) -> Sequence[Test] | bool | None:
        """Return the outcome."""
        return self.word >> 32 * test.word & test.mask == test.value


class Meaning:
    """One thing that a call of i386 does.

    Attributes:
        call: its own name; name, number: the x86-64 call that does the same.
        sources: of that call's six registers.
        words: of its arguments that lie in an array in memory; 0: they are in registers.
    """

    __slots__ = ("call", "name", "number", "sources", "words")

    def __init__(
        self, call: str, name: str, sources: Sequence[Source] = (), words: int = 0
    ) -> None:
        self.call, self.name, self.number = call, name, NUMBERS[name]
        self.sources = (*sources, *_PLAIN[len(sources) :])
        self.words = words

    @property
    def is_copied(self) -> bool:
        """Whether the supervisor copies an array of arguments in order to know them."""
        return self.call == SOCKETCALL

    def registers(
        self, registers: Sequence[int], copied: Sequence[int] | None = None
    ) -> tuple[int | None, ...]:
        """Return the x86-64 registers; None for what lies in memory.

        ``registers``: the caller's six, cut to 32 bits each; ``copied``: the array, once read.
        """
        return tuple(source.value(registers, copied) for source in self.sources)


SOCKETCALL = "socketcall"
_PLAIN = tuple(map(Plain, range(REGISTERS)))
_u = _PLAIN.__getitem__
_UNKNOWN = tuple(map(Source, range(REGISTERS)))
_NOUGHT = Fixed(0)

_SOCKETCALLS = (
    ("socket", 3), ("bind", 3), ("connect", 3), ("listen", 2), ("accept", 3), ("getsockname", 3),
    ("getpeername", 3), ("socketpair", 4), ("sendto", 4), ("recvfrom", 4), ("sendto", 6),
    ("recvfrom", 6), ("shutdown", 2), ("setsockopt", 5), ("getsockopt", 5), ("sendmsg", 3),
    ("recvmsg", 3), ("accept4", 4), ("recvmmsg", 5), ("sendmmsg", 4),
)  # fmt: skip
"""The calls behind socketcall's first argument, from 1, and how many words they take. send and recv
are sendto and recvfrom without an address (linux/net.h)."""
_IPC = {
    1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv",
    13: "msgget", 14: "msgctl", 21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
}  # fmt: skip
"""The calls behind the lower half of ipc's first argument (linux/ipc.h)."""
MULTIPLEXED: dict[str, tuple[int, Mapping[int, Meaning]]] = {
    SOCKETCALL: (
        WORD,
        {
            which: Meaning(
                SOCKETCALL, name, [*_UNKNOWN[:words], *[_NOUGHT] * (REGISTERS - words)], words
            )
            for which, (name, words) in enumerate(_SOCKETCALLS, 1)
        },
    ),
    "ipc": (0xFFFF, {which: Meaning("ipc", name, _UNKNOWN) for which, name in _IPC.items()}),
}
"""Calls whose first register says what they do: which of its bits, and what."""

_SAME = {
    "waitpid": "wait4", "stime": "settimeofday", "readdir": "getdents", "signal": "rt_sigaction",
    "sigaction": "rt_sigaction", "sigsuspend": "rt_sigsuspend", "sigpending": "rt_sigpending",
    "sigprocmask": "rt_sigprocmask", "sgetmask": "rt_sigprocmask", "ssetmask": "rt_sigprocmask",
    "sigreturn": "rt_sigreturn", "oldstat": "stat", "oldfstat": "fstat", "oldlstat": "lstat",
    "olduname": "uname", "oldolduname": "uname", "_llseek": "lseek", "_newselect": "select",
    "ugetrlimit": "getrlimit", "mmap2": "mmap", "stat64": "stat", "lstat64": "lstat",
    "fstat64": "fstat", "ftruncate64": "ftruncate", "fcntl64": "fcntl", "sendfile64": "sendfile",
    "fstatfs64": "fstatfs", "fadvise64_64": "fadvise64", "fstatat64": "newfstatat",
}  # fmt: skip
_old, _ALL_OLD = OldId, tuple(map(OldId, range(REGISTERS)))
_SPECIAL: dict[str, tuple[str, Sequence[Source]]] = {
    # flags, stack, parent's number, thread's area, child's number: not the order of x86-64
    "clone": ("clone", (_u(0), _u(1), _u(2), _u(4), _u(3))),
    "umount": ("umount2", (_u(0), _NOUGHT)),
    "nice": ("setpriority", (Fixed(_PRIO_PROCESS), _NOUGHT, _u(0))),
    "truncate": ("truncate", (_u(0), Signed(1))),
    "truncate64": ("truncate", (_u(0), Pair(1))),
    "statfs64": ("statfs", (_u(0), _u(2), _u(1))),
    "fanotify_mark": ("fanotify_mark", (_u(0), _u(1), Pair(2), _u(4), _u(5))),
    "chown": ("chown", (_u(0), _old(1), _old(2))),
    "lchown": ("lchown", (_u(0), _old(1), _old(2))),
    "fchown": ("fchown", (_u(0), _old(1), _old(2))),
    "mmap": ("mmap", _UNKNOWN),
    "select": ("select", _UNKNOWN),
    **{
        name: (name, _ALL_OLD)
        for name in (
            "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
            "setfsgid",
        )
    },
}
"""What differs in more than its name and its structures."""
_SUFFIXES = ("_time64", "64", "32")
"""What i386 puts behind the names of calls with wider times, sizes and ids."""


def _meaning(call: str) -> Meaning | None:
    if call in _SPECIAL:
        name, sources = _SPECIAL[call]
        return Meaning(call, name, sources)
    name = _SAME.get(call, call)
    if name in NUMBERS:
        return Meaning(call, name)
    for suffix in _SUFFIXES:
        if name.removesuffix(suffix) in NUMBERS:
            return Meaning(call, name.removesuffix(suffix))
    return None


MEANINGS: dict[int, Meaning] = {
    number: meaning for call, number in NUMBERS_I386.items()
    if call not in MULTIPLEXED and (meaning := _meaning(call)) is not None
}
"""Number to meaning, but for MULTIPLEXED."""
_MULTIPLEXERS = {NUMBERS_I386[name]: of for name, of in MULTIPLEXED.items()}


def meaning_of(number: int, first: int) -> Meaning | None:
    """Return what a call of i386 does, None for one that does nothing that rules know.

    ``first``: its first register, cut to 32 bits.
    """
    several = _MULTIPLEXERS.get(number)
    if several is None:
        return MEANINGS.get(number)
    mask, of = several
    return of.get(first & mask)


def native_name(call: str) -> str | None:
    """Return the x86-64 call that a call of i386 means, None where there is none."""
    meaning = MEANINGS.get(NUMBERS_I386.get(call, -1))
    return None if meaning is None else meaning.name
