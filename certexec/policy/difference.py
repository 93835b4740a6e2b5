"""What another version of a policy permits more, and what less (pure).

Two policies are compared by what they say of every call, not by their text: each use of each system
call is judged by both for one call of every class that their rules can tell apart
(certexec.policy.cases), with the evaluator that enforcement uses. So every difference comes with a
call that shows it, and where none is found there is none.
"""

from __future__ import annotations

import errno

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.automaton import TooComplex
from certexec.policy.calls import arguments_of, variants
from certexec.policy.cases import Case, Cases, unwatched
from certexec.policy.errnos import SAME as SAME_ERRNO
from certexec.policy.evaluate import EXECS, effective_rules, evaluate
from certexec.policy.format import meaning
from certexec.policy.narrowing import keeps
from certexec.policy.rule_index import Relevant, relevant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.model import After, Policy, Rule, Subject

WIDENED, NARROWED, OTHERWISE = "widened", "narrowed", "otherwise"
"""More is permitted; less is; as much, in another way: another error, a line in the log, ..."""
UNCLEAR = "unclear"
"""Too many calls to judge, or comparisons that cannot be divided into classes."""
KINDS = (WIDENED, NARROWED, OTHERWISE)
_ODD = 50
"""bytes that an example may be longer for not being odd"""
DOTDOT = 'a name that is written with ".."'
_DENIED, _ASKED, _PERMITTED, _ELEVATED, _LET_GO = range(5)
"""How much an answer gives."""


class Said:
    """What a policy says of one call.

    Attributes:
        rank: how much that gives; text: as rules write it; rule: which says so, None: no rule.
    """

    __slots__ = ("rank", "rule", "text")

    def __init__(self, rank: int, text: str, rule: Rule | None) -> None:
        self.rank = rank
        self.text = text
        self.rule = rule


class Change:
    """A call of which the two policies say different things.

    Attributes:
        kind: one of KINDS; old, new: what they say; case: the call; when: what it takes beside the
            call, "" for nothing.
    """

    __slots__ = ("case", "kind", "new", "old", "when")

    def __init__(self, kind: str, old: Said, new: Said, case: Case, when: str) -> None:
        self.kind = kind
        self.old = old
        self.new = new
        self.case = case
        self.when = when


class UseDifference:
    """One use of a system call, as both policies judge it.

    Attributes:
        call: Linux's name; use: which of the things that it does, "" for the only one.
        changes: at most one of each kind, none where it is the same.
        exact: nothing can have been missed.
    """

    __slots__ = ("call", "changes", "exact", "use")

    def __init__(self, call: str, use: str, changes: Sequence[Change], exact: bool) -> None:
        self.call = call
        self.use = use
        self.changes = changes
        self.exact = exact

    @property
    def kinds(self) -> tuple[str, ...]:
        """What became of it: some of KINDS."""
        return tuple(change.kind for change in self.changes)


class Situation:
    """Something beside the call that one of the policies looks at."""

    __slots__ = ("after", "dotdot")

    def __init__(self, dotdot: bool = False, after: After | None = None) -> None:
        self.dotdot = dotdot
        self.after = after

    def __str__(self) -> str:
        if self.after is not None:
            return f"once this has happened: {self.after.rule}"
        return DOTDOT if self.dotdot else ""


def compare(
    old: Policy, new: Policy, subjects: Sequence[Subject] | None = None,
    watch: Callable[[int, int], None] = unwatched,
) -> list[UseDifference]:
    """Return every use of every system call with what has changed, by number of the call.

    ``subjects``: whose calls; None: everybody's. ``watch``: is told how many calls of how many
    are done.
    """
    situations = [Situation()]
    if bool(old.no_dotdot) != bool(new.no_dotdot):
        situations.append(Situation(dotdot=True))
    known = {_after_key(one) for one in old.afters} & {_after_key(one) for one in new.afters}
    situations += [
        Situation(after=one) for one in (*old.afters, *new.afters) if _after_key(one) not in known
    ]
    done: dict[object, tuple[list[Change], bool]] = {}
    found = []
    for at, name in enumerate(NUMBERS):
        watch(at, len(NUMBERS))
        for variant in variants(name):
            key = (
                tuple(map(id, effective_rules(old, name, variant.label))),
                tuple(map(id, effective_rules(new, name, variant.label))),
                tuple((one.name, one.register) for one in arguments_of(name, variant)),
                name in EXECS, variant.tests, _opens(variant),
                tuple(_keeps(each.after, old, new, name, variant) for each in situations),
            )
            if key not in done:
                done[key] = _compare_use(old, new, name, variant, situations, subjects)
            found.append(UseDifference(name, variant.label, *done[key]))
    return found


def _opens(variant: Variant) -> str:
    return variant.label if variant.label in ("read", "write") else ""


def _after_key(after: After) -> tuple[object, ...]:
    return meaning(after.rule), after.only


def _keeps(
    after: After | None, old: Policy, new: Policy, name: str, variant: Variant
) -> bool:
    if after is None:
        return True
    return keeps(old if after in old.afters else new, after, name, variant.label)


def _compare_use(
    old: Policy, new: Policy, name: str, variant: Variant, situations: Sequence[Situation],
    subjects: Sequence[Subject] | None,
) -> tuple[list[Change], bool]:
    before = effective_rules(old, name, variant.label)
    after = effective_rules(new, name, variant.label)
    if (
        len(situations) == 1 and old.detached == new.detached
        and [meaning(rule) for rule in before] == [meaning(rule) for rule in after]
    ):
        return [], True
    try:
        cases = Cases((*before, *after), name, variant, subjects)
    except TooComplex:
        return [], False
    judges = relevant(before), relevant(after)
    named = any(argument.name == "filename" for argument in arguments_of(name, variant))
    changes: dict[str, Change] = {}
    for situation in situations:
        if situation.dotdot and not named:
            continue
        if len(changes) == len(KINDS):
            break
        for case in cases:
            one = _say(old, judges[0], name, variant, case, situation)
            two = _say(new, judges[1], name, variant, case, situation)
            kind = _kind(one, two)
            if kind and (kind not in changes or _plainer(case, changes[kind], situation)):
                changes[kind] = Change(kind, one, two, case, str(situation))
    return [changes[kind] for kind in KINDS if kind in changes], cases.exact


def _kind(old: Said, new: Said) -> str:
    if old.rank != new.rank:
        return WIDENED if new.rank > old.rank else NARROWED
    return OTHERWISE if old.text != new.text else ""


def _plainer(case: Case, known: Change, situation: Situation) -> bool:
    """Tell whether a call is a better example than one that is known: it has plainer texts."""
    return known.when == str(situation) and _oddness(case) < _oddness(known.case)


def _oddness(case: Case) -> int:
    """Return the length of all texts; empty ones show nothing, and capitals are seldom meant."""
    texts = [text for each in case.values.values() for text in each]
    odd = sum(1 for text in texts if not text or text != text.lower() and b"_" not in text)
    return sum(map(len, texts)) + _ODD * odd


def _say(
    policy: Policy, rules: Relevant, name: str, variant: Variant, case: Case,
    situation: Situation,
) -> Said:
    if policy.detached:
        return Said(_LET_GO if name in EXECS else _PERMITTED, "permit", None)
    if situation.dotdot and policy.no_dotdot:
        return Said(_DENIED, "deny", None)
    said = say(rules.to(case.values, case.subject), name, case)
    after = situation.after
    if (
        after is not None and after in policy.afters and said.rank > _DENIED
        and not keeps(policy, after, name, variant.label)
    ):
        return Said(_DENIED, "deny", after.rule)
    return said


def say(rules: Sequence[Rule], name: str, case: Case) -> Said:
    """Return what effective rules say of a call; ``name``: Linux's."""
    verdict = evaluate(rules, case.values, case.subject)
    if verdict is None:
        return Said(_DENIED, "deny", None)
    rule = verdict.rule
    text, rank = rule.action, _DENIED
    if rule.action == "deny":
        named = rule.errno_name if rule.errno_name in SAME_ERRNO else ""
        named = named or errno.errorcode[rule.errno].lower()
        text += "" if rule.errno == errno.EPERM else f"[{named}]"
    elif rule.action == "ask":
        rank = _ASKED
    elif rule.action == "permit":
        rank = _PERMITTED
        if name in EXECS and (rule.detach or rule.inherit):
            text += "[detach]" if rule.detach else "[inherit]"
            rank = _LET_GO if rule.detach else rank
        if rule.elevate is not None:
            uid, gid = rule.elevate
            text += f" as {'' if uid is None else uid}{'' if gid is None else f':{gid}'}"
            rank = max(rank, _ELEVATED)
    return Said(rank, text + (" log" if rule.log else ""), rule)


def kinds_of(differences: Iterable[UseDifference]) -> set[str]:
    """Return all that has changed, UNCLEAR among it where something may have been missed."""
    found = {kind for one in differences for kind in one.kinds}
    if any(not one.exact for one in differences):
        found.add(UNCLEAR)
    return found
