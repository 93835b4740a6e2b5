"""A policy file in canonical form: every word and every comment is kept, the meaning too.

Rules stand behind a tab, with single spaces, and with parentheses where a reader might group
otherwise than the language does. Names of users, error names and macros stay what they were. A
line that cannot be written better without another meaning is left as it is.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy import lexer
from certexec.policy.directives import INCLUDE, canonical, word_of
from certexec.policy.format import format_expression, meaning, same_rule
from certexec.policy.model import LANGUAGE, Policy, PolicyFile, Rule
from certexec.policy.sort import shape, sorted_order
from certexec.policy.syntax import bare_action, parse_policy, parse_rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from certexec.policy.model import UserDb

_SPACE = " \t\r\v\f"


class Line:
    """One line of the file: its canonical text without comment, the comment, and what it is.

    Attributes:
        kind: "blank", "comment", "language", "header", "detached", "directive" or "rule".
        text: without indentation and comment; "" for the first two kinds.
        comment: with its "#", or "".
        indented: whether white space stood before it.
        rule: of a rule.
        own: the text as it stood in the file.
    """

    __slots__ = ("comment", "indented", "kind", "own", "rule", "text")

    def __init__(
        self, kind: str, text: str, comment: str, indented: bool, rule: Rule | None, own: str
    ) -> None:
        self.kind = kind
        self.text = text
        self.comment = comment
        self.indented = indented
        self.rule = rule
        self.own = own

    def shown(self) -> list[str]:
        """Return the lines for it, without newlines."""
        below = self.kind in ("rule", "directive") or (self.kind == "comment" and self.indented)
        tab = "\t" if below else ""
        if self.kind in ("blank", "comment"):
            return [tab + self.comment if self.comment else ""]
        if not self.comment:
            return [self._fitting(tab)]
        together = f"{tab}{self.text} {self.comment}"
        if lexer.byte_length(together) <= lexer.LINE_MAX:
            return [together]
        return [tab + self.comment, self._fitting(tab)]

    def _fitting(self, tab: str) -> str:
        for line in (tab + self.text, tab + self.own):
            if lexer.byte_length(line) <= lexer.LINE_MAX:
                return line
        return self.own


def reformat(
    text: str, *, name: str, users: UserDb, sort: bool = False,
    presets: Mapping[str, str] | None = None,
) -> str:
    """Return the text of a policy file in canonical form; an include stays one.

    Raises PolicyError: "policy-syntax" (a PolicySyntaxError) for what is no policy, "internal" if
    the new text would not mean the same, which no file should bring about.
    """
    parsed = parse_policy(text, name=name, users=users, privileged=True, presets=presets)
    lines = _read(text, name, parsed, users)
    if sort:
        lines = _sorted(lines)
    result = _write(lines)
    again = parse_policy(result, name=name, users=users, privileged=True, presets=presets)
    if not _same(parsed, again, sort):
        raise PolicyError("internal", f'"{name}" would mean something else in canonical form')
    return result


def _read(text: str, name: str, parsed: PolicyFile, users: UserDb) -> list[Line]:
    rules = {
        rule.line: rule for policy in parsed.policies for rule in policy.rules if not rule.origin
    }
    afters = {one.rule.line: one for policy in parsed.policies for one in policy.afters}
    lines = []
    for number, raw, line in lexer.source_lines(text, name):
        comment = lexer.split_comment(raw)[1].rstrip(_SPACE)
        indented = raw[:1] in (" ", "\t")
        rule = rules.get(number)
        if not line:
            lines.append(Line("comment" if comment else "blank", "", comment, indented, None, ""))
        elif rule is not None:
            lines.append(Line("rule", rule_text(rule, users), comment, indented, rule, line))
        elif parsed.extended and line[:10].lower() == "language: ":
            lines.append(Line("language", f"Language: {LANGUAGE}", comment, indented, None, line))
        elif parsed.extended and word_of(line):
            shown = canonical(line, afters.get(number))
            lines.append(Line("directive", shown, comment, indented, None, line))
        elif line[:8].lower() == "policy: ":
            path, _, rest = line[8:].partition(",")
            shown = f"Policy: {path}, Emulation: {rest[12:]}"
            lines.append(Line("header", shown, comment, indented, None, line))
        else:
            shown = line[:8].lower() + line[8:]
            lines.append(Line("detached", shown, comment, indented, None, line))
    return lines


def rule_text(rule: Rule, users: UserDb) -> str:
    """Return a rule in canonical form, the names of users and groups as they were written."""
    own = f"{rule.emulation}-{rule.syscall}: {rule.text}"
    if rule.flaw:
        return own
    for explicit in (True, False):
        body = _body(rule, explicit)
        whole = f"{rule.emulation}-{rule.syscall}: {body}"
        if lexer.byte_length(whole) >= lexer.LINE_MAX:  # a tab comes before it
            continue
        try:
            again = parse_rule(
                body, emulation=rule.emulation, syscall=rule.syscall, users=users, privileged=True,
                extended=True,  # which takes what the others take, for the same
            )
        except lexer.PolicySyntaxError:
            continue
        if same_rule(rule, again):
            return whole
    return own


def _body(rule: Rule, explicit: bool) -> str:
    found, _ = lexer.tokens(rule.text)
    bare = rule.text.partition(",")[0]
    if bare_action(bare, extended=True) is not None:
        head = bare.lower()
        tail = [token for token in found if token[2] >= len(bare)]
    else:
        head = format_expression(rule.expression, explicit=explicit)
        then = next(index for index, token in enumerate(found) if token[0] == "then")
        tail = found[then:]
    return head + _words(tail)


def _words(tail: Iterable[lexer.Token]) -> str:
    """Write what follows an expression: action, flag, log, identity, predicate."""
    text = ""
    glued = in_brackets = False
    for kind, value, _ in tail:
        word = "then" if kind == "then" else str(value)
        if kind == lexer.NUMBER:
            word = str(int(value) & 0xFFFFFFFF)
        if in_brackets and kind == lexer.NAME:
            word = word.lower()
        # only before a group alone, ``as :GROUP``, a colon has a space
        apart = kind not in ("[", "]", ",", ":") or (kind == ":" and text.endswith(" as"))
        text += (" " if apart and not glued else "") + word
        glued = kind in ("[", ":")
        in_brackets = kind == "["
    return text


def _write(lines: list[Line]) -> str:
    shown: list[str] = []
    before = "blank"
    for line in lines:
        if line.kind == "blank" and before == "blank":
            continue
        if line.kind == "header" and before not in ("blank", "comment"):
            shown.append("")
        shown += line.shown()
        before = line.kind
    while shown and not shown[-1]:
        shown.pop()
    return "".join(line + "\n" for line in shown)


def _same(one: PolicyFile, two: PolicyFile, sort: bool) -> bool:
    if (one.extended, len(one.policies)) != (two.extended, len(two.policies)):
        return False
    for old, new in zip(one.policies, two.policies, strict=True):
        if _header(old) != _header(new):
            return False
        if _directives(old) != _directives(new):
            return False
        if sort:
            if shape(old.rules) != shape(new.rules):
                return False
        elif [meaning(rule) for rule in old.rules] != [meaning(rule) for rule in new.rules]:
            return False
    return True


def _header(policy: Policy) -> tuple[object, ...]:
    return policy.path, policy.emulation, policy.detached


def _directives(policy: Policy) -> tuple[object, ...]:
    exec_in = policy.exec_in and meaning(policy.exec_in)
    afters = [(meaning(one.rule), one.only, one.names) for one in policy.afters]
    includes = [key for _, key in policy.includes]
    return bool(policy.no_dotdot), exec_in, policy.landlock, afters, includes, policy.adopts


# ---- the order -----------------------------------------------------------------------------------


def _sorted(lines: list[Line]) -> list[Line]:
    """Sort the rules of every header's part; what stands before a rule goes with it.

    A comment directly before a rule is the rule's. What stands at the top of a policy before a
    blank line stays there, and so does what follows the last rule.
    """
    result: list[Line] = []
    part: list[Line] = []
    for line in lines:
        if line.kind == "header":
            result += _sorted_part(part)
            part = []
        part.append(line)
    return result + _sorted_part(part)


def _sorted_part(lines: list[Line]) -> list[Line]:
    top: list[Line] = []
    items: list[list[Line]] = []
    rules: list[Rule] = []
    pending: list[Line] = []
    for line in lines:
        pending.append(line)
        if line.kind in ("header", "directive") or (line.kind == "blank" and not items):
            top += pending
            pending = []
        elif line.rule is not None:
            items.append([one for one in pending if one.kind != "blank"])
            rules.append(line.rule)
            pending = []
    # an open quote decides what may stand after it, and before a preset's rules others may count
    if any(rule.flaw for rule in rules) or any(word_of(line.text) == INCLUDE for line in lines):
        return lines
    order = sorted_order(rules, [item[-1].text for item in items])
    return top + [line for index in order for line in items[index]] + pending
