"""What happens to the calls of the 32-bit ABI: the decisions about x86-64 calls, carried over.

Nothing is decided anew here. Rules, guards and the look after the supervisor are those of the
x86-64 call that does the same (``foreign``), of the policy for emulation ``linux``; only where a
register is found differs. So no guard can be forgotten for one of the two tables.
"""

from __future__ import annotations

import errno

from certexec.kernel.syscalls_i386 import NUMBERS_I386
from certexec.policy.decisions import Table
from certexec.policy.foreign import MEANINGS, MULTIPLEXED, Meaning
from certexec.policy.guards import (
    BY_POLICY,
    KILLED,
    NOTIFY,
    PROTECTION,
    RULES,
    UNSUPPORTED,
    Clause,
    Decision,
    Test,
    alike,
    deny,
    first_of,
)
from certexec.policy.tree import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certexec.policy.model import Policy
    from certexec.policy.tree import TreeOptions

COPIED = Decision(NOTIFY, 0, BY_POLICY)
"""The supervisor decides: on a copy of the arguments, or by a compare that filters have not."""

NOT_CARRIED_OUT = frozenset(("oldstat", "oldlstat", "quotactl"))
"""Calls whose structures are others than x86-64's, and of which nobody carries out the 32-bit form:
where the supervisor would have to, they are denied, and that is logged."""


def carried_over(meaning: Meaning, decision: Decision) -> Decision:
    """Return what a decision about the x86-64 call is for the 32-bit one."""
    if meaning.call in NOT_CARRIED_OUT and decision.why in (RULES, PROTECTION):
        return deny(errno.EPERM, UNSUPPORTED, log=True)
    return decision


def decide(
    table: Table, meaning: Meaning, registers: Sequence[int], copied: Sequence[int] | None = None
) -> Decision | None:
    """Return what happens to a 32-bit call, None where its arguments must be copied first.

    ``table``: of the policy for the 32-bit ABI; ``registers``: the six, cut to 32 bits each;
    ``copied``: the array of arguments. Where nobody copies them such a call is denied.
    """
    decision = table.settle(meaning.number, meaning.registers(registers, copied))
    if decision is not None:
        return carried_over(meaning, decision)
    if meaning.is_copied and copied is None:
        return None
    return _unreadable(table)


def _unreadable(table: Table) -> Decision:
    return deny(errno.EPERM, UNSUPPORTED if table.needs_listener else "", log=True)


class ForeignTable:
    """The clauses of every call of i386, over its own registers. Stands for a Table.

    Attributes:
        clauses: number (of i386) to clauses; default: for all other numbers.
        needs_listener: something is notified.
    """

    __slots__ = ("clauses", "default", "needs_listener", "table")

    def __init__(self, table: Table) -> None:
        """``table``: of the policy for emulation ``linux``."""
        self.table = table
        self.default = table.default
        self.needs_listener = table.needs_listener
        self.clauses: dict[int, list[Clause]] = {}
        for number, meaning in MEANINGS.items():
            if meaning.number in table.clauses:
                self.clauses[number] = self._carry_over(meaning)
        for name, (mask, several) in MULTIPLEXED.items():
            if any(meaning.number in table.clauses for meaning in several.values()):
                self.clauses[NUMBERS_I386[name]] = self._choose(mask, several.items())
        self.needs_listener = self.needs_listener or any(
            clause.decision.kind == NOTIFY for each in self.clauses.values() for clause in each
        )

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return self.clauses.get(number) or [Clause((), self.default)]

    def decide(self, number: int, args: Sequence[int]) -> Decision:
        """Return what the filter does with one call of i386, given its six registers."""
        clauses = self.clauses.get(number)
        return self.default if clauses is None else first_of(clauses, args)

    def _carry_over(self, meaning: Meaning) -> list[Clause]:
        carried: list[Clause] = []
        for clause in self.table.of(meaning.number):
            tests: list[Test] = []
            told = possible = True
            for test in clause.tests:
                those = meaning.sources[test.argument].tests(test)
                if those is False:
                    possible = False
                elif those is None:
                    told = False
                elif those is not True:
                    tests += those
            if not possible:
                continue
            decision = carried_over(meaning, clause.decision)
            if not told:
                by_supervisor = meaning.is_copied or meaning.words == 0 and _in_registers(meaning)
                decision = COPIED if by_supervisor else _unreadable(self.table)
            carried.append(Clause(tests, decision, clause.reason))
            if not tests:
                break
        return carried

    def _choose(self, mask: int, several: Iterable[tuple[int, Meaning]]) -> list[Clause]:
        chosen = [
            (which, meaning, self._carry_over(meaning)) for which, meaning in several
        ]
        last = [Clause((), self.default)]
        if all(alike(each, last) for _, _, each in chosen):
            return last
        clauses = [
            Clause([Test(0, which, mask), *clause.tests], clause.decision, meaning.name)
            for which, meaning, each in chosen for clause in each
        ]
        return [*clauses, *last]


def _in_registers(meaning: Meaning) -> bool:
    return None not in meaning.registers((0,) * len(meaning.sources))


class Killed:
    """Stands for the table of a policy without a part for the 32-bit ABI: its calls are killed."""

    __slots__ = ("clauses", "default", "needs_listener")

    def __init__(self) -> None:
        self.clauses: dict[int, list[Clause]] = {}
        self.default = KILLED
        self.needs_listener = False

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return [Clause((), KILLED)]


def with_foreign(policy: Policy, options: TreeOptions) -> Table:
    """Return a policy's table with that of its part for the 32-bit ABI (``Table.foreign``).

    A process can use both ABIs, so what either makes necessary for the whole tree holds for both.
    Raises PolicyError as ``Table`` does.
    """
    assert policy.foreign is not None
    beside = Facts()
    while True:
        foreign = Table(policy.foreign, options, beside)
        own = Table(policy, options, foreign.facts)
        if policy.foreign is not policy:
            foreign = Table(policy.foreign, options, own.facts)
        own.foreign = foreign
        if own.needs_listener or not ForeignTable(foreign).needs_listener:
            return own
        beside = Facts(supervised=True)
