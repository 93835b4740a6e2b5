"""The policies that the programs of one tree may come under (pure).

A program that is executed comes under its own policy, as in systrace, unless the rule that permits
the exec says ``inherit`` or ``detach``, or the certificate says ``inherit``. Which policies those
can be is settled before the first instruction: what the kernel's filter decides alone must be the
same in all of them.
"""

from __future__ import annotations

from certexec.policy.evaluate import UNMATCHED_ASK, effective_rules, prepare
from certexec.policy.model import Policy, Subject, parts, symbols
from certexec.policy.names import canonical
from certexec.policy.operators import needs_expansion, pattern_bytes, value_bytes
from certexec.policy.select import ACTIVE_EMULATIONS, ANYWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from certexec.policy.model import Rule

EXEC_NAMES = ("execve", "execveat")
FILENAME = "filename"
NATIVE = "native"
NOBODY = Subject(-1, -1, "", "", "")
"""For rules that ask for a file name and nothing else."""


class Reach:
    """The policies that a tree can get to, the program's own one first.

    Attributes:
        policies: all of them; their places are what ``find`` and ``detached`` say.
        detached: the place of the policy of programs that are let go, -1 when none can be.
    """

    __slots__ = ("_by_base", "_by_path", "detached", "policies")

    def __init__(self, own: Policy, others: Iterable[Policy]) -> None:
        """``others``: candidates; of two for one program the first counts, a native one most."""
        self.policies: list[Policy] = []
        self._by_path: dict[str, int] = {}
        self._by_base: dict[str, int] = {}
        self._add(own)
        known = list(others)
        left = [
            policy for emulation in ACTIVE_EMULATIONS
            for policy in known if policy.emulation == emulation and policy is not own
        ]
        for policy in self.policies:  # which grows meanwhile
            rules = [rule for part in parts(policy) for rule in _transitions(part)]
            adopts = [path for part in parts(policy) for path in part.adopts]
            reached = [
                one for one in left
                if one.path in adopts or any(_may_execute(rule, one) for rule in rules)
            ]
            for one in reached:
                left.remove(one)
                self._add(one)
        self.detached = -1
        if any(
            rule.detach for policy in self.policies for part in parts(policy)
            for rule in permitting_execs(part)
        ):
            self.detached = len(self.policies)
            free = Policy(ANYWHERE, NATIVE, 0)
            free.detached = True
            self.policies.append(free)

    def _add(self, policy: Policy) -> None:
        table, key = self._by_path, policy.path
        if key.startswith(ANYWHERE):
            table, key = self._by_base, key[len(ANYWHERE) :]
        if key not in table:
            table[key] = len(self.policies)
            self.policies.append(policy)

    def find(self, program: str) -> int:
        """Return the place of a program's own policy, -1 when it has none."""
        place = self._by_path.get(program)
        if place is None:
            place = self._by_base.get(program.rpartition("/")[2], -1)
        return place


    def named(self, path: str) -> int:
        """Return the place of the policy with this path in its header, -1 when there is none."""
        return self._by_path.get(path, -1)


def changes_policies(policy: Policy, inherit: bool) -> bool:
    """Tell whether a program under ``policy``, or one that it executes, may come under another.

    ``inherit``: the certificate says that what it executes stays under this one.
    """
    return any(
        bool(part.adopts) or any(
            rule.detach or not (inherit or rule.inherit) for rule in permitting_execs(part)
        )
        for part in parts(policy)
    )


def permitting_execs(policy: Policy) -> list[Rule]:
    """Return the rules that may permit an exec, UNMATCHED_ASK among them where it may do so."""
    found = [
        rule for rule in policy.rules
        if rule.action in ("permit", "ask")
        and canonical(rule.emulation, rule.syscall) in EXEC_NAMES
    ]
    if any(UNMATCHED_ASK in effective_rules(policy, name) for name in EXEC_NAMES):
        found.append(UNMATCHED_ASK)
    return found


def _transitions(policy: Policy) -> list[Rule]:
    return [rule for rule in permitting_execs(policy) if not (rule.inherit or rule.detach)]


def _may_execute(rule: Rule, policy: Policy) -> bool:
    """Tell whether a rule may permit the exec of the program that a policy is for."""
    tests = [one for one in symbols(rule.expression) if one.operator != "true"]
    told = not policy.path.startswith(ANYWHERE) and all(
        one.argument.lower() == FILENAME and one.offset <= 0 and not needs_expansion(one.data)
        for one in tests
    )
    if not told:
        return True  # by its arguments, its user, or any program of that name
    return prepare(rule.expression)({FILENAME: [value_bytes(policy.path)]}, NOBODY)


def file_name(program: str) -> str:
    """Return the name of the file in a policy directory that holds a program's policy.

    Every byte that is no ASCII letter or digit becomes "_", those at the beginning go. Different
    programs can share a name; the header inside tells them apart. Source: systrace 1.6g, policy.c.
    """
    characters = map(chr, pattern_bytes(program))
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in characters)
    return plain.lstrip("_")

