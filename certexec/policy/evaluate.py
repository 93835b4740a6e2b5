"""The verdict of a policy on one call.

``effective_rules`` puts the rules that govern a call into the order in which they count; the
evaluator and the compiler both start from it. ``evaluate`` finds the first that applies.

Where the certificate lets an agent be asked about what no rule matches, a rule that asks stands
behind all others of each call that can be asked about: ``UNMATCHED_ASK``.

The order is systrace's. A bare permit or deny of a system call was put into the kernel's table, so
it decides before every other rule of that call wherever it stands, and the last one of several
counts. Then come the other rules in the order of the file, then those of the alias, which see the
argument ``filename`` and no other. A matched ``ask`` ends the rules of its own name only: the
alias is still looked at before anybody would be asked.

Source: systrace 1.6g, filter.c (filter_match, filter_evaluate) and systrace.c (trans_cb).
"""

from __future__ import annotations

from certexec.policy.calls import call_of, governing_names, variants
from certexec.policy.model import ALIASES, And, Not, Or, Rule, Subject
from certexec.policy.names import canonical
from certexec.policy.operators import (
    expand,
    make_test,
    needs_expansion,
    pattern_bytes,
    value_bytes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.model import Expression, Policy, Symbol, Values

    Prepared = Callable[[Values, Subject], bool]

EXECS = ("execve", "execveat")
UNMATCHED_ASK = Rule("", "", action="ask", errno=0, line=0, text="what no rule matches")
"""What asks about a call that no rule matches. It stands in no file."""
_NO_VALUES: tuple[bytes, ...] = ()


class Verdict:
    """What a policy says about a call.

    Attributes:
        action: permit, deny or ask.
        errno: Linux error number of a denial, 0 otherwise.
        rule: the one that decided.
        log: whether the call is to be logged.
    """

    __slots__ = ("action", "errno", "log", "rule")

    def __init__(self, rule: Rule) -> None:
        self.action = rule.action
        self.errno = rule.errno
        self.rule = rule
        self.log = rule.log


def rules_named(policy: Policy, name: str) -> Sequence[Rule]:
    """Return the rules of a policy for one canonical name, in the order of the file."""
    if policy.by_name is None:
        policy.by_name = {}
        for rule in policy.rules:
            meaning = canonical(rule.emulation, rule.syscall)
            if meaning is not None:
                policy.by_name.setdefault(meaning, []).append(rule)
    return policy.by_name.get(name, ())


def deciding_rules(policy: Policy, name: str) -> tuple[tuple[Rule, ...], bool]:
    """Return the rules for one canonical name that can decide, in the order in which they count.

    The second value says that they always do: then nothing is looked at after them.
    """
    known = policy.deciding.get(name)
    if known is None:
        known = _deciding(rules_named(policy, name))
        if policy.exec_in is not None and name in EXECS:
            known = (policy.exec_in, *known[0]), known[1]
        policy.deciding[name] = known
    return known


def _deciding(rules: Sequence[Rule]) -> tuple[tuple[Rule, ...], bool]:
    for rule in reversed(rules):
        if rule.simple:
            return (rule,), True
    for index, rule in enumerate(rules):
        if rule.unconditional:
            return tuple(rules[: index + 1]), rule.action != "ask"
    return tuple(rules), False


def effective_rules(policy: Policy, syscall: str, variant: str | None = None) -> tuple[Rule, ...]:
    """Return the rules that decide a Linux system call, in the order in which they count.

    Args:
        policy: whose rules; it must not change afterwards.
        syscall: a Linux x86-64 system call.
        variant: the label of what it does (``Variant.label`` of certexec.policy.calls). It may be
            left out only for a call that does one thing: different things have different rules.

    An unconditional rule ends the list: nothing behind it is ever reached. ``UNMATCHED_ASK`` is
    the last where the policy asks about what none of the others matches.
    Raises KeyError for an unknown call or variant, and where the variant is missing.
    """
    if variant is None and len(variants(syscall)) > 1:
        raise KeyError(f"which variant of {syscall}")
    found: tuple[Rule, ...] = ()
    for name in governing_names(syscall, variant, policy.emulation):
        rules, final = deciding_rules(policy, name)
        found += rules
        if final:
            return found
    if policy.asks_unmatched and can_be_asked(syscall):
        return (*found, UNMATCHED_ASK)
    return found


def can_be_asked(syscall: str) -> bool:
    """Tell whether an agent may be asked about a Linux call that no rule matches.

    Not about io_uring, whose operations pass unseen, nor about what takes a name or an address and
    is not carried out for the caller: that would go on with whatever stands in memory by then.
    """
    return not (syscall.startswith("io_uring") or call_of(syscall).pending)


def is_consulted(policy: Policy, syscall: str, name: str) -> bool:
    """Tell whether a policy's rules for a canonical name are ever looked at for a Linux call.

    They are not where rules for a name that comes before always decide.
    """
    for variant in variants(syscall):
        for governing in governing_names(syscall, variant.label, policy.emulation):
            if governing == name:
                return True
            if deciding_rules(policy, governing)[1]:
                break
    return False


def uses(policy: Policy, syscall: str) -> list[tuple[Variant, tuple[Rule, ...]]]:
    """Return what a Linux system call can do, and the effective rules of each.

    This is what a compiler starts from: where all uses have the same constant rule the call needs
    no look at its arguments, where they differ ``Variant.tests`` tells them apart by registers.
    Raises KeyError for an unknown call.
    """
    return [
        (variant, effective_rules(policy, syscall, variant.label))
        for variant in variants(syscall)
    ]


def constant_rule(rules: Sequence[Rule]) -> tuple[bool, Rule | None]:
    """Tell whether effective rules decide every call alike, and which rule does.

    (True, rule): every call is this rule's. (True, None): no rule governs the call, it is
    unmatched, and denied. (False, None): it depends on the arguments or on the subject.
    """
    if not rules:
        return True, None
    if rules[0].unconditional and rules[0].action != "ask":
        return True, rules[0]
    return False, None


def evaluate(
    rules: Sequence[Rule], values: Mapping[str, Sequence[str | bytes]], subject: Subject
) -> Verdict | None:
    """Return the verdict of the first rule that applies, None when no rule does.

    Args:
        rules: from ``effective_rules``.
        values: argument name in lower case to its texts; an argument that the call does not
            have is missing, and a condition on it does not hold.
        subject: whose call it is.
    """
    encoded: dict[str, Sequence[bytes]] = {
        name: [value_bytes(text) for text in texts] for name, texts in values.items()
    }
    aliased: dict[str, Sequence[bytes]] | None = None
    asked: Rule | None = None
    for rule in rules:
        if asked is not None and (rule.syscall == asked.syscall or rule is UNMATCHED_ASK):
            continue
        if rule.predicate is not None and not rule.predicate.holds(subject):
            continue
        seen = encoded
        if rule.syscall in ALIASES:
            if aliased is None:
                aliased = {"filename": encoded.get("filename", _NO_VALUES)}
            seen = aliased
        test = rule.prepared
        if test is None:
            test = rule.prepared = prepare(rule.expression)
        if test(seen, subject):
            if rule.action == "ask":
                asked = rule
                continue
            return Verdict(rule)
    return None if asked is None else Verdict(asked)


def prepare(expression: Expression) -> Prepared:
    """Make an expression ready to run: a function of argument texts (bytes) and subject.

    Chains of ``and``, ``or`` and ``not`` are taken in a loop, so that the longest line does not
    reach Python's recursion limit.
    """
    negated = False
    node = expression
    while isinstance(node, Not):
        negated = not negated
        node = node.operand
    test = _junction(node) if isinstance(node, (And, Or)) else _comparison(node)
    if not negated:
        return test

    def inverse(values: Values, subject: Subject) -> bool:
        return not test(values, subject)

    return inverse


def _junction(expression: And | Or) -> Prepared:
    kind = expression.__class__
    parts = [prepare(expression.left)]
    node = expression.right
    while isinstance(node, kind):
        parts.append(prepare(node.left))
        node = node.right
    parts.append(prepare(node))
    # "and" is decided by the first part that does not hold, "or" by the first that does.
    decisive = kind is Or

    def test(values: Values, subject: Subject) -> bool:
        for part in parts:
            if part(values, subject) is decisive:
                return decisive
        return not decisive

    return test


def _comparison(symbol: Symbol) -> Prepared:
    operator = symbol.operator
    if operator == "true":
        return lambda values, subject: True
    argument = symbol.argument.lower()
    index = max(symbol.offset, 0)
    data = symbol.data
    if needs_expansion(data):
        return _expanded(argument, index, operator, data)
    satisfies = make_test(operator, pattern_bytes(data))

    def test(values: Values, subject: Subject) -> bool:
        texts = values.get(argument)
        return texts is not None and index < len(texts) and satisfies(texts[index])

    return test


def _expanded(argument: str, index: int, operator: str, data: str) -> Prepared:
    """Compare with a string that holds macros: made anew when the subject is another one."""
    made_for: tuple[str, str, str] | None = None
    satisfies = make_test("eq", b"")

    def test(values: Values, subject: Subject) -> bool:
        nonlocal made_for, satisfies
        texts = values.get(argument)
        if texts is None or index >= len(texts):
            return False
        wanted = (subject.home, subject.user, subject.cwd)
        if made_for != wanted:
            satisfies = make_test(operator, pattern_bytes(expand(data, subject)))
            made_for = wanted
        return satisfies(texts[index])

    return test


def subject_of(uid: int, gid: int, *, home: str | None, user: str | None, cwd: str) -> Subject:
    """Make a subject; a uid that nobody has gets systrace's name and home for it."""
    return Subject(uid, gid, home or "/var/empty", user or f"unknown({uid})", cwd)
