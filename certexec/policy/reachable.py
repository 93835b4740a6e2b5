"""What a policy lets come together that should stay apart: writing and executing (pure).

Both answers are exact in the sense of certexec.policy.cases, and come with an example.
"""

from __future__ import annotations

from certexec.policy.automaton import TooComplex
from certexec.policy.calls import variants
from certexec.policy.cases import Cases
from certexec.policy.evaluate import constant_rule, effective_rules, evaluate
from certexec.policy.model import Rule, Symbol, symbols
from certexec.policy.rule_index import relevant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.model import Policy, Subject

    Place = tuple[bytes, Subject]
    Asked = tuple[Rule | None, Symbol]

MAPPINGS = ("mmap", "mprotect", "pkey_mprotect")
ROOT = Symbol("filename", -1, "eq", "/")
"""The directory that is never what somebody writes or executes."""
_ACCESS = [Symbol("prot", -1, "sub", f"PROT_{word}") for word in ("WRITE", "EXEC")]
_UNREAL = b"/<non-existent filename>"
_WRITES = (("openat", "write", 0), ("creat", "", 0), ("rename", "", 1), ("link", "", 1))
"""Calls by which a file comes to have contents, each with its use, and which name that is."""


def written_and_executed(policy: Policy) -> tuple[str, str] | None:
    """Return a file that the program may write and then execute, and the call that writes it.

    None where there is none, or where that cannot be told.
    """
    if policy.detached:
        return "/bin/x", "openat"
    execute = _use("execve", "")
    if _is_denied(policy, *execute):
        return None
    for name, label, place in _WRITES:
        write = _use(name, label)
        if _is_denied(policy, *write):
            continue
        asked = [
            *_asked(effective_rules(policy, name, label), place),
            *_asked(effective_rules(policy, "execve", ""), 0),
            (None, ROOT),
        ]
        try:
            executed = {
                _key(text, subject) for text, subject in _permitted(policy, execute, asked, 0)
            }
            both = [
                text for text, subject in _permitted(policy, write, asked, place)
                if _key(text, subject) in executed
            ]
        except TooComplex:
            continue
        if both:
            best = min(both, key=lambda text: (text != text.lower(), len(text), text))
            return best.decode("utf-8", "surrogateescape"), name
    return None


def writable_code(policy: Policy, *, presets: bool = True) -> tuple[str, str] | None:
    """Return a call that makes memory writable and executable at once, and its ``prot``.

    ``presets``: also where it is a preset's rule that permits that.
    """
    for name in MAPPINGS:
        variant = variants(name)[0]
        rules = effective_rules(policy, name, variant.label)
        dividing = [_question(name, symbol) for symbol in _ACCESS]
        try:
            for case in Cases((*rules, *dividing), name, variant):
                verdict = evaluate(rules, case.values, case.subject)
                text = case.values["prot"][0].decode()
                if verdict is None or verdict.action != "permit" or not _is_both(text):
                    continue
                if presets or verdict.rule is None or not verdict.rule.origin:
                    return name, text
        except TooComplex:
            continue
    return None


def _is_both(prot: str) -> bool:
    return "PROT_WRITE" in prot and "PROT_EXEC" in prot


def _use(name: str, label: str) -> tuple[str, Variant]:
    return name, next(one for one in variants(name) if one.label == label)


def _is_denied(policy: Policy, name: str, variant: Variant) -> bool:
    constant, rule = constant_rule(effective_rules(policy, name, variant.label))
    return constant and (rule is None or rule.action != "permit")


def _question(name: str, symbol: Symbol, rule: Rule | None = None) -> Rule:
    """Return a rule that asks this, so that cases with either answer are judged."""
    return Rule(
        "native", name, action="permit", errno=0, line=0, text="", expression=symbol,
        predicate=None if rule is None else rule.predicate,
    )


def _asked(rules: Sequence[Rule], place: int) -> list[Asked]:
    """Return what rules ask about the file name in one place."""
    return [
        (rule, symbol) for rule in rules for symbol in symbols(rule.expression)
        if symbol.argument.lower() == "filename" and max(symbol.offset, 0) == place
    ]


def _permitted(
    policy: Policy, use: tuple[str, Variant], asked: Sequence[Asked], place: int
) -> Iterator[Place]:
    """Yield names in one place that a use is permitted with, of all classes that matter.

    Two uses that are asked about the same give the same texts for the same classes.
    """
    name, variant = use
    own = effective_rules(policy, name, variant.label)
    # the questions of both uses, as if both were about this place
    dividing = [
        _question(name, Symbol("filename", place, symbol.operator, symbol.data), rule)
        for rule, symbol in asked
    ]
    judges = relevant(own)
    for case in Cases((*dividing, *own), name, variant):
        text = case.values["filename"][place]
        if not text.startswith(b"/") or text == b"/" or text.startswith(_UNREAL):
            continue
        if name == "openat" and case.values["oflags"][0].startswith(b"ro"):
            continue  # it makes an empty file at most
        may_apply = judges.to(case.values, case.subject)
        verdict = evaluate(may_apply, case.values, case.subject)
        if verdict is not None and verdict.action == "permit":
            yield text, case.subject


def _key(text: bytes, subject: Subject) -> tuple[object, ...]:
    return text, subject.uid, subject.gid, subject.home, subject.cwd
