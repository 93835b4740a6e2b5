"""What is valid but probably not what was meant: the surprises of the language, and dead rules.

Each finding has a stable word (its code), so that tools can select. Nothing here changes what a
policy means. What is odd about one comparison alone is certexec.policy.comparisons' to tell.
"""

from __future__ import annotations

import difflib
import errno

from certexec.kernel.syscalls import NUMBERS
from certexec.policy import errnos, lexer
from certexec.policy.calls import call_of, governing_names, reaches, variants
from certexec.policy.comparisons import odd_comparison
from certexec.policy.evaluate import (
    constant_rule,
    deciding_rules,
    effective_rules,
    rules_named,
)
from certexec.policy.finding import CODES, Finding
from certexec.policy.format import tree
from certexec.policy.implication import implies, never_holds
from certexec.policy.learned_paths import LITERAL_MARK
from certexec.policy.model import ALIASES, And, Policy, PolicyFile, Rule, Subject, Symbol, symbols
from certexec.policy.names import (
    ABSENT,
    CLASSIC,
    EMULATIONS,
    FOREIGN,
    WITH_ALIASES,
    canonical,
)
from certexec.policy.reach import file_name
from certexec.policy.rule_index import RuleIndex
from certexec.policy.unsupported import why_unsupported, why_unwatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CODES", "Finding", "lint", "lint_text", "without_meant"]

DETACH = "detach"
"""The finding about a rule that lets a program go."""
_ADDRESSED = (("sendto", "addressed"), ("sendmsg", ""), ("sendmmsg", ""))
"""The calls that name an address beside connect, each with the use in which it does."""
_REACHING = {
    "ptrace": "control", "process_vm_writev": "write", "process_vm_readv": "read",
    "pidfd_getfd": "take descriptors of",
}
"""What the calls that are about another process, whichever it is, do to it."""
_TWO_NAMES = frozenset("rename renameat renameat2 link linkat mount move_mount".split())
"""The calls that do something to one name by another."""
_CLOSE = 0.75
"""How alike a mistyped name must be to be suggested, from 0 to 1."""


def lint(policy_file: PolicyFile) -> list[Finding]:
    """Return the warnings about a file, in the order of its lines."""
    found: list[Finding] = []
    if not policy_file.policies:
        found.append(Finding(1, "empty", "the file holds no policy"))
    seen: dict[str, Policy] = {}
    for policy in policy_file.policies:
        other = seen.setdefault(file_name(policy.path), policy)
        if other.path != policy.path:
            found.append(
                Finding(
                    policy.line, "collision",
                    f'systrace keeps the policies of "{policy.path}" and "{other.path}" in one '
                    f'file, "{file_name(policy.path)}"',
                )
            )
        found += _lint_policy(policy)
        for path in policy.adopts:
            if all(one.path != path for one in policy_file.policies):
                found.append(Finding(policy.line, "flag", f'no policy here to adopt: "{path}"'))
    return sorted(found, key=lambda finding: finding.line)


def _lint_policy(policy: Policy) -> list[Finding]:
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
        found += _lint_rule(policy, rule)
    for after in policy.afters:
        found += _lint_rule(policy, after.rule)
        if why := why_unwatched(after.rule):
            found.append(Finding(after.rule.line, "unsupported", why))
    exec_in = policy.exec_in
    if exec_in is not None and not any(
        rule.action in ("permit", "ask") and _executes(reaches(rule)) for rule in policy.rules
    ):
        found.append(Finding(exec_in.line, "flag", "no rule permits what exec-in restricts"))
    found += _evaded(policy) + _reaching(policy) + _half_named(policy)
    return found + _passed_over(policy) + _shadowed(policy)


def _evaded(policy: Policy) -> list[Finding]:
    """Find judged connections beside sends that may name any address."""
    judging = [
        rule for rule in effective_rules(policy, "connect")
        if any(symbol.argument.lower() == "sockaddr" for symbol in symbols(rule.expression))
    ]
    free = [name for name, variant in _ADDRESSED if _is_permitted(policy, name, variant)]
    if not judging or not free:
        return []
    one = min(rule.line for rule in judging)
    return [
        Finding(
            one, "sends",
            f"connect is judged by address, but {', '.join(free)} may name any, "
            "and connect, too (MSG_FASTOPEN)",
            f"judge {', '.join(free)} in the same way; without an address sendto is send",
        )
    ]


def _reaching(policy: Policy) -> list[Finding]:
    """Find permits of what is done to any other process, which nothing need confine."""
    if _is_permitted(policy, "openat", "write") and _is_permitted(policy, "execve", ""):
        return []  # who writes and executes anything needs no other process for it
    found = []
    for name, does in _REACHING.items():
        constant, rule = constant_rule(effective_rules(policy, name))
        if constant and rule is not None and rule.action == "permit" and not rule.origin:
            found.append(
                Finding(
                    rule.line, "processes",
                    f"{name} may {does} other processes of the same user, which are not confined",
                    "no rule can say which: permit it to debuggers and their like alone",
                )
            )
    return found


def _half_named(policy: Policy) -> list[Finding]:
    """Find permits of calls with two names where no rule asks for the second."""
    found = []
    asked = {
        name for rule in policy.rules if 1 in _asked_names(rule) for name in reaches(rule)
    }
    for rule in policy.rules:
        if rule.action not in ("permit", "ask") or rule.origin or 0 not in _asked_names(rule):
            continue
        calls = [name for name in reaches(rule) if name in _TWO_NAMES and name not in asked]
        if calls:
            found.append(
                Finding(
                    rule.line, "second-name",
                    f"of {calls[0]} the first name is judged alone: the second may be any",
                    'judge "filename[1]", too',
                )
            )
    return found


def _asked_names(rule: Rule) -> set[int]:
    """Return which of a call's names a rule asks for, from 0."""
    return {
        max(symbol.offset, 0) for symbol in symbols(rule.expression)
        if symbol.argument.lower() == "filename"
    }


def _passed_over(policy: Policy) -> list[Finding]:
    """Find questions that nobody is asked, since a rule under a later name of the call permits."""
    found: list[Finding] = []
    for rule in policy.rules:
        if rule.action != "ask":
            continue
        for name in reaches(rule):
            other = _permits_instead(policy, name, rule)
            if other is not None:
                found.append(
                    Finding(
                        rule.line, "asked",
                        f'of {name} nobody is asked where {_place(other)}, for "{other.syscall}", '
                        "permits: an ask ends the rules of its own name only",
                        f'write the question for "{other.syscall}"',
                    )
                )
                break
    return found


def _permits_instead(policy: Policy, name: str, asked: Rule) -> Rule | None:
    for variant in variants(name):
        rules = effective_rules(policy, name, variant.label)
        if asked not in rules:
            continue
        for rule in rules[rules.index(asked) + 1 :]:
            if rule.action == "permit" and rule.syscall != asked.syscall and not never_holds(
                And(asked.expression, rule.expression)
            ):
                return rule
    return None


def _is_permitted(policy: Policy, name: str, variant: str) -> bool:
    constant, rule = constant_rule(effective_rules(policy, name, variant))
    return constant and rule is not None and rule.action == "permit"


def lint_text(text: str) -> list[Finding]:
    """Return the warnings about lines that seem to go on in the next one, and do not.

    Elsewhere than in these places a backslash at the end of a line is a syntax error.
    """
    found: list[Finding] = []
    lines = text.split("\n")
    for number, raw in enumerate(lines, 1):
        before, comment = lexer.split_comment(raw)
        if lexer.goes_on(raw):
            what = "the backslash at its end belongs to this line"
        elif comment.rstrip().endswith("\\") and not before.strip() and number < len(lines):
            if not lexer.split_comment(lines[number])[0].strip():
                continue
            what = "the backslash at its end does not make a comment of the next line"
        else:
            continue
        found.append(Finding(number, "continuation", what, lexer.JOIN_THE_LINES))
    return found


def without_meant(found: Sequence[Finding], text: str) -> list[Finding]:
    """Leave out wildcards of which a comment above their rule says that they are none."""
    meant: set[int] = set()
    marked = False
    for number, raw in enumerate(text.split("\n"), 1):
        if raw.startswith("#") or raw[:8].lower() == "policy: ":
            marked = raw.rstrip() == LITERAL_MARK
        elif marked:
            meant.add(number)
    return [one for one in found if one.code != "wildcard" or one.line not in meant]


def _lint_rule(policy: Policy, rule: Rule) -> list[Finding]:
    found: list[tuple[str, str, str]] = []
    reached = reaches(rule)
    if not reached and rule.emulation in EMULATIONS:
        found.append(_inactive(rule))
    why = why_unsupported(policy, rule, inherit=True, detach=True)
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
            found += odd_comparison(symbol)
            found += _missing_argument(rule, symbol, reached)
        if never_holds(rule.expression):
            found.append(("never", "no call at all can fulfil the conditions of this rule", ""))
    if rule.errno_name and rule.errno_name not in errnos.SAME:
        known = errno.errorcode[rule.errno].lower()
        found.append(("errno", f"Linux has no {rule.errno_name}: the answer is {known}", ""))
    if (rule.inherit or rule.detach) and reached and not _executes(reached):
        flag = "inherit" if rule.inherit else "detach"
        found.append(("flag", f'"{flag}" only counts for execve', ""))
    elif rule.detach and reached:
        found.append((DETACH, "what this rule lets a program execute is let go, unconfined", ""))
    where = f"{rule.origin}: " if rule.origin else ""
    return [Finding(rule.line, code, where + message, hint) for code, message, hint in found]


def _executes(reached: tuple[str, ...]) -> bool:
    return "execve" in reached or "execveat" in reached


def _inactive(rule: Rule) -> tuple[str, str, str]:
    name = f'"{rule.emulation}-{rule.syscall}"'
    if rule.syscall in ALIASES and rule.emulation not in WITH_ALIASES:
        return "inactive", f"{name} is no alias: systrace had none in this emulation", ""
    if rule.syscall in ABSENT or rule.syscall.startswith(("#", "ni_syscall", "unknown-")):
        return "inactive", f"{name} is a call that Linux x86-64 does not have", ""
    known = (*NUMBERS, *CLASSIC, *ALIASES)
    close = difflib.get_close_matches(rule.syscall, known, 1, _CLOSE)
    hint = f'did you mean "{close[0]}"?' if close else ""
    return "inactive", f"{name} means no system call here", hint


def _grouping(rule: Rule) -> list[tuple[str, str, str]]:
    """Find connectives that readers group otherwise, at one depth.

    These are an "or" after an "and", which everywhere else binds tighter, and any connective after
    a "not". An "and" after an "or" groups as everywhere.
    """
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
            greedy = greedy or negated[0]
            mixed = mixed or (kind == "or" and "and" in connectives)
            connectives.add(kind)
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


def _missing_argument(
    rule: Rule, symbol: Symbol, reached: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    argument = symbol.argument.lower()
    if symbol.operator == "true" or not reached or any(
        _has_argument(rule, name, argument, symbol.offset) for name in reached
    ):
        return []
    which = symbol.argument + (f"[{symbol.offset}]" if symbol.offset >= 0 else "")
    return [("no-argument", f'{rule.syscall} has no argument "{which}"', "")]


def _has_argument(rule: Rule, call: str, argument: str, offset: int) -> bool:
    names = [one.name for one in call_of(call).arguments]
    if rule.syscall in ALIASES:
        names = [name for name in names if name == "filename"]
    return names.count(argument) > max(offset, 0)


def _shadowed(policy: Policy) -> list[Finding]:
    """Find rules that earlier or stronger rules leave nothing to decide."""
    found: list[Finding] = []
    for name in dict.fromkeys(
        canonical(rule.emulation, rule.syscall) or "" for rule in policy.rules
    ):
        rules = rules_named(policy, name)
        last = next((rule for rule in reversed(rules) if rule.simple), None)
        stronger = _stronger_rules(policy, name, rules)
        earlier = RuleIndex()
        for rule in rules:
            wider = earlier.implied_by(rule.expression)
            by = next((one for one in wider if _covers(one, rule)), None)
            if last is not None and rule is not last and not _same_decision(last, rule):
                by = last
            if rule.origin:  # nobody can mend it, and it may be there for others
                by, stronger = None, []
            if by is not None:
                found.append(
                    Finding(
                        rule.line, "shadowed",
                        f"this rule never decides: {_place(by)} does, {_why(by, rule)}",
                    )
                )
            elif other := next((one for one in stronger if _differ(one, rule)), None):
                found.append(
                    Finding(
                        rule.line, "shadowed",
                        f'this rule is never looked at: rules such as {_place(other)}, for "'
                        f'{other.syscall}", come first and decide all that it reaches',
                    )
                )
            elif not rule.simple:
                earlier.add(rule)
    return found


def _stronger_rules(policy: Policy, name: str, rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules under names that come before this one, if they decide every call."""
    found: list[Rule] = []
    for call in reaches(rules[0]) if rules else ():
        for variant in variants(call):
            for governing in governing_names(call, variant.label, policy.emulation):
                if governing == name:
                    return []
                decide, final = deciding_rules(policy, governing)
                if final:
                    found += decide
                    break
    return found


def _same_decision(one: Rule, two: Rule) -> bool:
    """Tell whether two bare rules under different names of one call say the same."""
    return two.simple and one.syscall != two.syscall and not _differ(one, two)


def _differ(one: Rule, two: Rule) -> bool:
    return (one.action, one.errno, one.log) != (two.action, two.errno, two.log)


def _place(rule: Rule) -> str:
    return f"line {rule.line}" + (f", {rule.origin}," if rule.origin else "")


def _why(by: Rule, rule: Rule) -> str:
    if by.simple and rule.simple:
        return "the last bare rule of a call counts"
    if by.simple:
        return "a bare rule comes before all others of its call"
    return "which comes first"


def _covers(earlier: Rule, later: Rule) -> bool:
    """Tell whether every call that the later rule is about is the earlier rule's already."""
    if earlier.action == "ask" and earlier.syscall != later.syscall:
        return False  # an "ask" ends the rules of its own spelling only
    if not _predicate_covers(earlier, later):
        return False
    return implies(later.expression, earlier.expression)


def _predicate_covers(earlier: Rule, later: Rule) -> bool:
    wide, narrow = earlier.predicate, later.predicate
    if wide is None:
        return True
    if narrow is None or wide.kind != narrow.kind:
        return False
    if (wide.relation, wide.number) == (narrow.relation, narrow.number):
        return True
    return narrow.relation == "=" and wide.holds(Subject(narrow.number, narrow.number, "", "", ""))
