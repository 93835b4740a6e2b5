"""Decisions on system calls, and the guards in front of them that read argument registers.

A guard is certexec's own: it keeps the program inside (launch gate of nested certificates, calls
whose flags would loosen the confinement) or keeps it from reaching its supervisor. Only what the
kernel takes from registers can be compared; what lies in memory can change after the compare.
"""

from __future__ import annotations

import errno
import os

from certexec.kernel.bpf import HIGH, LOW
from certexec.kernel.syscalls import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PERMIT = "permit"
DENY = "deny"
NOTIFY = "notify"
KILL = "kill"

# Why a call is handed to the supervisor.
RULES = "rules"
"""Conditional rules judge it; no match is a denial with EPERM."""
UNMATCHED = "unmatched"
"""No rule speaks of it: it is denied, the supervisor writes the log line."""
DENIED = "denied"
"""A rule denies it, the supervisor writes the log line."""
UNSUPPORTED = "denied-until-supported"
"""Conditional rules reach a call that is not carried out yet: denied, always logged."""
LOG = "log"
"""Permitted by registers alone, the supervisor writes the log line and lets the kernel go on."""
EXEC = "exec"
"""Permitted; the supervisor watches that no right grows."""
PROTECTION = "supervisor-protection"
"""Permitted unless it is aimed at the supervisor, or reaches it through /proc."""


class Decision:
    """What happens to a call.

    Attributes:
        kind: PERMIT, DENY, NOTIFY or KILL.
        errno: Linux error number of DENY, and of NOTIFY where the denial is already certain
            (UNMATCHED, DENIED, UNSUPPORTED). Otherwise 0.
        why: for NOTIFY one of the words above, otherwise "".
        log: the rule asks for a log line, whatever the verdict.
    """

    __slots__ = ("errno", "kind", "log", "why")

    def __init__(self, kind: str, errno: int = 0, why: str = "", log: bool = False) -> None:
        self.kind = kind
        self.errno = errno
        self.why = why
        self.log = log

    @property
    def permitted(self) -> bool:
        """Nothing of the policy speaks against the call; at most the supervisor looks at it."""
        return self.kind == PERMIT or self.why in (LOG, EXEC, PROTECTION)

    @property
    def denied(self) -> bool:
        """The denial is certain."""
        return self.errno != 0

    def fields(self) -> tuple[str, int, str, bool]:
        """Return (kind, errno, why, log)."""
        return self.kind, self.errno, self.why, self.log

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(self.fields())

    def __repr__(self) -> str:
        return f"Decision{self.fields()}"


PERMITTED = Decision(PERMIT)
KILLED = Decision(KILL)
JUDGED = Decision(NOTIFY, 0, RULES)


def deny(code: int, why: str = "", log: bool = False) -> Decision:
    """Return a denial: constant, or notified for the reason ``why``."""
    return Decision(NOTIFY if why else DENY, code, why, log)


EQUAL = "equal"
ANY_BIT = "any bit"
NO_BIT = "no bit"


class Test:
    """A compare of one 32-bit word of an argument register.

    Attributes:
        argument: 0 to 5; word: LOW or HIGH.
        operator: EQUAL, ANY_BIT (some bit of ``value`` is set) or NO_BIT (none is).
    """

    __slots__ = ("argument", "operator", "value", "word")

    def __init__(self, argument: int, operator: str, value: int, word: int = LOW) -> None:
        self.argument = argument
        self.operator = operator
        self.value = value
        self.word = word

    def holds(self, args: Sequence[int]) -> bool:
        """Tell whether the six registers (64-bit, unsigned) pass."""
        found = args[self.argument] >> 32 * self.word & 0xFFFFFFFF
        if self.operator == EQUAL:
            return found == self.value
        return bool(found & self.value) == (self.operator == ANY_BIT)


class Guard:
    """Where every test holds, ``decision`` takes the place of what stands behind it.

    Attributes:
        tests: at least one; all must hold.
        decision: what happens then.
        reason: why this guard exists, for ``policy explain``.
    """

    __slots__ = ("decision", "reason", "tests")

    def __init__(self, tests: Sequence[Test], decision: Decision, reason: str) -> None:
        self.tests = tests
        self.decision = decision
        self.reason = reason


# ---- in every tree ----

NESTED_LAUNCHER = 0x43584543
"""prctl(2) option with which a launcher asks whether it is inside another certificate's tree. No
kernel knows it: outside it answers EINVAL."""

CLONE_UNTRACED = 0x00800000
"""clone(2): no tracer is given the child. Only the kernel's own threads have a use for it."""


def inherent_guards() -> dict[int, list[Guard]]:
    """Return the guards of every confined tree: number to guards, in order."""
    return {
        NUMBERS["prctl"]: [
            Guard(
                [Test(0, EQUAL, NESTED_LAUNCHER)],
                deny(errno.EBUSY),
                "a certificate inside a confined tree is refused",
            )
        ],
        NUMBERS["clone"]: [
            Guard(
                [Test(0, ANY_BIT, CLONE_UNTRACED)],
                deny(errno.EPERM),
                "no child may escape its tracer",
            )
        ],
    }


# ---- in a supervised tree ----

PR_SET_DUMPABLE = 4
F_SETSIG = 10
SIGKILL = 9
SIGSTOP = 19
PTRACE_TRACEME = 0

_PID_IS_SELF = [[Test(0, EQUAL, 0)]]

PROTECTED_CALLS: dict[int, list[list[Test]]] = {
    NUMBERS[name]: tests
    for name, tests in (
        # 0 is the caller's process group. The supervisor is in a session of its own.
        ("kill", _PID_IS_SELF),
        ("tkill", []),
        ("tgkill", []),
        ("rt_sigqueueinfo", []),
        ("rt_tgsigqueueinfo", []),
        ("pidfd_open", []),
        ("pidfd_send_signal", []),
        ("pidfd_getfd", []),
        # The request is a long: both words count.
        ("ptrace", [[Test(0, EQUAL, PTRACE_TRACEME), Test(0, EQUAL, PTRACE_TRACEME, HIGH)]]),
        ("process_vm_readv", []),
        ("process_vm_writev", []),
        ("process_madvise", []),
        ("prlimit64", _PID_IS_SELF),
        ("sched_setscheduler", _PID_IS_SELF),
        ("sched_setparam", _PID_IS_SELF),
        ("sched_setattr", _PID_IS_SELF),
        ("sched_setaffinity", _PID_IS_SELF),
        # PRIO_PROCESS and PRIO_PGRP of 0 are the caller's; PRIO_USER of 0 is everything of its
        # uid, the supervisor too. The same for IOPRIO_WHO_PROCESS and IOPRIO_WHO_PGRP.
        ("setpriority", [[Test(0, EQUAL, which), Test(1, EQUAL, 0)] for which in (0, 1)]),
        ("ioprio_set", [[Test(0, EQUAL, which), Test(1, EQUAL, 0)] for which in (1, 2)]),
        ("kcmp", []),
        ("migrate_pages", _PID_IS_SELF),
        ("move_pages", _PID_IS_SELF),
    )
}
"""Calls that take some other process as their target: number to lists of tests. Where all tests of
one list hold, the call concerns only the caller. pid_t is an int, so its low word is all of it."""


def own_process_guards(number: int) -> list[Guard]:
    """Return guards that let the uses of a protected call pass that concern only the caller."""
    return [
        Guard(tests, PERMITTED, "concerns only the caller") for tests in PROTECTED_CALLS[number]
    ]


def dumpable_guard() -> Guard:
    """Return the guard of prctl(2) that keeps the program readable for a same-uid supervisor."""
    return Guard(
        [Test(0, EQUAL, PR_SET_DUMPABLE), Test(1, EQUAL, 0)],
        deny(errno.EPERM),
        "an unprivileged supervisor must be able to read the program's arguments",
    )


def signal_owner_guards() -> list[Guard]:
    """Return the guards of fcntl(2) against a signal that no supervisor can ignore.

    F_SETOWN names any process of the same uid as the one that O_ASYNC informs, F_SETSIG says by
    which signal: the two together are a kill(2). What is left, the supervisor ignores.
    """
    return [
        Guard(
            [Test(1, EQUAL, F_SETSIG), Test(2, EQUAL, signal)],
            deny(errno.EPERM),
            "asynchronous input must not end or stop the supervisor",
        )
        for signal in (SIGKILL, SIGSTOP)
    ]


# ---- opens, by their flags ----

O_PATH = 0o10000000
TMPFILE_BIT = 0o20000000
"""__O_TMPFILE without its O_DIRECTORY."""
_WRITES = os.O_ACCMODE | os.O_TRUNC | TMPFILE_BIT

OPEN_FLAGS_ARGUMENT = {NUMBERS["open"]: 1, NUMBERS["openat"]: 2}
"""Where the flags stand. openat2's lie in memory, creat has none: it writes."""


def open_for_reading(number: int) -> list[Test]:
    """Return tests that hold for opens which surely only read."""
    return [Test(OPEN_FLAGS_ARGUMENT[number], NO_BIT, _WRITES | os.O_CREAT)]


def open_for_writing(number: int) -> list[Test]:
    """Return tests that hold for opens which surely may write.

    What neither these nor ``open_for_reading`` hold for needs a look at the file system: O_CREAT
    alone writes if the file is missing. O_PATH ignores most other flags, and only reads.
    """
    argument = OPEN_FLAGS_ARGUMENT[number]
    return [Test(argument, ANY_BIT, _WRITES), Test(argument, NO_BIT, O_PATH)]


AT_EMPTY_PATH = 0x1000
STAT_FLAGS_ARGUMENT = {NUMBERS["newfstatat"]: 3, NUMBERS["statx"]: 2}


def descriptor_stat_guard(number: int) -> Guard:
    """Return the guard for fstat(2) in its modern clothes.

    C libraries make fstat(fd) a newfstatat or statx with an empty name. Whether the name is empty
    lies in memory, so the supervisor looks: rules on ``fstat`` judge it then.
    """
    return Guard(
        [Test(STAT_FLAGS_ARGUMENT[number], ANY_BIT, AT_EMPTY_PATH)],
        JUDGED,
        "an empty name means fstat, which is permitted",
    )
