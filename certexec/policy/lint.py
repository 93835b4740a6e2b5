"""What is valid but probably not what was meant: the surprises of the language, and dead rules.

Each finding has a stable word (its code), so that tools can select. Nothing here changes what a
policy means.
"""

from __future__ import annotations

import difflib
import errno

from certexec.kernel.syscalls import NUMBERS
from certexec.policy import errnos, lexer
from certexec.policy.calls import call_of, reaches
from certexec.policy.evaluate import rules_named
from certexec.policy.format import tree
from certexec.policy.model import ALIASES, TRUE, Policy, PolicyFile, Rule, Symbol, symbols
from certexec.policy.names import (
    ABSENT,
    CLASSIC,
    EMULATIONS,
    FOREIGN,
    WITH_ALIASES,
    canonical,
)
from certexec.policy.unsupported import why_unsupported

CODES = {
    "grouping": "and, or and not group to the right: the rule means something else than it seems",
    "inpath": "inpath is true for the directories on the way to its path, not for what is below",
    "bracket": "a bracket in match begins a set of characters",
    "wildcard": "eq and neq compare literally",
    "backslash": "a backslash that the quoted string loses",
    "relative": "a name that no call ever has, since names are absolute",
    "no-argument": "the call does not have this argument",
    "shadowed": "another rule decides before this one in every case",
    "inactive": "the name means no system call here",
    "emulation": "the policy is for another system",
    "collision": "two programs whose policies systrace keeps in one file",
    "unsupported": "parsed, but not enforced by this version: signing refuses it",
    "pending": "the call cannot be judged yet: it will be denied and logged",
    "errno": "an error that Linux does not have",
    "flag": "a flag that does nothing here",
    "empty": "the file holds no policy",
}
"""Every code, and what it says."""

_WILDCARDS = frozenset("*?")
_CLOSE = 0.75
"""How alike a mistyped name must be to be suggested, from 0 to 1."""
_ABSOLUTE = ("/", "*", "?", "[", "\\", "$")
"""What a pattern for an absolute name can begin with."""


class Finding:
    """One warning: line (from 1), code, message and what mends it."""

    __slots__ = ("code", "hint", "line", "message")

    def __init__(self, line: int, code: str, message: str, hint: str = "") -> None:
        self.line = line
        self.code = code
        self.message = message
        self.hint = hint


def lint(policy_file: PolicyFile, *, inherit: bool = False) -> list[Finding]:
    """Return the warnings about a file, in the order of its lines.

    ``inherit``: as for ``unsupported_features``.
    """
    found: list[Finding] = []
    if not policy_file.policies:
        found.append(Finding(1, "empty", "the file holds no policy"))
    seen: dict[str, Policy] = {}
    for policy in policy_file.policies:
        other = seen.setdefault(policy_file_name(policy.path), policy)
        if other is not policy:
            found.append(
                Finding(
                    policy.line, "collision",
                    f'systrace keeps the policies of "{policy.path}" and "{other.path}" in one '
                    f'file, "{policy_file_name(policy.path)}"',
                )
            )
        found += _lint_policy(policy, inherit)
    return sorted(found, key=lambda finding: finding.line)


def policy_file_name(path: str) -> str:
    """Return the name of systrace's policy file for a program: all but letters and digits is "_".

    "/usr/sbin/named" gives "usr_sbin_named", and so does "/usr/sbin_named".
    """
    replaced = "".join(
        character if character.isascii() and character.isalnum() else "_" for character in path
    )
    return replaced.lstrip("_")


def _lint_policy(policy: Policy, inherit: bool) -> list[Finding]:
    found: list[Finding] = []
    if policy.emulation not in EMULATIONS:
        found.append(
            Finding(
                policy.line, "emulation", f'no system has the emulation "{policy.emulation}"',
                "all its rules are inactive; this system's is native",
            )
        )
    elif policy.emulation in FOREIGN:
        active = sum(1 for rule in policy.rules if reaches(rule))
        found.append(
            Finding(
                policy.line, "emulation",
                f'the emulation "{policy.emulation}" is another system\'s: '
                f"{active} of {len(policy.rules)} rules mean a call here",
            )
        )
    if policy.detached:
        found.append(Finding(policy.line, "unsupported", "a detached policy confines nothing"))
    for rule in policy.rules:
        found += _lint_rule(policy, rule, inherit)
    return found + _shadowed(policy)


def _lint_rule(policy: Policy, rule: Rule, inherit: bool) -> list[Finding]:
    found: list[tuple[str, str, str]] = []
    reached = reaches(rule)
    if not reached and rule.emulation in EMULATIONS:
        found.append(_inactive(rule))
    why = why_unsupported(policy, rule, inherit=inherit)
    if why:
        found.append(("unsupported", why, ""))
    elif reached and not rule.unconditional and rule.syscall not in ALIASES:
        waiting = [name for name in reached if call_of(name).pending]
        if waiting:
            found.append(
                ("pending", f"{', '.join(waiting)} cannot be judged yet and will be denied", "")
            )
    if not rule.simple:
        found += _grouping(rule)
        found += _lost_backslashes(rule)
        for symbol in symbols(rule.expression):
            found += _symbol(rule, symbol, reached)
    if rule.errno_name and rule.errno_name not in errnos.SAME:
        known = errno.errorcode[rule.errno].lower()
        found.append(("errno", f"Linux has no {rule.errno_name}: the answer is {known}", ""))
    if (rule.inherit or rule.detach) and reached and not _executes(reached):
        flag = "inherit" if rule.inherit else "detach"
        found.append(("flag", f'"{flag}" only counts for execve', ""))
    return [Finding(rule.line, code, message, hint) for code, message, hint in found]


def _executes(reached: tuple[str, ...]) -> bool:
    return "execve" in reached or "execveat" in reached


def _inactive(rule: Rule) -> tuple[str, str, str]:
    name = f'"{rule.emulation}-{rule.syscall}"'
    if rule.syscall in ALIASES and rule.emulation not in WITH_ALIASES:
        return "inactive", f"{name} is no alias: systrace had none in this emulation", ""
    if rule.syscall in ABSENT or rule.syscall.startswith(("#", "ni_syscall")):
        return "inactive", f"{name} is a call that Linux x86-64 does not have", ""
    known = (*NUMBERS, *CLASSIC, *ALIASES)
    close = difflib.get_close_matches(rule.syscall, known, 1, _CLOSE)
    hint = f'did you mean "{close[0]}"?' if close else ""
    return "inactive", f"{name} means no system call here", hint


def _grouping(rule: Rule) -> list[tuple[str, str, str]]:
    """Find connectives that readers group otherwise: mixed, or after a "not", at one depth."""
    scanned, _ = lexer.tokens(rule.text)
    depths: list[tuple[set[str], list[bool]]] = [(set(), [False])]
    mixed = greedy = False
    for kind, _, _ in scanned:
        if kind == "then":
            break
        connectives, negated = depths[-1]
        if kind == "(":
            depths.append((set(), [False]))
        elif kind == ")":
            depths.pop()
        elif kind == "not":
            negated[0] = True
        elif kind in ("and", "or"):
            connectives.add(kind)
            greedy = greedy or negated[0]
            mixed = mixed or len(connectives) > 1
    if not mixed and not greedy:
        return []
    what = '"not" covers all that follows it' if greedy else '"and" binds no tighter than "or"'
    return [("grouping", f"{what}: this is {tree(rule.expression)}", "use parentheses")]


def _lost_backslashes(rule: Rule) -> list[tuple[str, str, str]]:
    text = rule.text
    position = 0
    lost = []
    quoted = False
    while position < len(text):
        if text[position] == '"':
            quoted = not quoted
        elif quoted and text[position] == "\\":
            position += 1
            if text[position : position + 1] not in ("", '"', "\\", "n", "r"):
                lost.append("\\" + text[position])
        position += 1
    if not lost:
        return []
    return [
        (
            "backslash", f'"{lost[0]}" in a quoted string is "{lost[0][1:]}"',
            f'write "\\{lost[0]}" for a backslash',
        )
    ]


def _symbol(
    rule: Rule, symbol: Symbol, reached: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    operator, data = symbol.operator, symbol.data
    argument = symbol.argument.lower()
    if operator == "true":
        return found
    shown = f'{symbol.argument} {operator} "{data}"'
    if operator == "inpath":
        found.append(
            (
                "inpath", f'{shown} is true for "/" and the directories on the way to "{data}"',
                'for what lies below a directory use "match"',
            )
        )
    if operator == "match" and _unescaped_bracket(data) and (
        argument == "sockaddr" or data.startswith("inet-")
    ):
        found.append(
            (
                "bracket", f"{shown}: the brackets are a set of characters, not part of an address",
                'use "eq", or write "\\\\[" and "\\\\]"',
            )
        )
    if operator in ("eq", "neq") and _WILDCARDS & set(data):
        found.append(
            ("wildcard", f"{shown} compares with the wildcard itself", 'for a pattern use "match"')
        )
    if argument == "filename" and operator in ("eq", "match") and data and not data.startswith(
        _ABSOLUTE
    ):
        hint = ""
        if data.startswith("<non-existent filename>"):
            hint = f'since 2003 it is "/{data}"'
        found.append(("relative", f"{shown}: file names are absolute here", hint))
    described = [name for name in reached if call_of(name).arguments]
    if described and not any(
        _has_argument(rule, name, argument, symbol.offset) for name in described
    ):
        which = symbol.argument + (f"[{symbol.offset}]" if symbol.offset >= 0 else "")
        found.append(("no-argument", f'{rule.syscall} has no argument "{which}"', ""))
    return found


def _unescaped_bracket(data: str) -> bool:
    position = 0
    while position < len(data):
        if data[position] == "\\":
            position += 1
        elif data[position] == "[":
            return True
        position += 1
    return False


def _has_argument(rule: Rule, call: str, argument: str, offset: int) -> bool:
    names = [one.name for one in call_of(call).arguments]
    if rule.syscall in ALIASES:
        names = [name for name in names if name == "filename"]
    return names.count(argument) > max(offset, 0)


def _shadowed(policy: Policy) -> list[Finding]:
    """Find rules that an earlier or stronger rule for the same name leaves nothing to decide."""
    found: list[Finding] = []
    for name in dict.fromkeys(
        canonical(rule.emulation, rule.syscall) or "" for rule in policy.rules
    ):
        rules = rules_named(policy, name)
        last = next((rule for rule in reversed(rules) if rule.simple), None)
        earlier: list[Rule] = []
        for rule in rules:
            by = next((one for one in earlier if _covers(one, rule)), None)
            if last is not None and rule is not last and not _same_decision(last, rule):
                by = last
            if by is not None:
                found.append(
                    Finding(
                        rule.line, "shadowed",
                        f"this rule never decides: line {by.line} does, {_why(by, rule)}",
                    )
                )
            elif not rule.simple:
                earlier.append(rule)
    return found


def _same_decision(one: Rule, two: Rule) -> bool:
    """Tell whether two bare rules under different names of one call say the same."""
    return (
        two.simple
        and one.syscall != two.syscall
        and (one.action, one.errno) == (two.action, two.errno)
    )


def _why(by: Rule, rule: Rule) -> str:
    if by.simple and rule.simple:
        return "the last bare rule of a call counts"
    if by.simple:
        return "a bare rule comes before all others of its call"
    return "which comes first"


def _covers(earlier: Rule, later: Rule) -> bool:
    """Tell whether every call that the later rule is about is the earlier rule's already."""
    if earlier.predicate is not None and not _same_predicate(earlier, later):
        return False
    if earlier.expression is TRUE:
        return True
    one, two = earlier.expression, later.expression
    if _same_expression(earlier, later):
        return True
    if not (isinstance(one, Symbol) and isinstance(two, Symbol)):
        return False
    if one.operator != "match" or two.operator != "match" or one.offset != two.offset:
        return False
    if one.argument.lower() != two.argument.lower() or "$" in one.data + two.data:
        return False
    wide, narrow = one.data, two.data
    if any(special in narrow for special in "*?[\\"):
        return False
    if wide.endswith("*"):
        wide = wide[:-1]
        return not any(special in wide for special in "*?[\\") and narrow.startswith(wide)
    if any(special in wide for special in "?[\\*"):
        return False
    return narrow == wide or narrow.startswith(wide + "/")


def _same_expression(one: Rule, two: Rule) -> bool:
    if tree(one.expression) != tree(two.expression):
        return False
    return [symbol.operator for symbol in symbols(one.expression)] == [
        symbol.operator for symbol in symbols(two.expression)
    ]


def _same_predicate(one: Rule, two: Rule) -> bool:
    a, b = one.predicate, two.predicate
    if a is None or b is None:
        return a is b
    return (a.kind, a.relation, a.number) == (b.kind, b.relation, b.number)
