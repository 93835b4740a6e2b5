"""Which layer enforces what: the table behind the filter, told call by call and rule by rule."""

from __future__ import annotations

from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy.calls import arguments_of, call_of, reaches, variants
from certexec.policy.combine import Combined
from certexec.policy.compile import table_for
from certexec.policy.decisions import (
    ALWAYS,
    IO_URING,
    LANDLOCK_RESTRICT_SELF,
    SETTLED,
    Table,
)
from certexec.policy.elevation import elevations
from certexec.policy.evaluate import UNMATCHED_ASK, effective_rules
from certexec.policy.guards import (
    BY_POLICY,
    CLONE3,
    LANDLOCKED,
    NOTIFY,
    RULES,
    UNMATCHED,
    UNSUPPORTED,
)
from certexec.policy.landlock import landlocked
from certexec.policy.model import parts
from certexec.policy.nest import LauncherTable
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.split import split
from certexec.policy.tree import TreeOptions
from certexec.policy.unsupported import unsupported_in, why_unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.guards import Clause, Decision, Test
    from certexec.policy.model import Policy, Rule
    from certexec.policy.split import Possible

    AnyTable = Table | Combined

CONSTANT = "constant"
"""The kernel decides by the call's number."""
COMPARE = "compare"
"""The kernel decides by argument registers."""
LANDLOCK = "landlock"
"""The kernel decides by the program's Landlock domain."""
SUPERVISED = "supervised"
"""The supervisor decides."""
OVERRULED = "overruled"
"""Another rule, or certexec itself, decides every call that this one reaches."""
INACTIVE = "inactive"
"""The rule's name means no system call here."""
REFUSED = "refused"
"""It cannot be enforced: signing refuses the rule, or the call is denied and logged."""

_LAYERS = (CONSTANT, COMPARE, LANDLOCK, SUPERVISED, REFUSED)
CANNOT_BE_JUDGED = "its arguments cannot be judged yet: every such call is denied and logged"
_NOTES: dict[int, str] = {
    **dict.fromkeys(ALWAYS, "permitted whatever the policy says: every program can end"),
    **dict.fromkeys(IO_URING, "its operations would pass by rules and denials of other calls"),
    CLONE3: "denied whatever the policy says: its flags lie in memory, and C libraries take clone",
    LANDLOCK_RESTRICT_SELF:
        "denied where the supervisor opens files: the program's own domain would not bind it",
}
"""Number to why certexec settles the call itself, or may."""
_EITHER = {True, False}
_OTHERWISE = "otherwise"
"""The reason of a clause that several last uses of a call share."""


class Use:
    """One use of a system call, and what happens to it.

    Attributes:
        call: Linux's name.
        use: which of several things the call does, or why certexec decides here; "" for all.
        layer: CONSTANT, COMPARE, SUPERVISED or REFUSED.
        decision: what happens.
        tests: of argument registers, all of which hold for this use.
        guard: certexec put it in front of the policy's rules; ``use`` says why.
    """

    __slots__ = ("call", "decision", "guard", "layer", "tests", "use")

    def __init__(
        self, call: str, use: str, layer: str, decision: Decision, tests: Sequence[Test],
        guard: bool,
    ) -> None:
        self.call = call
        self.use = use
        self.layer = layer
        self.decision = decision
        self.tests = tests
        self.guard = guard


class RuleLayers:
    """A rule and the layers that enforce it.

    Attributes:
        rule: which.
        layers: layer to the Linux calls that the rule is about there.
        why: why it cannot be enforced, "" when it can.
    """

    __slots__ = ("layers", "rule", "why")

    def __init__(self, rule: Rule, layers: dict[str, list[str]], why: str) -> None:
        self.rule = rule
        self.layers = layers
        self.why = why


class CallUses:
    """A system call: what certexec puts in front, and its uses with the rules that decide them.

    Attributes:
        name, number: of the call.
        guards: what is tried before any rule.
        differs: the tree's policies differ about this call, so that the supervisor looks whose
            counts; the rest is told as it is where this one does.
        variants: each of its variants, the uses that the filter makes of it, and the effective
            rules in the order in which they count.
        note: why certexec settles this call, "" where it does not.
        asked: the labels of the variants of which an agent is asked where no rule matches.
    """

    __slots__ = ("asked", "differs", "guards", "name", "note", "number", "variants")

    def __init__(
        self, name: str, guards: list[Use],
        each: list[tuple[Variant, list[Use], tuple[Rule, ...]]], note: str, differs: bool,
        asked: set[str],
    ) -> None:
        self.name = name
        self.asked = asked
        self.differs = differs
        self.number = NUMBERS[name]
        self.guards = guards
        self.variants = each
        self.note = note


class Tree:
    """A policy in the tree of its own program, with all policies that the tree can get to.

    Attributes:
        policy: the program's.
        own: the decisions by this policy.
        whole: what the filter is compiled from: where the policies differ, the supervisor decides.
        policies: how many the tree can get to.
        unfit: why Landlock does not enforce more of a policy that accepts it, else "".
    """

    __slots__ = ("own", "policies", "policy", "unfit", "whole")

    def __init__(
        self, policy: Policy, others: Sequence[Policy] = (), *, inherit: bool = True,
        full_log: bool = False, privileged: bool = False, abi: int = 0,
        inside: Sequence[Policy] | None = None,
    ) -> None:
        """Decide, as for a certificate that says so.

        ``others``: the other policies that programs may come under, the signed ones first;
        ``abi``: the kernel's version of Landlock, 0 for none; ``inside``: the policies of the
        certificates that may be executed, None where rules name none.
        Raises PolicyError("policy-unsupported") as ``Table`` does.
        """
        self.policy = policy
        granted = elevations(parts(policy))
        changes = not granted and changes_policies(policy, inherit)
        own_policies = changes or (inside is not None and not granted)
        options = TreeOptions(
            full_log=full_log, privileged=privileged, capable=privileged,
            own_policies=own_policies, elevations=granted, may_exec=not granted,
        )
        self.own = table_for(policy, options)
        self.unfit = ""
        if policy.landlock and policy.foreign is not None:
            self.unfit = "the 32-bit ABI is admitted"
        elif policy.landlock:
            self._leave_to_landlock(options, abi)
        self.whole: AnyTable = self.own
        self.policies = 1
        if own_policies:
            usable = [
                one for one in others
                if not elevations(parts(one))
                and not any(unsupported_in(part, inherit=True, detach=True) for part in parts(one))
            ]
            reached = [*Reach(policy, usable if changes else ()).policies[1:], *(inside or ())]
            tables = [table_for(one, options) for one in reached]
            launcher = None if inside is None else LauncherTable()
            self.whole = Combined([self.own, *tables], launcher)
            self.policies = 1 + len(reached)

    def _leave_to_landlock(self, options: TreeOptions, abi: int) -> None:
        if options.own_policies:
            self.unfit = "executed programs come under policies of their own"
        elif options.full_log:
            self.unfit = "it writes no log line, and every denial is to have one"
        else:
            options.landlocked, self.unfit = landlocked(self.policy, abi, None)
            own = Table(self.policy, options)
            if own.needs_listener and options.capable:
                self.unfit = "the supervisor opens every file where an identity is granted"
            else:
                self.own = own


def explain_calls(table: AnyTable) -> Iterator[Use]:
    """Yield the uses of every call of which a rule, or certexec itself, speaks; by number."""
    for number in sorted(table.clauses):
        yield from _uses(table, NAMES[number])


def explain_rules(tree: Tree) -> Iterator[RuleLayers]:
    """Yield each rule of the tree's own policy with the layers that enforce it.

    A rule that never decides anything is OVERRULED in the calls that it reaches, one that reaches
    none is INACTIVE.
    """
    policy = tree.policy
    every = [*([] if policy.exec_in is None else [policy.exec_in]), *policy.rules]
    layers: dict[int, dict[str, list[str]]] = {id(rule): {} for rule in every}
    for name in NUMBERS:
        uses = _uses(tree.whole, name)
        settled = NUMBERS[name] in SETTLED
        for variant in variants(name):
            rules = effective_rules(policy, name, variant.label)
            own = _of_variant(uses, variant.label)
            alone = _decided_by_registers(rules, name, variant) if len(own) > 1 else {}
            for rule in rules:
                if rule is UNMATCHED_ASK or settled and not _agrees(rule, uses):
                    continue
                for layer in _layers_of_rule(own, alone.get(id(rule), _EITHER)):
                    calls = layers[id(rule)].setdefault(layer, [])
                    if name not in calls:
                        calls.append(name)
    for rule in every:
        found = {one: layers[id(rule)][one] for one in _LAYERS if one in layers[id(rule)]}
        why = why_unsupported(policy, rule, inherit=True, detach=True)
        reached = list(reaches(rule))
        if why:
            found = {REFUSED: reached}
        elif REFUSED in found:
            why = CANNOT_BE_JUDGED
        elif not found:
            found = {OVERRULED: reached} if reached else {INACTIVE: []}
        yield RuleLayers(rule, found, why)


def explain_call(tree: Tree, name: str) -> CallUses:
    """Return what happens to one Linux call. Raises KeyError for an unknown one."""
    uses = _uses(tree.own, name)
    each, asked = [], set()
    for variant in variants(name):
        rules = effective_rules(tree.policy, name, variant.label)
        if UNMATCHED_ASK in rules:
            rules = rules[:-1]
            asked.add(variant.label)
        own = _of_variant([use for use in uses if not use.guard], variant.label)
        each.append((variant, own, rules))
    number = NUMBERS[name]
    note = _NOTES.get(number, "") if number in SETTLED or _is_overruled(each) else ""
    guards = [use for use in uses if use.guard]
    differs = any(clause.decision.why == BY_POLICY for clause in tree.whole.of(number))
    return CallUses(name, guards, each, note, differs, set() if note else asked)


def _is_overruled(each: list[tuple[Variant, list[Use], tuple[Rule, ...]]]) -> bool:
    """Tell whether a call is denied although a rule permits it, or without any rule."""
    return all(
        use.decision.denied and use.decision.why != UNMATCHED
        and (not rules or rules[0].action == "permit")
        for _, uses, rules in each for use in uses
    )


def _agrees(rule: Rule, uses: list[Use]) -> bool:
    """Tell whether a rule says the same of a call as certexec, which settles it."""
    return rule.unconditional and rule.action == "permit" and uses[-1].decision.permitted


def _uses(table: AnyTable, name: str) -> list[Use]:
    clauses = table.of(NUMBERS[name])
    labels = {variant.label for variant in call_of(name).variants} | {"", _OTHERWISE}
    return [
        Use(
            name, clause.reason, _layer(clauses, clause), clause.decision, clause.tests,
            clause.reason not in labels,
        )
        for clause in clauses
    ]


def _of_variant(uses: list[Use], label: str) -> list[Use]:
    """Return the uses of a variant; those that are decided alike share the last clauses."""
    own = [use for use in uses if use.use == label]
    return own or [use for use in uses if use.use in ("", _OTHERWISE)] or uses[-1:]


def _decided_by_registers(
    rules: Sequence[Rule], name: str, variant: Variant
) -> dict[int, set[bool]]:
    """Return for each rule that may decide whether registers alone say where it does."""
    found: dict[int, set[bool]] = {}

    def note(possible: Iterable[Possible]) -> bool:
        alone = True
        for each in possible:
            alone = alone and each.certain
            found.setdefault(id(each.rule), set()).add(alone)
        return True

    split(rules, arguments_of(name, variant), note)
    return found


def _layers_of_rule(uses: list[Use], alone: set[bool]) -> set[str]:
    """Return the layers of a rule that decides by registers alone, or not, or both."""
    return {
        use.layer for use in uses
        if use.decision.why != UNMATCHED and (use.decision.why != RULES or False in alone)
        and (use.layer not in (CONSTANT, COMPARE) or True in alone)
    }


def _layer(clauses: Sequence[Clause], clause: Clause) -> str:
    if clause.decision.why == UNSUPPORTED:
        return REFUSED
    if clause.decision.kind == NOTIFY:
        return SUPERVISED
    if clause.decision == LANDLOCKED:
        return LANDLOCK
    return COMPARE if len(clauses) > 1 else CONSTANT
