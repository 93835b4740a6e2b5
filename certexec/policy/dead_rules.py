"""Rules that never decide, exactly, and rules that a log never saw at work (pure).

certexec.policy.lint finds what one other rule shadows. This finds also what several do together,
by judging a call of every class (certexec.policy.cases), and what lies beyond single rules: a file
that may be written and executed, memory that is both, a start at home. It takes longer, so
only who asks for warnings pays.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.automaton import TooComplex
from certexec.policy.calls import arguments_of, reaches, variants
from certexec.policy.cases import Cases, unwatched
from certexec.policy.evaluate import effective_rules, evaluate, prepare
from certexec.policy.finding import Finding
from certexec.policy.format import quote
from certexec.policy.model import MACROS, symbols
from certexec.policy.question import uses_of
from certexec.policy.reachable import MAPPINGS, writable_code, written_and_executed
from certexec.policy.rule_index import relevant
from certexec.policy.start_place import lint_starts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from certexec.policy.model import Policy, PolicyFile, Rule, Subject


Call = tuple[str, "Mapping[str, Sequence[str]]", "Subject", str]
"""Linux's name of a call, its texts, whose it was, and the verdict that was written down."""


def lint_exactly(
    file: PolicyFile, known: Sequence[Finding], watch: Callable[[int, int], None] = unwatched
) -> list[Finding]:
    """Return warnings that take judging calls; ``known``: those of lint, which come first.

    ``watch``: is told, for each policy, how many calls of how many are done.
    """
    found: list[Finding] = []
    warned = {finding.line for finding in known}
    for policy in file.policies:
        found += _dead(policy, warned, watch)
        found += _reachable(policy)
        found += lint_starts(policy)
    return found


def _reachable(policy: Policy) -> list[Finding]:
    found = []
    if (both := written_and_executed(policy)) is not None and not policy.detached:
        path, call = both
        found.append(
            Finding(
                policy.line, "write-exec",
                f"what the program writes it can execute: {quote(path)}, by {call} and execve",
                "permit execve only where nothing may be written",
            )
        )
    asks = any(
        symbol.argument.lower() == "prot" for name in MAPPINGS
        for rule in effective_rules(policy, name, "") for symbol in symbols(rule.expression)
    )
    if asks and (memory := writable_code(policy)) is not None:
        name, prot = memory
        found.append(
            Finding(
                policy.line, "wx-memory",
                f'memory can be writable and executable although rules ask for "prot": '
                f"{name} with {prot}",
                f"judge {', '.join(MAPPINGS)} alike",
            )
        )
    return found


def _dead(
    policy: Policy, warned: set[int], watch: Callable[[int, int], None]
) -> list[Finding]:
    """Find rules that decide no call at all."""
    candidates = {
        id(rule): rule for rule in policy.rules
        if rule.line not in warned and not rule.simple and not rule.origin and not rule.flaw
        and reaches(rule)
    }
    if not candidates:
        return []
    asked: set[int] = set()
    fulfilled: set[int] = set()
    seen: set[object] = set()
    for at, name in enumerate(NUMBERS):
        watch(at, len(NUMBERS))
        for variant in variants(name):
            rules = effective_rules(policy, name, variant.label)
            waiting = [rule for rule in rules if id(rule) in candidates]
            shape = tuple((one.name, one.register) for one in arguments_of(name, variant))
            key = tuple(map(id, rules)), shape, variant.label
            if not waiting or key in seen:
                continue
            seen.add(key)
            asked.update(map(id, waiting))
            judges = relevant(rules)
            try:
                cases = Cases(rules, name, variant)
                for case in cases:
                    may_apply = judges.to(case.values, case.subject)
                    verdict = evaluate(may_apply, case.values, case.subject)
                    if verdict is not None:
                        candidates.pop(id(verdict.rule), None)
                    for rule in may_apply:
                        if id(rule) not in fulfilled and id(rule) in candidates:
                            rule.prepared = rule.prepared or prepare(rule.expression)
                            holds = rule.prepared(case.values, case.subject)
                            fulfilled.update((id(rule),) if holds else ())
                exact = cases.exact
            except TooComplex:
                exact = False
            if not exact:
                for rule in waiting:
                    candidates.pop(id(rule), None)
    return [
        Finding(
            rule.line, *(
                ("shadowed", "this rule never decides: others before it take all that it is about")
                if id(rule) in fulfilled else
                ("never", "no call at all can fulfil the conditions of this rule")
            ),
        )
        for rule in candidates.values() if id(rule) in asked  # else lint knows
    ]


# ---- in the light of a log -----------------------------------------------------------------------


def unused(policy: Policy, calls: Iterable[Call]) -> list[Finding]:
    """Find rules that decided none of the calls in a log, as far as it would show that.

    A log has what a rule with ``log`` decides; it has all that is permitted, or denied, only where
    the certificate says so, and then it holds such a call by a rule without ``log``.
    """
    hit: set[int] = set()
    shows = {"permit": False, "deny": False}
    for name, values, subject, verdict in calls:
        for rule in _deciding(policy, name, values, subject):
            hit.add(id(rule))
            if not rule.log and rule.action == verdict and verdict in shows:
                shows[verdict] = True
    found = [
        Finding(rule.line, "unused", "no call in the log was decided by this rule")
        for rule in policy.rules
        if id(rule) not in hit and not rule.origin and reaches(rule) and _would_show(rule)
        and (rule.log or shows.get(rule.action, False))
    ]
    if not any(shows.values()) and not any(rule.log for rule in policy.rules):
        found.append(
            Finding(
                policy.line, "unused", "the log does not say which rules were at work",
                'it does under "sign --log-all" and "sign --log full"',
            )
        )
    return found


def _deciding(
    policy: Policy, name: str, values: Mapping[str, Sequence[str]], subject: Subject
) -> list[Rule]:
    if name not in NUMBERS:
        return []
    found = []
    for use in uses_of(policy, name, _known(name, values)):
        verdict = evaluate(use.rules, values, subject)
        if verdict is not None:
            found.append(verdict.rule)
    return found


def _known(name: str, values: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Leave out what the call does not have: a log may say anything."""
    flags = values.get("oflags")
    return {"oflags": flags} if flags and name in ("open", "openat", "openat2") else {}


def _would_show(rule: Rule) -> bool:
    """Tell whether a log holds all that the rule asks for: it knows no group and no $CWD."""
    if rule.predicate is not None and rule.predicate.kind == "group":
        return False
    return not any(MACROS[2] in symbol.data for symbol in symbols(rule.expression))
