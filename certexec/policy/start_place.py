"""Rules that reach what they were hardly meant for where the program is started at home (pure).

$CWD is the directory in which somebody starts the program: mostly that of some work, but his home
as well, where it holds his keys and what is executed when he logs in.
"""

from __future__ import annotations

from certexec.policy.calls import arguments_of, reaches, variants
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.finding import Finding
from certexec.policy.learned_paths import HIDDEN
from certexec.policy.model import Subject, symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from certexec.policy.model import Policy, Rule

_START = "$CWD"
_HOME = "/home/user"
_AT_HOME = Subject(1000, 1000, _HOME, "user", _HOME)
_ELSEWHERE = Subject(1000, 1000, _HOME, "user", "/srv/work")
_KEPT = (f"{_HOME}/.ssh/id_rsa", f"{_HOME}/.bashrc")
"""What nobody means by the directory of his work."""


def lint_starts(policy: Policy) -> list[Finding]:
    """Return a warning for each rule that permits hidden files at home only by $CWD."""
    found = []
    for rule in policy.rules:
        if rule.origin or rule.action != "permit" or not _names_start(rule):
            continue
        kept = next(_permitted(policy, rule), "")
        if kept:
            found.append(
                Finding(
                    rule.line, "start",
                    "the program may be started anywhere, in the home directory, too, where this "
                    f'reaches "~{kept.removeprefix(_HOME)}"',
                    f'add: and filename nsub "{HIDDEN}"',
                )
            )
    return found


def _names_start(rule: Rule) -> bool:
    return any(
        _START in one.data for one in symbols(rule.expression)
        if one.argument.lower() == "filename"
    )


def _permitted(policy: Policy, rule: Rule) -> Iterator[str]:
    """Yield what the rule permits to who is at home, and nobody who is elsewhere."""
    for name in reaches(rule):
        for variant in variants(name):
            rules = effective_rules(policy, name, variant.label)
            if rule not in rules:
                continue
            for kept in _KEPT:
                values: dict[str, list[str]] = {}
                for argument in arguments_of(name, variant):
                    text = kept if argument.name == "filename" else ""
                    values.setdefault(argument.name, []).append(text)
                verdict = evaluate(rules, values, _AT_HOME)
                if verdict is None or verdict.rule is not rule:
                    continue
                other = evaluate(rules, values, _ELSEWHERE)
                if other is None or other.action != "permit":
                    yield kept
