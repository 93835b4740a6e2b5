"""Which layer enforces what: the table behind the filter, told call by call and rule by rule."""

from __future__ import annotations

from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy.calls import reaches, variants
from certexec.policy.evaluate import effective_rules
from certexec.policy.guards import NOTIFY, UNMATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from certexec.policy.decisions import Table
    from certexec.policy.guards import Clause, Decision
    from certexec.policy.model import Policy, Rule

CONSTANT = "constant"
"""The kernel decides by the call's number."""
COMPARE = "compare"
"""The kernel decides by argument registers."""
SUPERVISED = "supervised"
"""The supervisor decides."""
OVERRULED = "overruled"
"""Another rule decides every call that this one reaches."""
INACTIVE = "inactive"
"""The rule's name means no system call here."""


class Use:
    """One use of a system call, and what happens to it.

    Attributes:
        call: Linux's name.
        use: which of several things the call does, or why certexec decides here; "" for all.
        layer: CONSTANT, COMPARE or SUPERVISED.
        decision: what happens.
    """

    __slots__ = ("call", "decision", "layer", "use")

    def __init__(self, call: str, use: str, layer: str, decision: Decision) -> None:
        self.call = call
        self.use = use
        self.layer = layer
        self.decision = decision


def explain_calls(table: Table) -> Iterator[Use]:
    """Yield the uses of every call of which a rule, or certexec itself, speaks; by number."""
    for number in sorted(table.clauses):
        clauses = table.clauses[number]
        for clause in clauses:
            layer = _layer(clauses, clause)
            yield Use(NAMES[number], clause.reason, layer, clause.decision)


def explain_rules(policy: Policy, table: Table) -> Iterator[tuple[Rule, dict[str, list[str]]]]:
    """Yield each rule with the layers that enforce it: layer to the calls that it is about there.

    A rule that never decides anything is OVERRULED in the calls that it reaches, one that reaches
    none is INACTIVE.
    """
    layers: dict[int, dict[str, list[str]]] = {id(rule): {} for rule in policy.rules}
    for name in NUMBERS:
        clauses = table.clauses.get(NUMBERS[name], [])
        for variant in variants(name):
            for rule in effective_rules(policy, name, variant.label):
                for layer in _layers_of_use(clauses, variant.label):
                    calls = layers[id(rule)].setdefault(layer, [])
                    if name not in calls:
                        calls.append(name)
    for rule in policy.rules:
        found = layers[id(rule)]
        if not found:
            reached = reaches(rule)
            found = {OVERRULED: list(reached)} if reached else {INACTIVE: []}
        yield rule, found


def _layers_of_use(clauses: list[Clause], label: str) -> set[str]:
    # Uses that are decided alike share the last of their clauses.
    own = [clause for clause in clauses if clause.reason == label] or clauses[-1:]
    return {_layer(clauses, clause) for clause in own if clause.decision.why != UNMATCHED}


def _layer(clauses: list[Clause], clause: Clause) -> str:
    if clause.decision.kind == NOTIFY:
        return SUPERVISED
    return COMPARE if len(clauses) > 1 else CONSTANT
