"""One filter for a tree whose programs have policies of their own (pure).

A filter stays over every execve. So the kernel decides alone only what all policies that the tree
can get to decide alike; everything else comes to the supervisor, who knows whose policy counts.
"""

from __future__ import annotations

from certexec.policy.guards import BY_POLICY, NOTIFY, PRCTL, Clause, Decision, alike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.decisions import Table
    from certexec.policy.foreign_table import ForeignTable, Killed

DIFFERENT = Decision(NOTIFY, 0, BY_POLICY)


class Agreed:
    """The clauses of several tables, as far as they agree.

    Attributes:
        clauses: number to clauses; default: for all other numbers.
    """

    __slots__ = ("clauses", "default")

    def __init__(self, tables: Sequence[Table | ForeignTable | Killed]) -> None:
        """``tables``: at least one, all for the same kind of tree."""
        first = tables[0]
        self.default = first.default
        if any(table.default != first.default for table in tables):
            self.default = DIFFERENT
        self.clauses: dict[int, list[Clause]] = {}
        for number in set().union(*(table.clauses for table in tables)):
            clauses = first.of(number)
            if all(alike(table.of(number), clauses) for table in tables[1:]):
                self.clauses[number] = clauses
            else:
                self.clauses[number] = [Clause((), DIFFERENT)]

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return self.clauses.get(number) or [Clause((), self.default)]


class Combined(Agreed):
    """What the policies of a tree decide alike. Stands for a Table when compiling.

    Attributes:
        tables: one for each policy, in the order of their places.
        needs_listener: something is notified.
    """

    __slots__ = ("_programs", "needs_listener", "tables")

    def __init__(self, tables: Sequence[Table], launcher: Table | None = None) -> None:
        """``tables``: as in ``Agreed``.

        ``launcher``: of certexec's launcher, where certificates are executed inside. It comes last,
        and counts only for the calls that it makes itself: the kernel denies it none of them.
        """
        super().__init__(tables)
        self._programs = tables
        self.tables = tables if launcher is None else [*tables, launcher]
        if launcher is not None:
            for number, clauses in launcher.clauses.items():
                if number != PRCTL and not alike(self.of(number), clauses):
                    self.clauses[number] = [Clause((), DIFFERENT)]
        self.needs_listener = any(table.needs_listener for table in self.tables)

    def of_foreign(self) -> Agreed | None:
        """Return what the filter does with calls of the 32-bit ABI; None: they are killed.

        The launcher makes no such call.
        """
        if all(table.foreign is None for table in self._programs):
            return None
        from certexec.policy.foreign_table import Killed

        return Agreed([table.of_foreign() or Killed() for table in self._programs])
