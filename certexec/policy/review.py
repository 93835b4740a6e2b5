"""A policy under review: one rule or one denied call at a time, and what was said to each (pure).

The file stays text: a line that is not touched stays what it is, with its comment and its place. A
rule that was changed stands where it stood; a rule for a call that no rule was about comes at the
end of its policy, where it decides nothing that another rule decides, narrow ones before wide ones.
Both fronts, the terminal app and the prompts, show this and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from certexec.errors import PolicyError
from certexec.policy import lexer
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.learn import rule_name
from certexec.policy.learned_paths import NON_EXISTENT
from certexec.policy.names import FOREIGN_EMULATION, canonical
from certexec.policy.reformat import rule_text
from certexec.policy.suggestions import Suggestion, for_call, for_rule
from certexec.policy.syntax import parse_policy, parse_rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from certexec.policy.learned_paths import Places
    from certexec.policy.model import Policy, PolicyFile, Rule, Subject, UserDb
    from certexec.policy.observation import Observation

RULE, EVENT = "rule", "event"
PERMIT, DENY, EDIT, SKIP = "permit", "deny", "edit", "skip"
_DENY_MISSING = "deny[enoent]"
"""How what is not there is denied: as the kernel would say it."""


class Item(NamedTuple):
    """What is looked at.

    Attributes:
        kind: RULE, which stands in the file, or EVENT, a call that no rule decided.
        program: path in the header of the policy.
        name: what a rule for it is about: ``native-fsread``.
        title: the rule as it stands, or the call with its arguments.
        line: of a rule, from 1; 0 for an event.
        times: how often the call was seen.
        suggestions: from narrow to wide, never none.
        note: what the file's comments say about a rule: the one above it, and the one behind it.
    """

    kind: str
    program: str
    name: str
    title: str
    line: int
    times: int
    suggestions: tuple[Suggestion, ...]
    note: str = ""


class Answer(NamedTuple):
    """What was said to an item.

    Attributes:
        action: PERMIT, DENY, EDIT or SKIP.
        rule: the rule's whole text; "" for none, which removes one that stood there.
        width: the place of its suggestion among them, from 0; narrow ones come first.
    """

    action: str
    rule: str = ""
    width: int = 0


class Review:
    """Items, answers, and the file that comes of them."""

    def __init__(
        self, text: str, *, name: str, users: UserDb, presets: Mapping[str, str] | None,
        subject: Subject, places: Places, seen: Mapping[Observation, int] | None = None,
    ) -> None:  # fmt: skip
        """Take a policy file's text; ``seen``: calls that were denied, and how often.

        With ``seen`` the items are those of these calls that no rule decides and that belong to a
        policy of the file (by their ``program``); without, they are the rules of the file.
        ``foreign`` counts the calls that belong to no policy of the file.
        Raises PolicySyntaxError.
        """
        self.name = name
        self.before = text
        self._users = users
        self._presets = presets
        self._subject = subject
        self._places = places
        self._lines = text.split("\n")[:-1]
        file = self._parse(text)
        self._file = file
        self._ends = _ends(file)
        self.foreign = 0
        self._rules: dict[int, Rule] = {}
        self._calls: dict[int, Observation] = {}
        self.items = tuple(
            self._of_rules(file) if seen is None else self._of_calls(file, seen)
        )
        self.at = 0
        self.answers: dict[int, Answer] = {}
        self._history: list[tuple[int, dict[int, Answer]]] = []
        self._decided: tuple[str, PolicyFile] = (text, file)
        self._made: tuple[Mapping[int, Answer], str] = (self.answers, text)

    def _parse(self, text: str) -> PolicyFile:
        return parse_policy(
            text, name=self.name, users=self._users, privileged=True, presets=self._presets
        )

    # -- items ------------------------------------------------------------------------------------

    def _of_rules(self, file: PolicyFile) -> Iterable[Item]:
        found = [
            (rule, policy) for policy in file.policies for rule in policy.rules if not rule.origin
        ]
        above = _comments(self._lines, {rule.line for rule, _ in found})
        for index, (rule, policy) in enumerate(sorted(found, key=lambda one: one[0].line)):
            self._rules[index] = rule
            yield Item(
                RULE, policy.path, f"{rule.emulation}-{rule.syscall}", str(rule), rule.line, 0,
                tuple(for_rule(rule, self._places)),
                _note(above[rule.line - 1], self._lines[rule.line - 1]),
            )

    def _of_calls(self, file: PolicyFile, seen: Mapping[Observation, int]) -> Iterable[Item]:
        index = 0
        for one, count in seen.items():
            policy = _policy_of(file, one.program)
            if policy is None:
                self.foreign += count
                continue
            if self._verdict(policy, one):
                continue
            self._calls[index] = one
            index += 1
            name = f"{policy.emulation}-{rule_name(one)}"
            values = dict(one.values)
            shown = ", ".join(f"{key}: {text}" for key, texts in one.values for text in texts)
            yield Item(
                EVENT, policy.path, name, f"{one.call} {shown}".rstrip(), 0, count,
                tuple(for_call(values, self._places, executes=name.endswith("-execve"))),
            )

    def _verdict(self, policy: Policy, one: Observation) -> str:
        """Return what rules say about a call, "" for nothing."""
        verdict = evaluate(
            effective_rules(policy, one.call, one.variant), dict(one.values), self._subject
        )
        return "" if verdict is None else verdict.action

    # -- where one is -----------------------------------------------------------------------------

    @property
    def current(self) -> Item | None:
        """The item to be looked at; None behind the last one."""
        return self.items[self.at] if self.at < len(self.items) else None

    def go(self, index: int) -> None:
        """Look at another item; len(items) is the end."""
        self.at = min(max(index, 0), len(self.items))

    def covered(self, index: int) -> str:
        """Return what the answers so far say about a call that was seen: "" for nothing yet."""
        one = self._calls.get(index)
        if one is None:
            return ""
        policy = _policy_of(self._now(), one.program)
        return "" if policy is None else self._verdict(policy, one)

    def find(self, words: str) -> bool:
        """Go to the next item, after this one and then from the start, that holds the words."""
        wanted = words.casefold()
        count = len(self.items)
        for step in range(1, count + 1):
            index = (self.at + step) % count
            item = self.items[index]
            if wanted in f"{item.program} {item.name} {item.title} {item.note}".casefold():
                self.at = index
                return True
        return False

    # -- answers ----------------------------------------------------------------------------------

    def permit(self, suggestion: int) -> None:
        """Permit what a suggestion of the current item says."""
        self._take(PERMIT, suggestion)

    def deny(self, suggestion: int) -> None:
        """Deny what a suggestion of the current item says, without a line in the log."""
        self._take(DENY, suggestion)

    def skip(self) -> None:
        """Leave the current item as it is, and as it was."""
        self._answer(Answer(SKIP))

    def edit(self, rule: str) -> None:
        """Put a rule of one's own in the place of the current item; "" for none.

        Raises PolicySyntaxError or PolicyError for what is no rule; nothing changes then.
        """
        self._answer(Answer(EDIT, " ".join(rule.split("\n")).strip()))

    def proposal(self, suggestion: int, action: str = PERMIT) -> str:
        """Return the text of the rule that an answer would make."""
        item = self.items[self.at]
        condition = item.suggestions[suggestion].condition
        rule = self._rules.get(self.at)
        if rule is not None and suggestion == 0 and rule.action == action:
            return str(rule)
        tail = action
        if action == DENY and f'"{NON_EXISTENT}' in condition:
            tail = _DENY_MISSING
        if rule is not None:
            tail += _tail(rule_text(rule, self._users), rule.action, action)
        # a bare answer would decide before all other rules of that name
        bare = rule.simple if rule is not None else not self._others(item)
        if not condition and bare and tail in (PERMIT, DENY):
            return f"{item.name}: {tail}"
        return f"{item.name}: {condition or 'true'} then {tail}"

    def draft(self, suggestion: int) -> str:
        """Return what an edit begins with: the rule as it stands, or what would permit."""
        rule = self._rules.get(self.at)
        return str(rule) if rule is not None and suggestion == 0 else self.proposal(suggestion)

    def _others(self, item: Item) -> bool:
        """Tell whether there are rules for the same name."""
        policy = _policy_of(self._now(), item.program)
        assert policy is not None
        name = item.name.partition("-")[2]
        wanted = canonical(policy.emulation, name)
        return any(canonical(one.emulation, one.syscall) == wanted for one in policy.rules)

    def _take(self, action: str, suggestion: int) -> None:
        self._answer(Answer(action, self.proposal(suggestion, action), suggestion))

    def _answer(self, answer: Answer) -> None:
        item = self.current
        if item is None:
            return
        changed = {**self.answers, self.at: answer}
        if answer.action == SKIP:
            del changed[self.at]
        self._check(changed)
        self._history.append((self.at, self.answers))
        self.answers = changed
        self._next()

    def _next(self) -> None:
        """Go to the next item that no answer so far is about."""
        self.at += 1
        while self.at < len(self.items) and (self.at in self.answers or self.covered(self.at)):
            self.at += 1

    def undo(self) -> bool:
        """Take the last answer back and go to its item; False: there was none."""
        if not self._history:
            return False
        self.at, self.answers = self._history.pop()
        return True

    # -- the file ---------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether the file would be another one."""
        return self.text() != self.before

    def text(self) -> str:
        """Return the file as the answers make it."""
        if self._made[0] is not self.answers:
            self._made = self.answers, self._with(self.answers)
        return self._made[1]

    def _with(self, answers: Mapping[int, Answer]) -> str:
        lines: list[str | None] = list(self._lines)
        new: dict[int, list[tuple[tuple[int, bool, int], str]]] = {}
        for index, answer in sorted(answers.items()):
            item = self.items[index]
            if item.kind == RULE:
                raw = self._lines[item.line - 1]
                if answer.rule != str(self._rules[index]):
                    lines[item.line - 1] = _replaced(raw, answer.rule)
            elif answer.rule:
                order = answer.width, answer.action != DENY, index
                new.setdefault(self._ends[item.program], []).append((order, answer.rule))
        result: list[str] = []
        for number, line in enumerate(lines, 1):
            if line is not None:
                result.append(line)
            result += ["\t" + rule for _, rule in sorted(new.get(number, ()))]
        return "".join(line + "\n" for line in result)

    def _check(self, answers: Mapping[int, Answer]) -> None:
        """Raise PolicySyntaxError or PolicyError unless the file says what the answers say."""
        for index, answer in answers.items():
            if answer.rule:
                self._check_rule(self.items[index], answer.rule)
        text = self._with(answers)
        file = self._parse(text)
        wanted: dict[str, int] = {}
        for answer in answers.values():
            if answer.rule:
                wanted[answer.rule] = wanted.get(answer.rule, 0) + 1
        standing = {str(rule) for policy in file.policies for rule in policy.rules}
        for rule in wanted:
            if rule not in standing:
                raise PolicyError("policy-syntax", f"the file would not hold the rule {rule}")
        self._decided = text, file

    def _check_rule(self, item: Item, rule: str) -> None:
        name, colon, body = rule.partition(": ")
        emulation, dash, syscall = name.partition("-")
        if not colon or not dash or emulation != item.name.partition("-")[0]:
            raise PolicyError(
                "policy-syntax", "this is no rule", f"write: {item.name}: CONDITION then permit"
            )
        if lexer.byte_length("\t" + rule) > lexer.LINE_MAX:
            raise PolicyError("policy-syntax", f"a line has at most {lexer.LINE_MAX} bytes")
        parse_rule(
            body, emulation=emulation, syscall=syscall, users=self._users, privileged=True,
            extended=self._file.extended,
        )
        if lexer.split_comment(rule)[1]:  # quotes are counted without regard to backslashes
            raise PolicyError("policy-syntax", 'a line with this name would end at its "#"')

    def _now(self) -> PolicyFile:
        text = self.text()
        if self._decided[0] != text:
            self._decided = text, self._parse(text)
        return self._decided[1]


def _policy_of(file: PolicyFile, program: str) -> Policy | None:
    policies = [one for one in file.policies if one.emulation != FOREIGN_EMULATION]
    return next((one for one in policies if one.path == program), None) or file.policy_for(program)


def _ends(file: PolicyFile) -> dict[str, int]:
    """Return, for each policy, the line after which a new rule comes: that of its last one."""
    return {
        policy.path: max([policy.line, *(rule.line for rule in policy.rules)])
        for policy in file.policies if policy.emulation != FOREIGN_EMULATION
    }


def _note(above: str, line: str) -> str:
    """Return what comments say about a rule: those above its group, and its own."""
    own = lexer.split_comment(line)[1].strip("# \t\r")
    return f"{above} {own}".strip()


def _comments(lines: Sequence[str], rules: Container[int]) -> list[str]:
    """Return for each line the comments above the group of lines that it belongs to.

    As learning writes them: a header and an empty line end a group, a bare "#" says no more. What
    stands above an ``include``, or another line that is no rule, is about that.

    Args:
        lines: of the file.
        rules: the numbers, from 1, of those that are rules.
    """
    found: list[str] = []
    block: list[str] = []
    before = False  # the line before was a comment
    said = ""
    for number, line in enumerate(lines, 1):
        found.append(said)
        is_comment = _begins(line, "#")
        if is_comment:
            block = [*(block if before else ()), line.strip("# \t\r")]
            said = " ".join(one for one in block if one)
        elif number not in rules:
            said = ""
        before = is_comment
    return found


def _begins(line: str, *words: str) -> bool:
    return line.lstrip(" \t").lower().startswith(words)


def _tail(text: str, old: str, action: str) -> str:
    """Return what of a rule stays behind another action: log, as, the predicate.

    ``text``: the rule in canonical form; ``old``: its action.
    """
    _, then, tail = text.rpartition(f" then {old}")
    if not then:
        return ""
    if tail.startswith("["):
        flag, _, tail = tail.partition("]")
        if action == old:
            return flag + "]" + tail
    at = tail.find(" as ")
    if action != old and at >= 0:  # who is denied something is not made somebody else for it
        comma = tail.find(", if")
        tail = tail[:at] + (tail[comma:] if comma >= 0 else "")
    return tail


def _replaced(raw: str, rule: str) -> str | None:
    """Return a line with another rule in it, its indentation and comment kept; None for none."""
    before, comment = lexer.split_comment(raw)
    indentation = before[: len(before) - len(before.lstrip(" \t"))]
    if not rule:
        return indentation + comment if comment else None
    space = before[len(before.rstrip(" \t\r\v\f")) :]
    return indentation + rule + space + comment
