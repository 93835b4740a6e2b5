"""What a policy says about a call that is described by texts, as a person would ask.

The name may be that of a call of Linux (``openat``; ``openat:write`` names one of the things that
it does), a classic name (``sigaction``), an alias (``fsread``), or another system's name for one of
these (``break``). Arguments are given as rules see them; nothing is looked up. When the answer
hangs on what was not said, there is none.
"""

from __future__ import annotations

import difflib
import errno

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import arguments_of, call_of, governing_names, reaches, variants
from certexec.policy.dotdot import denial, has_dotdot
from certexec.policy.evaluate import (
    UNMATCHED_ASK,
    Verdict,
    deciding_rules,
    effective_rules,
    evaluate,
    prepare,
)
from certexec.policy.model import ALIASES, Not, Rule, Symbol, postorder
from certexec.policy.names import ABSENT, CLASSIC, canonical
from certexec.policy.narrowing import denial as denial_after
from certexec.policy.narrowing import keeps
from certexec.policy.operators import value_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.model import After, Policy, Subject

    Values = Mapping[str, Sequence[str]]

ARGUMENTS = frozenset(
    (
        "filename", "string", "sockaddr", "sockdom", "socktype", "oflags", "mode", "uid", "gid",
        "fd", "uname", "argv", "prot", "cmd", "pidname", "signame", "flags",
    )
)
"""The names of arguments in rules (certexec.policy(5))."""
OFFSETS = 10
"""An argument's offset is below this, as in rules."""
_CLOSE = 0.75


class Use:
    """One thing that the call in question can do.

    Attributes:
        call: Linux's name; "" for an alias or a classic name.
        variant: which of the things that it does, "" for the only one.
        rules: those that govern it, in the order in which they count.
        arguments: the names of its arguments, one for each; None: not described.
    """

    __slots__ = ("arguments", "call", "rules", "variant")

    def __init__(
        self, call: str, variant: str, rules: tuple[Rule, ...], arguments: tuple[str, ...] | None
    ) -> None:
        self.call = call
        self.variant = variant
        self.rules = rules
        self.arguments = arguments

    def has(self, rule: Rule, name: str, offset: int) -> bool:
        """Tell whether a rule sees such an argument of the call."""
        if rule.syscall in ALIASES:
            return name == "filename" and offset == 0
        if self.arguments is None:
            return name in ARGUMENTS
        return self.arguments.count(name) > offset


class Answer:
    """What the policy says.

    Attributes:
        action: permit, deny or ask.
        errno: Linux error number of a denial, else 0.
        rule: the one that decided; None: no rule applied, which is a denial, or a question where
            the policy asks about that.
        log: the call is logged.
        use: what was judged; the first where several uses have the same answer.
    """

    __slots__ = ("action", "errno", "log", "rule", "use")

    def __init__(self, verdict: Verdict | None, use: Use) -> None:
        self.action = "deny" if verdict is None else verdict.action
        self.errno = errno.EPERM if verdict is None else verdict.errno
        self.rule = None if verdict is None or verdict.rule is UNMATCHED_ASK else verdict.rule
        self.log = verdict is not None and verdict.log
        self.use = use


def ask(
    policy: Policy, name: str, values: Values, subject: Subject, after: Sequence[After] = ()
) -> Answer:
    """Return what the policy says about a call.

    Args:
        policy: which one.
        name: of the call, as described above.
        values: argument name in lower case to its texts.
        subject: whose call it is.
        after: lines of the policy that have come true.

    Raises PolicyError("usage"): there is no such call, it has no such argument, or the answer
    depends on what was not given.
    """
    uses = uses_of(policy, name, values)
    if policy.no_dotdot and any(has_dotdot(text) for text in values.get("filename", ())):
        return Answer(Verdict(denial(policy)), uses[0])
    answers = [
        _narrowed(policy, name, _answer(use, values, subject), after) for use in uses
    ]
    first = answers[0]
    for other in answers[1:]:
        if (other.action, other.errno, other.log) != (first.action, first.errno, first.log):
            raise PolicyError(
                "usage",
                f"{first.use.call} can do several things, which the policy judges differently: "
                + ", ".join(use.variant for use in uses),
                f'say which: "{first.use.call}:{first.use.variant}"'
                + (', or give "oflags=..."' if _is_open(uses) else ""),
            )
    return first


def uses_of(policy: Policy, name: str, values: Values) -> list[Use]:
    """Return what the named call can do, as far as the texts leave it open. Raises as ``ask``."""
    plain, _, label = name.removeprefix(policy.emulation + "-").partition(":")
    meaning = canonical(policy.emulation, plain)
    if meaning is None:
        raise _unknown(policy, plain)
    if meaning in NUMBERS:
        chosen = [
            use for use in _uses_of_call(policy, meaning) if not label or use.variant == label
        ]
        if not chosen:
            known = ", ".join(one.label for one in variants(meaning) if one.label)
            raise PolicyError(
                "usage", f'{meaning} does no "{label}"', f"it does: {known}" if known else ""
            )
        if not label:
            chosen = _by_flags(chosen, values)
    elif label:
        raise PolicyError("usage", f'only calls of Linux x86-64 have uses: "{plain}" is none')
    else:
        chosen = [_use_of_name(policy, meaning)]
    _check_arguments(plain, chosen, values)
    return chosen


def _uses_of_call(policy: Policy, call: str) -> list[Use]:
    return [
        Use(
            call, variant.label, effective_rules(policy, call, variant.label),
            _names_of_arguments(call, variant),
        )
        for variant in variants(call)
    ]


def _names_of_arguments(call: str, variant: Variant) -> tuple[str, ...]:
    # a bare use has arguments that are not there: who asks may speak of them all the same
    described = call_of(call).arguments if variant.bare else arguments_of(call, variant)
    return tuple(argument.name for argument in described)


def _use_of_name(policy: Policy, name: str) -> Use:
    """Return the use for an alias or a classic name: its own rules, then those after it."""
    if name in ALIASES:
        return Use("", "", _rules(policy, (name,)), ("filename",))
    for call in calls_of(policy, name):
        for variant in variants(call):
            governing = governing_names(call, variant.label, policy.emulation)
            if name in governing:
                return Use(
                    "", "", _rules(policy, governing[governing.index(name) :]),
                    _names_of_arguments(call, variant),
                )
    return Use("", "", _rules(policy, (name,)), None)


def _rules(policy: Policy, names: Sequence[str]) -> tuple[Rule, ...]:
    found: tuple[Rule, ...] = ()
    for name in names:
        rules, final = deciding_rules(policy, name)
        found += rules
        if final:
            return found
    return (*found, UNMATCHED_ASK) if policy.asks_unmatched else found


def _by_flags(uses: list[Use], values: Values) -> list[Use]:
    """Tell the uses of an open apart by the text of its flags: "ro" without "c" and "t" reads."""
    if "oflags" not in values or not _is_open(uses):
        return uses
    flags = values["oflags"][0].lower()
    reads = flags.startswith("ro") and not set(flags[2:]) & set("ct")
    return uses[:1] if reads else uses[1:]


def _is_open(uses: Sequence[Use]) -> bool:
    return [use.variant for use in uses] == ["read", "write"]


def _check_arguments(name: str, uses: Sequence[Use], values: Values) -> None:
    for given, texts in values.items():
        if given not in ARGUMENTS:
            raise PolicyError(
                "usage", f'there is no argument "{given}"', _did_you_mean(given, ARGUMENTS)
            )
        for use in uses:
            if use.arguments is not None and use.arguments.count(given) < len(texts):
                which = given if len(texts) == 1 else f"{given}[{len(texts) - 1}]"
                known = ", ".join(dict.fromkeys(use.arguments)) or "none"
                raise PolicyError("usage", f'{name} has no argument "{which}"', f"it has: {known}")


def _answer(use: Use, values: Values, subject: Subject) -> Answer:
    _refuse_unsaid(use, values, subject)
    return Answer(evaluate(use.rules, values, subject), use)


def _narrowed(policy: Policy, name: str, answer: Answer, lines: Sequence[After]) -> Answer:
    """Return an answer as it is once some lines have come true."""
    if answer.action not in ("permit", "ask"):
        return answer
    use = answer.use
    meaning = canonical(policy.emulation, name.removeprefix(policy.emulation + "-"))
    for line in lines:
        kept = keeps(policy, line, use.call, use.variant) if use.call else meaning in line.only
        if not kept:
            return Answer(Verdict(denial_after(line)), use)
    return answer


def _refuse_unsaid(use: Use, values: Values, subject: Subject) -> None:
    """Raise PolicyError("usage") when a rule that is looked at asks for what was not given."""
    asked = ""
    for rule in use.rules:
        if rule.syscall == asked:
            continue
        if rule.predicate is not None and not rule.predicate.holds(subject):
            continue
        holds = _holds(use, rule, values, subject)
        if isinstance(holds, str):
            raise PolicyError(
                "usage",
                f'the answer depends on "{holds}", which is not given '
                f"(line {rule.line}: {rule})",
                f'add "{holds}=..."',
            )
        if holds and rule.action != "ask":
            return
        if holds:
            asked = rule.syscall


def _holds(use: Use, rule: Rule, values: Values, subject: Subject) -> bool | str:
    """Tell whether a rule's expression holds, or return the argument on which that depends."""
    encoded = {
        name: [value_bytes(text) for text in texts] for name, texts in values.items()
        if rule.syscall not in ALIASES or name == "filename"
    }
    done: list[bool | str] = []
    for node in postorder(rule.expression):
        if isinstance(node, Symbol):
            done.append(_comparison(use, rule, node, values) or prepare(node)(encoded, subject))
            continue
        last = done.pop()
        if isinstance(node, Not):
            done.append(last if isinstance(last, str) else not last)
            continue
        first = done.pop()
        # "and" is decided by a part that does not hold, "or" by one that does
        decisive = node.word == "or"
        if first is decisive or last is decisive:
            done.append(decisive)
        else:
            done.append(next((one for one in (first, last) if isinstance(one, str)), not decisive))
    return done[0]


def _comparison(use: Use, rule: Rule, symbol: Symbol, values: Values) -> str:
    """Return the argument that a comparison needs and that was not given, or ""."""
    name, offset = symbol.argument.lower(), max(symbol.offset, 0)
    if symbol.operator == "true" or not use.has(rule, name, offset):
        return ""
    if len(values.get(name, ())) > offset:
        return ""
    return f"{name}[{offset}]" if offset else name


def calls_of(policy: Policy, name: str) -> tuple[str, ...]:
    """Return the Linux calls that a name means: one for a call of Linux, else those it governs.

    Raises PolicyError("usage") for a name that means nothing here.
    """
    plain = name.removeprefix(policy.emulation + "-")
    meaning = canonical(policy.emulation, plain)
    if meaning is None:
        raise _unknown(policy, plain)
    if meaning in NUMBERS:
        return (meaning,)
    return reaches(Rule(policy.emulation, meaning, action="permit", errno=0, line=0, text=""))


def _unknown(policy: Policy, name: str) -> PolicyError:
    if name in ALIASES:
        return PolicyError("usage", f'emulation {policy.emulation} has no alias "{name}"')
    if name in ABSENT:
        return PolicyError("usage", f'"{name}" is a call that Linux x86-64 does not have')
    return PolicyError(
        "usage", f'"{name}" means no system call here',
        _did_you_mean(name, (*NUMBERS, *CLASSIC, *ALIASES)),
    )


def _did_you_mean(word: str, known: Sequence[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), 1, _CLOSE)
    return f'did you mean "{close[0]}"?' if close else ""
