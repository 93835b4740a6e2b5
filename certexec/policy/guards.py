"""What the filter can do with a call, and what certexec does with some calls in every tree.

A call has clauses, which are tried in order: the first whose tests of argument registers all hold
decides. The last clause has no tests. Only what the kernel takes from registers can be tested: what
lies in memory can change after the test. Guards are the clauses that certexec puts in front of the
policy's own: they keep the program inside, and off its supervisor.
"""

from __future__ import annotations

import errno

from certexec.kernel.bpf import HIGH, LOW, WORD
from certexec.kernel.syscalls import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PERMIT = "permit"
DENY = "deny"
NOTIFY = "notify"
KILL = "kill"

# Why a call is handed to the supervisor.
RULES = "rules"
"""Rules judge it, in the supervisor; no match is a denial with EPERM."""
UNMATCHED = "unmatched"
"""No rule speaks of it: it is denied, the supervisor writes the log line."""
DENIED = "denied"
"""A rule denies it, the supervisor writes the log line."""
UNSUPPORTED = "denied-until-supported"
"""Rules on names reach a call that nobody carries out for another: denied, always logged."""
LOG = "log"
"""Permitted by registers alone; the supervisor writes the log line and lets the kernel go on."""
EXEC = "exec"
"""Permitted; the supervisor watches that no right grows."""
PROTECTION = "supervisor-protection"
"""Permitted unless it is aimed at the supervisor."""
LANDLOCK = "landlock"
"""Why a permit is none by a rule: the Landlock domain of the program decides."""
FORK = "fork"
"""Permitted; the supervisor notes whose child the new process is."""
MOVE = "move"
"""Permitted; from then on the supervisor looks, for each call that it judges, which root directory,
mount table and user namespace the caller has."""
RIGHTS = "rights"
"""Permitted; from then on the supervisor reads the rights of each caller anew."""
NESTED = "nested"
"""A launcher asks what there is for it in this tree; everybody else is refused."""
BY_POLICY = "by-policy"
"""The policies of the tree differ about it: that of the caller decides."""
ADOPT = "adopt"
"""A request for another policy: the supervisor answers it."""
AFTER = "after"
"""Permitted, until what has happened in the tree leaves it no more."""
ASK = "ask"
"""An agent decides, by what the call is; then the kernel runs it."""
ASK_UNMATCHED = "ask-unmatched"
"""The same, of a call that no rule matches."""
ASKS = frozenset((ASK, ASK_UNMATCHED))
KILLS = "kills"
"""A rule kills who calls; the supervisor writes the log line first."""


_PERMITTED_WHYS = frozenset((LOG, EXEC, PROTECTION, FORK, MOVE, RIGHTS, AFTER, ADOPT))


class Decision:
    """What happens to a call.

    Attributes:
        kind: PERMIT, DENY, NOTIFY or KILL.
        errno: Linux error number of DENY, and of NOTIFY where the denial is already certain
            (UNMATCHED, DENIED, UNSUPPORTED). Otherwise 0.
        why: for NOTIFY one of the words above; LANDLOCK for what a domain decides; otherwise "".
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
        """No rule speaks against the call; at most the supervisor looks at it."""
        return self.kind == PERMIT or self.why in _PERMITTED_WHYS

    @property
    def denied(self) -> bool:
        """The denial is certain: an error, or the caller's end."""
        return self.errno != 0 or self.kind == KILL or self.why == KILLS

    def _fields(self) -> tuple[str, int, str, bool]:
        return self.kind, self.errno, self.why, self.log

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Decision) and self._fields() == other._fields())

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Decision{self._fields()}"


PERMITTED = Decision(PERMIT)
LANDLOCKED = Decision(PERMIT, 0, LANDLOCK)
KILLED = Decision(KILL)
NARROWED = Decision(NOTIFY, 0, AFTER)
ASKED = Decision(NOTIFY, 0, ASK)
ASKED_UNMATCHED = Decision(NOTIFY, 0, ASK_UNMATCHED)
KILLED_AND_LOGGED = Decision(NOTIFY, 0, KILLS, log=True)
JUDGED = Decision(NOTIFY, 0, RULES)


def deny(code: int, why: str = "", log: bool = False) -> Decision:
    """Return a denial: a constant one, or one that is notified for the reason ``why``."""
    return Decision(NOTIFY if why else DENY, code, why, log)


class Test:
    """A compare of one 32-bit word of an argument register: ``word & mask == value``.

    Attributes:
        argument: 0 to 5; word: LOW or HIGH.
        mask, value: 32 bits each.
    """

    __slots__ = ("argument", "mask", "value", "word")

    def __init__(self, argument: int, value: int, mask: int = WORD, word: int = LOW) -> None:
        self.argument = argument
        self.value = value
        self.mask = mask
        self.word = word

    def holds(self, args: Sequence[int]) -> bool:
        """Tell whether the six registers (64-bit, unsigned) pass."""
        return args[self.argument] >> 32 * self.word & self.mask == self.value

    def holds_for(self, value: int) -> bool:
        """Tell whether the argument's register with this value passes."""
        return value >> 32 * self.word & self.mask == self.value


def tests_of(register: int, mask: int, value: int) -> list[Test]:
    """Return the tests for ``registers[register] & mask == value`` with 64-bit mask and value."""
    return [
        Test(register, value >> 32 * word & WORD, mask >> 32 * word & WORD, word)
        for word in (LOW, HIGH)
        if mask >> 32 * word & WORD
    ]


class Clause:
    """If all ``tests`` hold, ``decision``.

    Attributes:
        reason: for ``policy explain``: why certexec put this here, or which use of the call it is;
            "" for the only clause of a call.
    """

    __slots__ = ("decision", "reason", "tests")

    def __init__(self, tests: Sequence[Test], decision: Decision, reason: str = "") -> None:
        self.tests = tests
        self.decision = decision
        self.reason = reason


def first_of(clauses: Sequence[Clause], args: Sequence[int]) -> Decision:
    """Return the decision for a call with these six registers (64-bit, unsigned)."""
    for clause in clauses:
        for test in clause.tests:
            if not test.holds(args):
                break
        else:
            return clause.decision
    raise AssertionError("the last clause has no tests")


def alike(one: Sequence[Clause], other: Sequence[Clause]) -> bool:
    """Tell whether two lists of clauses decide by the same tests alike."""
    return len(one) == len(other) and all(
        left.decision == right.decision
        and [_key(test) for test in left.tests] == [_key(test) for test in right.tests]
        for left, right in zip(one, other, strict=True)
    )


def _key(test: Test) -> tuple[int, int, int, int]:
    return test.argument, test.word, test.mask, test.value


CLONE_THREAD = 0x00010000
"""clone(2): no new process."""


def follow_forks(number: int, clauses: list[Clause]) -> list[Clause]:
    """Return the clauses of clone, fork or vfork with each permitted new process handed over."""
    followed: list[Clause] = []
    for clause in clauses:
        if not clause.decision.permitted:
            followed.append(clause)
            continue
        if number == CLONE:
            thread = Test(0, CLONE_THREAD, CLONE_THREAD)
            followed.append(Clause([thread, *clause.tests], clause.decision, "a thread"))
        watched = Decision(NOTIFY, 0, FORK, clause.decision.log)
        followed.append(Clause(clause.tests, watched, clause.reason))
    return followed


CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

_ELSEWHERE = [[Test(0, flag, flag)] for flag in (CLONE_NEWNS, CLONE_NEWUSER)]
MOVING: dict[int, list[list[Test]]] = {
    NUMBERS["clone"]: _ELSEWHERE,
    NUMBERS["unshare"]: _ELSEWHERE,
    NUMBERS["setns"]: [[]],
    NUMBERS["chroot"]: [[]],
    NUMBERS["pivot_root"]: [[]],
}
"""Calls after which a name may mean another file to some thread of the tree than to its supervisor:
number to lists of tests, as for PROTECTED. Nothing else changes a thread's root directory, mount
namespace or user namespace (clone3 there is none)."""


def moves(number: int, args: Sequence[int]) -> bool:
    """Tell whether a call with these six registers is one of MOVING."""
    return number in MOVING and any(
        all(test.holds(args) for test in tests) for tests in MOVING[number]
    )


def watch_moves(number: int, clauses: list[Clause]) -> list[Clause]:
    """Return the clauses of a call of MOVING with each permitted move handed over."""
    return _watch(MOVING[number], clauses, MOVE, "names may mean other files afterwards")


def _watch(
    uses: list[list[Test]], clauses: list[Clause], why: str, reason: str
) -> list[Clause]:
    watched: list[Clause] = []
    for clause in clauses:
        if clause.decision.kind == PERMIT:
            told = Decision(NOTIFY, 0, why, clause.decision.log)
            if uses == [[]]:
                watched.append(Clause(clause.tests, told, clause.reason))
                continue
            watched += [Clause([*tests, *clause.tests], told, reason) for tests in uses]
        watched.append(clause)
    return watched


PRCTL = NUMBERS["prctl"]
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28

CHANGING: dict[int, list[list[Test]]] = {
    **{
        NUMBERS[name]: [[]]
        for name in (
            "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
            "setfsgid", "setgroups", "capset", "execve", "execveat",
        )
    },
    PRCTL: [[Test(0, PR_CAPBSET_DROP)], [Test(0, PR_SET_SECUREBITS)]],
}  # fmt: skip
"""Calls after which some thread of a tree may have other ids, groups or effective capabilities than
the rest: number to lists of tests, as for PROTECTED. The two of prctl(2) change what an exec gives.
Who makes a user namespace has others in it, too: that is among MOVING."""


def changes_rights(number: int, args: Sequence[int]) -> bool:
    """Tell whether a call with these six registers is one of CHANGING."""
    return number in CHANGING and any(
        all(test.holds(args) for test in tests) for tests in CHANGING[number]
    )


def watch_changes(number: int, clauses: list[Clause]) -> list[Clause]:
    """Return the clauses of a call of CHANGING with each permitted change handed over."""
    return _watch(CHANGING[number], clauses, RIGHTS, "its caller may have other rights afterwards")


def tells_of_changes(clauses: Callable[[int], Sequence[Clause]]) -> bool:
    """Tell whether nothing of CHANGING and MOVING passes a filter unseen.

    ``clauses``: what stands in it for a number.
    """
    for number, uses in (*CHANGING.items(), *MOVING.items()):
        its = clauses(number)
        if uses == [[]]:
            passes = any(clause.decision.kind == PERMIT for clause in its)
        else:
            passes = any(first_of(its, _registers(tests)).kind == PERMIT for tests in uses)
        if passes:
            return False
    return True


EXCHANGING = tuple(
    NUMBERS[name] for name in (
        *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
        *("io_uring_setup", "io_uring_enter"),
    )
)  # fmt: skip
"""What can make a path lead to another object that has one of its own already, where nobody is
root. An object that is made does not: it is new, and what was judged is its path."""

_DONE_IN_TURN = frozenset((RULES, UNMATCHED, DENIED, UNSUPPORTED, KILLS))


def tells_of_exchanges(clauses: Callable[[int], Sequence[Clause]]) -> bool:
    """Tell whether every call of EXCHANGING is denied, or carried out by the supervisor itself.

    ``clauses``: what stands in the filter for a number. The calls that the supervisor lets the
    kernel go on with happen while it serves others.
    """
    return all(
        clause.decision.kind in (DENY, KILL) or clause.decision.why in _DONE_IN_TURN
        for number in EXCHANGING for clause in clauses(number)
    )  # fmt: skip


def _registers(tests: list[Test]) -> list[int]:
    """Return registers for which all of these tests hold."""
    found = [0] * 6
    for test in tests:
        found[test.argument] |= test.value << 32 * test.word
    return found


CLONE = NUMBERS["clone"]
FCNTL = NUMBERS["fcntl"]
CLONE3 = NUMBERS["clone3"]

# ---- in every tree ----

NESTED_LAUNCHER = 0x43584543
"""prctl(2) option with which a launcher asks whether it is inside another certificate's tree, and
what the supervisor has judged. No kernel knows it: outside it answers EINVAL."""

ADOPT_OPTION = 0x43584144
"""prctl(2) option with which a program asks its supervisor for another policy."""

CLONE_UNTRACED = 0x00800000
"""clone(2): no tracer is given the child. Only the kernel's own threads have a use for it."""


IOCTL = NUMBERS["ioctl"]
TYPES_FOR_OTHERS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX (ioctl_tty(2), ioctl_console(2)): they put characters into a terminal's
input, or select and paste them there. Who reads them next is not confined: it is the shell."""


def inherent_guards(*, supervised: bool, detached: bool = False) -> dict[int, list[Clause]]:
    """Return what stands in front of the policy in every confined tree: number to clauses.

    ``supervised``: there is somebody who could answer a launcher; ``detached``: the policy confines
    nothing but who is the program's child.
    """
    reason = "nobody may type into a terminal for who reads from it next"
    # the kernel takes an unsigned int: the low word is all of it
    typing = [Clause([Test(1, each)], deny(errno.EPERM), reason) for each in TYPES_FOR_OTHERS]
    return {
        **({} if detached else {IOCTL: typing}),
        PRCTL: [
            Clause(
                [Test(0, NESTED_LAUNCHER)],
                Decision(NOTIFY, 0, NESTED) if supervised else deny(errno.EBUSY),
                "a certificate inside a confined tree is the supervisor's to judge"
                if supervised else "a certificate inside a confined tree is refused",
            )
        ],
        CLONE: [
            Clause(
                [Test(0, CLONE_UNTRACED, CLONE_UNTRACED)],
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

_PID_IS_SELF = [[Test(0, 0)]]

PROTECTED: dict[int, list[list[Test]]] = {
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
        ("ptrace", [[Test(0, PTRACE_TRACEME), Test(0, PTRACE_TRACEME, word=HIGH)]]),
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
        ("setpriority", [[Test(0, which), Test(1, 0)] for which in (0, 1)]),
        ("ioprio_set", [[Test(0, which), Test(1, 0)] for which in (1, 2)]),
        ("kcmp", []),
        ("migrate_pages", _PID_IS_SELF),
        ("move_pages", _PID_IS_SELF),
    )
}
"""Calls that take some other process as their target: number to lists of tests. Where all tests of
one list hold, the call concerns only the caller. pid_t is an int, so its low word is all of it."""


def protect(number: int, clauses: list[Clause]) -> list[Clause]:
    """Return a protected call's clauses with the supervisor's look at every permitted use.

    Uses that concern only the caller stay with the kernel, unless they are to be logged.
    """
    protected: list[Clause] = []
    for clause in clauses:
        if not clause.decision.permitted:
            protected.append(clause)
            continue
        if clause.decision.kind == PERMIT:
            protected += [
                Clause([*own, *clause.tests], PERMITTED, "concerns only the caller")
                for own in PROTECTED[number]
            ]
        watched = Decision(NOTIFY, 0, PROTECTION, clause.decision.log)
        protected.append(Clause(clause.tests, watched, clause.reason))
    return protected


def adopt_guard() -> Clause:
    """Return the clause of prctl(2) by which a program asks for another policy."""
    return Clause(
        [Test(0, ADOPT_OPTION)], Decision(NOTIFY, 0, ADOPT), "a request for another policy"
    )


def dumpable_guard() -> Clause:
    """Return the clause of prctl(2) that keeps the program readable for a same-uid supervisor."""
    return Clause(
        [Test(0, PR_SET_DUMPABLE), Test(1, 0)],
        deny(errno.EPERM),
        "an unprivileged supervisor must be able to read the program's arguments",
    )


def unreadable_guard() -> Clause:
    """Return the clause of prctl(2) that keeps others of the invoker's uid out of a program.

    Where a grant leaves the invoker's ids, that it runs from an unreadable file is all that does.
    """
    return Clause(
        [Test(0, PR_SET_DUMPABLE), Test(1, 1)],
        deny(errno.EPERM),
        "others of the same user must not get at what was granted",
    )


def signal_owner_guards() -> list[Clause]:
    """Return the clauses of fcntl(2) against signals that no supervisor can ignore.

    F_SETOWN names any process of the same uid as the one that O_ASYNC informs, F_SETSIG says by
    which signal: the two together are a kill(2). All other signals the supervisor ignores.
    """
    return [
        Clause(
            [Test(1, F_SETSIG), Test(2, signal)],
            deny(errno.EPERM),
            "asynchronous input must not end or stop the supervisor",
        )
        for signal in (SIGKILL, SIGSTOP)
    ]
