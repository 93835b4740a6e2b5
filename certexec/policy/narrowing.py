"""``after``: once a call has happened, a tree may do less (pure).

    after native-open: oflags sub "a" then only write, close

Once a permitted open for append was begun, whoever in the tree comes under this policy keeps write
and close, each as far as the rules permit it, and the calls by which a program ends; every other
call is denied. Several of these lines add up: what remains is what all of them keep that have come
true. Nothing ever comes back, so that the order in which threads race does not matter: it is
enough that the state is set before the call that sets it is carried out.

The kernel's filter knows no state. What is permitted now and may not be later is therefore notified
from the start.
"""

from __future__ import annotations

import errno

from certexec.policy.calls import call_of, governing_names, variants
from certexec.policy.guards import (
    JUDGED,
    NARROWED,
    PERMIT,
    UNSUPPORTED,
    Clause,
    Decision,
    deny,
)
from certexec.policy.model import After, Policy, Rule
from certexec.policy.names import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def keeps(policy: Policy, after: After, name: str, label: str) -> bool:
    """Tell whether a variant of a Linux call remains once a line has come true."""
    return not after.only.isdisjoint(governing_names(name, label, policy.emulation))


def fits(policy: Policy, after: After, name: str, label: str) -> bool:
    """Tell whether a line is about a variant of a Linux call, whatever its arguments."""
    meaning = canonical(policy.emulation, after.rule.syscall)
    return meaning in governing_names(name, label, policy.emulation)


def is_hidden(name: str) -> bool:
    """Tell whether memory has a say in which variant a call is."""
    return any(variant.in_memory for variant in variants(name))


def watch_for_state(
    policy: Policy, name: str, uses: Sequence[list[Clause]]
) -> list[list[Clause]]:
    """Return the clauses of a call's variants with a look at the state where it counts.

    ``uses``: those of each variant, or of all together.
    """
    each = variants(name)
    if len(uses) != len(each):
        uses = [*uses] * len(each)
    kept = [all(keeps(policy, one, name, variant.label) for one in policy.afters)
            for variant in each]  # fmt: skip
    about = [[one for one in policy.afters if fits(policy, one, name, variant.label)]
             for variant in each]  # fmt: skip
    all_looked = is_hidden(name) and not (
        len(set(kept)) == 1 and all(one == about[0] for one in about)
    )
    result = []
    for variant, clauses, stays, lines in zip(each, uses, kept, about, strict=True):
        asks = not variant.bare and any(not line.rule.unconditional for line in lines)
        looked = asks or all_looked
        watched = bool(lines) or not stays
        result.append([
            Clause(clause.tests, _watched(name, clause.decision, looked, watched))
            for clause in clauses
        ])  # fmt: skip
    return result


def _watched(name: str, decision: Decision, looked: bool, watched: bool) -> Decision:
    if decision.permitted and looked:
        # what the kernel carries out after we looked must not hang on what lies in memory
        hidden = call_of(name).pending
        return deny(errno.EPERM, UNSUPPORTED, log=True) if hidden else JUDGED
    return NARROWED if decision.kind == PERMIT and watched else decision


def denial(after: After) -> Rule:
    """Return what a line that has come true says of what it does not keep, as a rule."""
    rule = after.rule
    return Rule(
        rule.emulation, "*", action="deny", errno=errno.EPERM, line=rule.line, text=str(after),
        log=True,
    )
