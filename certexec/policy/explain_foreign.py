"""What becomes of a call when it is made by the 32-bit ABI, told beside the x86-64 call itself."""

from __future__ import annotations

from certexec.kernel.syscalls_i386 import NUMBERS_I386
from certexec.policy.foreign import MEANINGS, MULTIPLEXED
from certexec.policy.foreign_table import ForeignTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from certexec.policy.decisions import Table
    from certexec.policy.guards import Clause


class ForeignUses:
    """One call of i386 that means a certain call of x86-64.

    Attributes:
        call, number: of i386.
        clauses: what the filter does with it; tests are of its own registers.
    """

    __slots__ = ("call", "clauses", "number")

    def __init__(self, call: str, number: int, clauses: list[Clause]) -> None:
        self.call = call
        self.number = number
        self.clauses = clauses


def explain_foreign(table: Table, name: str) -> Iterator[ForeignUses]:
    """Yield the calls of i386 that mean the Linux call ``name``, by number.

    ``table``: of the policy's part for the 32-bit ABI.
    """
    whole = ForeignTable(table)
    for call, number in NUMBERS_I386.items():
        meaning = MEANINGS.get(number)
        if meaning is not None and meaning.name == name:
            yield ForeignUses(call, number, whole.of(number))
        elif call in MULTIPLEXED:
            mask, several = MULTIPLEXED[call]
            which = {value for value, meaning in several.items() if meaning.name == name}
            clauses = [
                clause for clause in whole.of(number)
                if any(
                    (test.argument, test.mask) == (0, mask) and test.value in which
                    for test in clause.tests
                )
            ]
            if which:
                yield ForeignUses(call, number, clauses or whole.of(number)[-1:])
