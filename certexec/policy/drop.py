"""Rights that a process gives up by name: the table behind the filter that takes them (pure).

The names are those of rules: a system call, a classic name with the calls that took its place, or
``fsread`` and ``fswrite``. Where only a part of what a call does is named, its registers tell;
where memory would have to, the whole call goes, with ENOSYS if programs have another way.
"""

from __future__ import annotations

import errno

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NAMES, NUMBERS, numbers_of
from certexec.policy import errnos
from certexec.policy.calls import governing_names, reaches, variants
from certexec.policy.decisions import ALWAYS, IO_URING
from certexec.policy.guards import CLONE3, PERMITTED, PRCTL, Clause, Decision, Test, deny, tests_of
from certexec.policy.model import Policy, Rule
from certexec.policy.names import canonical
from certexec.policy.question import calls_of
from certexec.policy.side_doors import close_side_doors
from certexec.policy.spelling import close_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NATIVE = "native"
PROOF_OPTION_MAX = (1 << 31) - 1
"""The option of prctl(2) that proves the filter; an int."""
_OPENAT2 = NUMBERS["openat2"]
_CLONES = numbers_of("clone", "fork", "vfork")


class Dropped:
    """What a process may still do. Stands for a Table when compiling.

    Attributes:
        calls: the Linux calls that are dropped, wholly or in part.
        clauses: number to clauses.
        default: all other calls are permitted, as far as they were.
        needs_listener: never; tables: of no policy.
    """

    __slots__ = ("calls", "clauses", "default", "needs_listener", "tables")

    def __init__(self, names: Sequence[str], code: int, option: int) -> None:
        """Decide what goes.

        Args:
            names: at least one; as in rules for ``native``.
            code: Linux error number of what is dropped.
            option: of prctl(2): with it the filter answers ``proof(code)``, which proves that it,
                and none that was there before, is at work.

        Raises PolicyError("usage") for a name that means no call here, or one that cannot go.
        """
        self.tables = ()
        self.needs_listener = False
        self.default = PERMITTED
        self.clauses: dict[int, list[Clause]] = {}
        meanings = {_meaning(name) for name in names}
        for name in NUMBERS:
            each = _clauses(name, meanings, deny(code))
            if each:
                self.clauses[NUMBERS[name]] = each
        if any(number in self.clauses for number in _CLONES) and CLONE3 not in self.clauses:
            # Its flags lie in memory. C libraries take clone where the kernel has no clone3.
            self.clauses[CLONE3] = [Clause((), deny(errno.ENOSYS))]
        for number in IO_URING:  # whose operations pass no filter
            self.clauses.setdefault(number, [Clause((), deny(errno.EPERM))])
        self.calls = [NAMES[number] for number in sorted(self.clauses)]
        self.clauses |= close_side_doors(self.of, supervised=False, socketcall=False)
        proven = Clause([Test(0, option)], deny(proof(code)), "the proof of this filter")
        self.clauses[PRCTL] = [proven, *self.of(PRCTL)]

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return self.clauses.get(number) or [Clause((), self.default)]

    def of_foreign(self) -> None:
        """Return nothing: calls of the 32-bit ABI are killed."""


def proof(code: int) -> int:
    """Return the error that proves the filter: neither what it denies with nor the kernel's own."""
    return errno.EL2HLT if code != errno.EL2HLT else errno.EL3HLT


def error_number(name: str) -> int:
    """Return the number of an error name, in any case. Raises PolicyError("usage")."""
    number = errnos.number(name)
    if number is None:
        close = close_word(name, errnos.SAME)
        raise PolicyError(
            "usage", f'there is no error "{name}"', f'did you mean "{close}"?' if close else ""
        )
    return number


def _meaning(name: str) -> str:
    meaning = canonical(NATIVE, name.removeprefix(f"{NATIVE}-"))
    if meaning is None:
        calls_of(Policy("", NATIVE, 0), name)  # which raises, and knows what was meant
        raise AssertionError(name)
    rule = Rule(NATIVE, meaning, action="deny", errno=0, line=0, text="")
    if any(NUMBERS[call] in ALWAYS for call in reaches(rule)):
        raise PolicyError(
            "usage", f'"{name}" cannot be dropped: a program can always end and return'
        )
    return meaning


def _clauses(name: str, meanings: set[str], denial: Decision) -> list[Clause]:
    """Return the clauses of one call, none where nothing of it is dropped."""
    each = variants(name)
    gone = [not meanings.isdisjoint(governing_names(name, one.label, NATIVE)) for one in each]
    if not any(gone):
        return []
    if all(gone):
        return [Clause((), denial)]
    if NUMBERS[name] == _OPENAT2:
        # Its flags lie in memory. Programs take openat where the kernel has no openat2.
        return [Clause((), deny(errno.ENOSYS))]
    clauses: list[Clause] = []
    for variant, lost in zip(each, gone, strict=True):
        tests = [test for one in variant.tests for test in tests_of(*one)]
        # what memory tells from another use goes with that one
        decision = denial if lost or variant.in_memory else PERMITTED
        clauses.append(Clause(tests, decision, variant.label))
    return clauses
