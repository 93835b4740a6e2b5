"""The filter under which a program is watched while its policy is learned (pure).

Every call is handed over once it is made, except the uses that a given policy permits plainly:
those of the presets that every learned policy includes, which need not be counted. So what is
frequent, reading and writing what is open, costs nothing while learning.

A wait for a child is not handed over either: the signal that the child has ended comes just then,
and would end a call that is being handed over with EINTR where it would have returned the child.
Whoever forks is taken to wait (certexec.run.record).

Nothing is denied but what no policy can permit: there a program shall take the way that it will
have to take when it is confined.
"""

from __future__ import annotations

import errno

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.decisions import IO_URING, LANDLOCK_RESTRICT_SELF
from certexec.policy.evaluate import constant_rule, uses
from certexec.policy.guards import (
    CLONE3,
    JUDGED,
    PERMITTED,
    PRCTL,
    Clause,
    Test,
    deny,
    dumpable_guard,
    tests_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Policy, Rule

WAIT = "wait4"
"""The call by which programs wait for their children, also by waitpid(3)."""
_DIRFD = 0
_SIGN = 1 << 31


class Watched:
    """What a watching filter decides, in the form that ``certexec.policy.compile`` takes.

    ``given``: what it permits plainly is not handed over; None: everything is.
    """

    __slots__ = ("clauses", "default", "needs_listener", "tables")

    def __init__(self, given: Policy | None) -> None:
        self.tables = ()
        self.needs_listener = True
        self.default = JUDGED
        self.clauses: dict[int, list[Clause]] = {}
        if given is not None:
            for name, number in NUMBERS.items():
                clauses = _clauses(given, name)
                if clauses:
                    self.clauses[number] = clauses
        self.clauses[NUMBERS[WAIT]] = [Clause((), PERMITTED)]
        # Its flags lie in memory. C libraries take clone where the kernel has no clone3.
        self.clauses[CLONE3] = [Clause((), deny(errno.ENOSYS))]
        # A domain of the program's own would not bind who opens files for it.
        self.clauses[LANDLOCK_RESTRICT_SELF] = [Clause((), deny(errno.EOPNOTSUPP))]
        for number in IO_URING:  # whose operations pass no filter
            self.clauses[number] = [Clause((), deny(errno.EPERM))]

    def of_foreign(self) -> None:
        """Calls of the 32-bit ABI kill: their programs cannot be watched."""

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return self.clauses.get(number) or [Clause((), self.default)]


def hides(number: int, args: Sequence[int]) -> bool:
    """Tell whether a call with these registers makes its process unreadable for its user."""
    return number == PRCTL and all(test.holds(args) for test in dumpable_guard().tests)


def _clauses(given: Policy, name: str) -> list[Clause]:
    """Return the clauses of one call, none where all of it is handed over."""
    each = [(variant, _plain(rules)) for variant, rules in uses(given, name)]
    if not any(plain for _, plain in each):
        return []
    clauses: list[Clause] = []
    for variant, plain in each:
        tests = [test for one in variant.tests for test in tests_of(*one)]
        if variant.in_memory and plain:
            # AT_EMPTY_PATH with a descriptor: nobody but the C library's fstat() asks so
            tests.append(Test(_DIRFD, 0, _SIGN))
        clauses.append(Clause(tests, PERMITTED if plain else JUDGED, variant.label))
    if clauses[-1].tests:
        clauses.append(Clause((), JUDGED))
    return clauses


def _plain(rules: Sequence[Rule]) -> bool:
    """Tell whether effective rules permit whatever the arguments are."""
    constant, rule = constant_rule(rules)
    return constant and rule is not None and rule.action == "permit" and not rule.log
