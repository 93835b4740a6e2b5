"""What the kernel does with each system call of a confined program: the table behind the filter.

For every call there is one decision, and in front of it there may be guards, which settle some of
its uses otherwise. ``compile`` only turns this table into BPF.
"""

from __future__ import annotations

import errno

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NAMES, NUMBERS, numbers_of
from certexec.policy.guards import (
    DENIED,
    EXEC,
    JUDGED,
    LOG,
    NOTIFY,
    OPEN_FLAGS_ARGUMENT,
    PERMITTED,
    PROTECTED_CALLS,
    PROTECTION,
    RULES,
    STAT_FLAGS_ARGUMENT,
    UNMATCHED,
    UNSUPPORTED,
    Decision,
    Guard,
    deny,
    descriptor_stat_guard,
    dumpable_guard,
    inherent_guards,
    open_for_reading,
    open_for_writing,
    own_process_guards,
    signal_owner_guards,
)
from certexec.policy.model import ALIASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.policy.model import Rule

    Governed = Sequence[tuple[str, Sequence[Rule]]]
    """The names that govern one call, with their rules, in the order in which they are asked."""

OPENS = numbers_of("open", "openat", "openat2", "creat")
OPENAT2 = NUMBERS["openat2"]
TWOFOLD = frozenset((*OPEN_FLAGS_ARGUMENT, OPENAT2))
"""The opens that read or write, as their flags say. creat only writes."""

LANDLOCKED = frozenset(
    numbers_of("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "connect", "bind") + OPENS
)
"""The emulated calls that a Landlock domain of the program's own would have bound."""

EMULATED = LANDLOCKED | frozenset(
    numbers_of("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2")
    + numbers_of("readlink", "readlinkat")
)
"""The calls that the supervisor carries out itself, on the object that the rules judged."""

ALWAYS = numbers_of("exit", "exit_group", "rt_sigreturn", "restart_syscall")
"""Permitted whatever the policy says: a program can always end, and a signal handler, once it
runs, can return; the kernel itself puts restart_syscall in place of an interrupted sleep. None of
them touches anything outside the program."""

IO_URING = numbers_of("io_uring_setup", "io_uring_enter", "io_uring_register")
IO_URING_REACHES = numbers_of(
    *("openat", "openat2", "statx", "unlinkat", "renameat", "mkdirat", "symlinkat", "linkat"),
    *("setxattr", "getxattr", "socket", "connect", "bind", "listen", "accept", "sendmsg"),
)
"""Calls whose work io_uring does without passing the filter. Where one of them is denied, or the
supervisor has to see it, io_uring is denied, too, even if the policy permits it."""

EXECS = numbers_of("execve", "execveat")
FSTAT = NUMBERS["fstat"]
FCNTL = NUMBERS["fcntl"]
PRCTL = NUMBERS["prctl"]
CLONE3 = NUMBERS["clone3"]
LANDLOCK_RESTRICT_SELF = NUMBERS["landlock_restrict_self"]


class TreeOptions:
    """What kind of process tree a filter is for.

    Attributes:
        full_log: every denial becomes a log line (``log: full``), so denials are notified.
        privileged: an identity above the invoker's is granted, or ruid differs from euid: there
            no_new_privs is never set, and every later exec needs an eye on it.
        capable: the program may hold uid 0 or a capability, be it the invoker's own: it could
            reach the supervisor through /proc although that is not dumpable. Follows from
            ``privileged``.
        may_exec: the program may execute others, as far as its policy permits.
    """

    __slots__ = ("capable", "full_log", "may_exec", "privileged")

    def __init__(
        self, *, full_log: bool, privileged: bool, capable: bool, may_exec: bool = True
    ) -> None:
        self.full_log = full_log
        self.privileged = privileged
        self.capable = capable or privileged
        self.may_exec = may_exec


class Table:
    """The decisions for one tree.

    Attributes:
        governed: number to [(governing name, rules)], as given.
        decisions: for every number of kernel.syscalls.
        default: for all other numbers.
        guards: number to guards in the order in which they are tried, before the decision.
        needs_listener: something is notified, so there must be a supervisor.
    """

    __slots__ = ("decisions", "default", "governed", "guards", "needs_listener")

    def __init__(self, governed: Mapping[int, Governed], options: TreeOptions) -> None:
        """Decide.

        Args:
            governed: per number the call's own name and its aliases, with the rules of each. The
                opens may have both aliases: their flags say which of them counts.
            options: see TreeOptions.

        Raises PolicyError("policy-unsupported") for io_uring beside rules that it would evade.
        """
        self.governed = governed
        self.default = deny(errno.EPERM, UNMATCHED if options.full_log else "")
        self.decisions: dict[int, Decision] = dict.fromkeys(NAMES, self.default)
        self.guards = inherent_guards()
        split: dict[int, tuple[Decision, Decision]] = {}
        for number, entries in governed.items():
            read, write = _settle(number, entries, options, self.default)
            self.decisions[number] = read
            if read != write:
                split[number] = (read, write)
        for number in ALWAYS:
            self.decisions[number] = PERMITTED
        # The flags of clone3 lie in memory. C libraries take clone where the kernel has no clone3.
        self.decisions[CLONE3] = deny(errno.ENOSYS)
        self._govern_exec(options)
        self._judge_descriptor_stats()
        uses = [decision for pair in split.values() for decision in pair]
        self.needs_listener = any(
            decision.kind == NOTIFY for decision in (*self._everything(), *uses)
        )
        for number, (read, write) in split.items():
            self._split_open(number, read, write)
        self._refuse_io_uring(options)
        if self.needs_listener:
            self._protect_supervisor(options)
        self._refuse_idle_landlock()

    def decide(self, number: int, args: Sequence[int]) -> Decision:
        """Return what happens to one x86-64 call, given its six registers (64-bit, unsigned)."""
        for guard in self.guards.get(number, ()):
            if all(test.holds(args) for test in guard.tests):
                return guard.decision
        return self.decisions.get(number, self.default)

    def _split_open(self, number: int, read: Decision, write: Decision) -> None:
        """Tell reading from writing opens by their flags, as far as registers can."""
        if self.needs_listener:
            rest = JUDGED
        elif number == OPENAT2:
            # Its flags lie in memory. Programs take openat where the kernel has no openat2.
            rest = deny(errno.ENOSYS)
        else:
            # One of them is a denial, else nothing were notified and nothing split.
            rest = read if read.denied else write
        self.decisions[number] = rest
        if number == OPENAT2:
            return
        guards = self.guards.setdefault(number, [])
        if read != rest:
            guards.append(Guard(open_for_reading(number), read, "opens that only read"))
        if write != rest:
            guards.append(Guard(open_for_writing(number), write, "opens that may write"))

    def _govern_exec(self, options: TreeOptions) -> None:
        for number in EXECS:
            decision = self.decisions[number]
            if not decision.permitted:
                continue
            if not options.may_exec:
                self.decisions[number] = deny(errno.EACCES, DENIED if options.full_log else "")
            elif options.privileged:
                # An empty bounding set does not keep a set-user-ID file from giving euid 0.
                self.decisions[number] = Decision(NOTIFY, 0, EXEC, decision.log)

    def _judge_descriptor_stats(self) -> None:
        if not self.decisions[FSTAT].permitted:
            return
        for number in STAT_FLAGS_ARGUMENT:
            if self.decisions[number].denied:
                self.guards.setdefault(number, []).append(descriptor_stat_guard(number))

    def _everything(self) -> list[Decision]:
        guarded = [guard.decision for guards in self.guards.values() for guard in guards]
        return [self.default, *self.decisions.values(), *guarded]

    def _refuse_io_uring(self, options: TreeOptions) -> None:
        if not any(self.decisions[number].permitted for number in IO_URING):
            return
        if any(decision.why in (RULES, UNSUPPORTED) for decision in self._everything()):
            raise PolicyError(
                "policy-unsupported",
                "io_uring is permitted beside rules on names or addresses, "
                "which its operations would evade",
                "do not permit io_uring_setup, io_uring_enter and io_uring_register",
            )
        watched = options.capable and self.needs_listener
        if watched or not all(self.decisions[number].permitted for number in IO_URING_REACHES):
            for number in IO_URING:
                why = UNSUPPORTED if self.needs_listener else ""
                self.decisions[number] = deny(errno.EPERM, why, log=True)

    def _protect_supervisor(self, options: TreeOptions) -> None:
        for number in PROTECTED_CALLS:
            decision = self.decisions[number]
            if not decision.permitted:
                continue
            if not decision.log:
                self.guards.setdefault(number, []).extend(own_process_guards(number))
            self.decisions[number] = Decision(NOTIFY, 0, PROTECTION, decision.log)
        if self.decisions[FCNTL].permitted:
            self.guards.setdefault(FCNTL, []).extend(signal_owner_guards())
        if not options.privileged:
            self.guards[PRCTL].append(dumpable_guard())
        if options.capable:
            for number in OPENS:
                self.decisions[number] = _watched(self.decisions[number])
                for guard in self.guards.get(number, ()):
                    guard.decision = _watched(guard.decision)

    def _refuse_idle_landlock(self) -> None:
        if any(
            decision.why in (RULES, PROTECTION)
            for number in LANDLOCKED
            for decision in (
                self.decisions[number],
                *(guard.decision for guard in self.guards.get(number, ())),
            )
        ):
            # The program's own domain would not bind the supervisor, who opens in its place.
            self.decisions[LANDLOCK_RESTRICT_SELF] = deny(errno.EOPNOTSUPP)


def _settle(
    number: int, entries: Governed, options: TreeOptions, unmatched: Decision
) -> tuple[Decision, Decision]:
    """Return the decisions for a call's reading and its writing uses; mostly one and the same."""
    for name, rules in entries:
        for rule in rules:
            # An unconditional rule on a call's own name wins, wherever it stands.
            if rule.simple and name not in ALIASES:
                decision = _of_rule(rule, options, unmatched)
                return decision, decision
    uses = []
    for other in ("fswrite", "fsread"):
        decision = unmatched
        for name, rules in entries:
            if rules and not (number in TWOFOLD and name == other):
                decision = _of_first(number, rules[0], options, unmatched)
                break
        uses.append(decision)
    return uses[0], uses[1]


def _of_first(number: int, rule: Rule, options: TreeOptions, unmatched: Decision) -> Decision:
    if rule.unconditional and rule.elevate is None:
        return _of_rule(rule, options, unmatched)
    return JUDGED if number in EMULATED else deny(errno.EPERM, UNSUPPORTED, log=True)


def _of_rule(rule: Rule, options: TreeOptions, unmatched: Decision) -> Decision:
    """Return the decision of a rule that matches every use of its call."""
    if rule.action == "permit":
        return Decision(NOTIFY, 0, LOG, log=True) if rule.log else PERMITTED
    if rule.action == "deny":
        return deny(rule.errno, DENIED if rule.log or options.full_log else "", rule.log)
    return unmatched


def _watched(decision: Decision) -> Decision:
    if not decision.permitted:
        return decision
    return Decision(NOTIFY, 0, PROTECTION, decision.log)
