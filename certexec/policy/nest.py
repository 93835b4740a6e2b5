"""Certificates that a confined program executes: policies laid over one another (pure).

A certificate inside adds its policy to the tree: whoever runs under it may do what the policies
of both permit. The filter covers each policy by itself; where they differ the supervisor is asked,
and asks all that count for the caller. In between stands certexec's launcher, which the kernel
starts for the certificate: until it executes the program it makes a few fixed calls, which no
policy speaks of.
"""

from __future__ import annotations

import errno

from certexec.kernel.syscalls import NUMBERS, numbers_of
from certexec.policy.decisions import Table
from certexec.policy.guards import (
    AFTER,
    ASKS,
    DENY,
    EXEC,
    FORK,
    KILL,
    KILLS,
    LOG,
    MOVE,
    NESTED,
    NOTIFY,
    PERMIT,
    PERMITTED,
    PROTECTION,
    RIGHTS,
    RULES,
    UNMATCHED,
    UNSUPPORTED,
    Clause,
    Decision,
    deny,
    inherent_guards,
    protect,
)
from certexec.policy.model import Policy, symbols
from certexec.policy.operators import needs_expansion
from certexec.policy.reach import FILENAME, NATIVE, permitting_execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WILD = frozenset("*?[\\")
"""What makes a pattern of one that could be a name."""

LAUNCHER_CALLS = numbers_of(
    *("getresuid", "getresgid", "setfsuid", "setfsgid", "fstat", "fcntl", "pread64", "mmap"),
    *("close", "umask", "getpriority", "write", "rt_sigprocmask"),
)
"""What binfmt/launch.c calls inside a tree, besides those that get a look of their own below."""

_RANKS = {RULES: 7, PROTECTION: 6, EXEC: 5, FORK: 4, MOVE: 3, RIGHTS: 3, AFTER: 2, LOG: 1}
"""Of two decisions that deny nothing for certain, the one with the closer look counts."""


def exact_names(policy: Policy) -> list[str]:
    """Return the files that the rules which permit execs name one by one, in their order.

    That is ``filename eq "NAME"``, and ``match`` with a name in which nothing is a wildcard. What
    stands beside it in the rule can only narrow it.
    """
    found = [
        one.data
        for rule in permitting_execs(policy)
        for one in symbols(rule.expression)
        if one.argument.lower() == FILENAME
        and one.data.startswith("/")
        and not needs_expansion(one.data)
        and (one.operator == "eq" or (one.operator == "match" and _WILD.isdisjoint(one.data)))
    ]
    return list(dict.fromkeys(found))


def meet(decisions: Iterable[Decision]) -> Decision:
    """Return what happens to a call that several policies decide about: only what all permit."""
    result, rank, log = PERMITTED, -1, False
    decisions = list(decisions)
    whys = {decision.why for decision in decisions}
    if RULES in whys and not ASKS.isdisjoint(whys):
        return deny(errno.EPERM, UNSUPPORTED, log=True)  # an answer would pass by the rules
    for decision in decisions:
        log = log or decision.log
        if (its := _rank(decision)) > rank:
            result, rank = decision, its
    if not log or result.log or not result.permitted:
        return result
    if result.kind == PERMIT:
        return Decision(NOTIFY, 0, LOG, log=True)
    return Decision(result.kind, result.errno, result.why, log=True)


def _rank(decision: Decision) -> int:
    if decision.kind == PERMIT:
        return 0
    if decision.kind == KILL or decision.why == KILLS:
        return 10
    if decision.denied or decision.kind == DENY or decision.why == NESTED:
        return 9  # all policies say the same of a launcher's question
    return _RANKS.get(decision.why, 8)


class Intersection(Table):
    """What several policies say together, in the supervisor only: no filter is made of it."""

    __slots__ = ("tables",)

    def __init__(self, tables: Sequence[Table]) -> None:
        """``tables``: the outermost policy's first."""
        self.tables = tables
        self.needs_listener = True
        self.foreign = None

    def decide(self, number: int, args: Sequence[int]) -> Decision:
        """Return what happens to one call, as ``Table.decide`` does."""
        return meet([table.decide(number, args) for table in self.tables])

    def settle(self, number: int, args: Sequence[int | None]) -> Decision | None:
        """Return the same where some registers are not known, as ``Table.settle`` does."""
        decisions = [table.settle(number, args) for table in self.tables]
        known = [decision for decision in decisions if decision is not None]
        return meet(known) if len(known) == len(decisions) else None


class LauncherTable(Table):
    """What the launcher may do between its own exec and that of the judged program.

    Only a process whose image is the registered launcher is ever in its place. Its calls are left
    to the kernel: it is one thread with memory of its own, and nobody under a policy reaches it.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self.default = deny(errno.EPERM, UNMATCHED)
        self.needs_listener = True
        self.foreign = None
        self.clauses = {number: [Clause((), PERMITTED)] for number in LAUNCHER_CALLS}
        for name in ("prlimit64", "setpriority"):
            number = NUMBERS[name]
            self.clauses[number] = protect(number, [Clause((), PERMITTED)])
        self.clauses[NUMBERS["openat"]] = [Clause((), Decision(NOTIFY, 0, PROTECTION))]
        self.clauses[NUMBERS["execveat"]] = [Clause((), Decision(NOTIFY, 0, EXEC))]
        for name in ("exit_group", "rt_sigreturn", "restart_syscall"):
            self.clauses[NUMBERS[name]] = [Clause((), PERMITTED)]
        number = NUMBERS["prctl"]
        denied = Clause((), deny(errno.EPERM, UNSUPPORTED))
        self.clauses[number] = [*inherent_guards(supervised=True)[number], denied]


def launcher_policy() -> Policy:
    """Return what stands for the launcher in the log: it has no rules."""
    return Policy("certexec's launcher", NATIVE, 0)
