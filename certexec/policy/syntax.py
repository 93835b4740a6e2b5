"""The policy language: text to policies, with the same verdict and the same tree as systrace.

This reads files line by line: headers, bare permits and denials, and what precedes a rule's
expression; the rest of a rule is certexec.policy.rule_parser's. The methods carry their part of
the grammar (docs/policy.ebnf holds all of it).

Source: systrace 1.6g, policy.c and filter.c (filter_parse_simple).
"""

from __future__ import annotations

from certexec.policy import directives, errnos, lexer
from certexec.policy.lexer import PolicySyntaxError, RuleError, decode_policy
from certexec.policy.model import LANGUAGE, Policy, PolicyFile, Rule, Subject, Template, base_name
from certexec.policy.names import FOREIGN_EMULATION, is_system_call
from certexec.policy.rule_parser import REWRITE, RuleParser, errno_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from certexec.policy.model import UserDb

__all__ = [
    "PolicySyntaxError", "decode_policy", "parse_policy", "parse_rule", "parse_template",
]

EMULATION_MAX = 15
"""bytes of a header's emulation that count: the original kept 16 with the NUL."""
REWRITTEN_MAX = 2047
"""bytes of a rule after ``true then `` was put before it: the rest fell off the buffer."""
_SIMPLE: dict[str, tuple[str, str, bool]] = {
    "permit": ("permit", "", False),
    "permit-now": ("permit", "", True),
    "deny": ("deny", "", False),
    "deny-now": ("deny", "", True),
}
_EXTENDED = {**_SIMPLE, "kill": ("kill", "", False)}
"""The same in files with a language line."""
_LANGUAGE = "language: "
_PART = "\n32"
"""What no path ends in: tells the two policies for one program apart."""


def parse_policy(
    text: str, *, name: str, users: UserDb, privileged: bool, subject: Subject | None = None,
    presets: Mapping[str, str] | None = None,
) -> PolicyFile:
    """Parse the text of a policy file.

    Args:
        text: what the file holds (see ``decode_policy``).
        name: what errors call the file.
        users: where the names of users and groups are looked up; an unknown one is an error.
        privileged: whether root parses: only then is ``as`` allowed, and a regular expression
            with a macro is left for later instead of being compiled now.
        subject: gives the macros for that check of an unprivileged parser; without it they stand
            for themselves.
        presets: ``NAME VERSION`` to the rules that an include of it stands for; without, an
            include is an error: what is signed is whole.

    Returns:
        The policies. A file of comments holds none, which is no error.

    Raises:
        PolicySyntaxError: the text is not in the language.
    """
    reader = _PolicyReader(name, users, privileged, subject)
    reader.presets = presets
    return reader.read(text)


def parse_template(text: str, *, name: str, users: UserDb, privileged: bool) -> Template:
    """Parse a template file: ``Template: NAME, Emulation: EMULATION, Description: TEXT`` and rules.

    Raises PolicySyntaxError.
    """
    reader = _PolicyReader(name, users, privileged, None)
    template: Template | None = None
    for number, raw, line in lexer.source_lines(text, name):
        if not line:
            continue
        if line[:10].lower() == "template: ":
            header = reader.template_header(number, raw, line)
            template = template or header  # of several headers the first counts
            continue
        if template is None:
            raise reader.error("a template begins with its header", number, raw, line)
        emulation = _first_bytes(template.emulation, EMULATION_MAX)
        template.rules.append(reader.rule(emulation, number, raw, line))
    if template is None:
        raise PolicySyntaxError("no template header", file=name, line=1, column=1, source_line="")
    return template


def parse_rule(
    text: str, *, emulation: str = "native", syscall: str = "open", line: int = 1, users: UserDb,
    privileged: bool, subject: Subject | None = None, name: str = "rule", extended: bool = False,
) -> Rule:
    """Parse what follows ``EMULATION-NAME: `` alone. Raises PolicySyntaxError.

    ``extended``: as in a file with a language line.
    """
    reader = _PolicyReader(name, users, privileged, subject)
    reader.extended = extended
    return reader.rule_body(emulation, syscall, text, line, text, 0)


class _PolicyReader:
    """One pass over one file; keeps what the original kept from one rule to the next."""

    def __init__(
        self, name: str, users: UserDb, privileged: bool, subject: Subject | None
    ) -> None:
        self.name = name
        self.users = users
        self.privileged = privileged
        self.subject = subject
        self.policies: dict[str, Policy] = {}
        self.extended = False
        self.presets: Mapping[str, str] | None = None
        self.open_quote = 0
        """The line of an accepted rule that ended inside a quoted string, or 0."""

    def error(
        self, message: str, line: int, raw: str, stripped: str, offset: int = 0, hint: str = ""
    ) -> PolicySyntaxError:
        """Make the error for an offset in the stripped line."""
        indent = len(raw) - len(raw.lstrip(" \t")) if stripped else 0
        return PolicySyntaxError(
            message, file=self.name, line=line, column=indent + offset + 1, source_line=raw,
            hint=lexer.JOIN_THE_LINES if lexer.goes_on(raw) else hint,
        )

    # file = [ language ] { line newline }
    # line = [ header | detached | directive | rule ] [ comment ]
    # detached = "detached" { character }
    def read(self, text: str) -> PolicyFile:
        policy: Policy | None = None
        prefix = ""
        cut = 0
        for number, raw, line in lexer.source_lines(text, self.name):
            # Most rules are a bare permit or deny, and a program waits for this loop: they take
            # a short way, which accepts nothing that self.rule() would not read the same.
            if prefix and policy is not None and line.startswith(prefix):
                head, _, body = line.partition(": ")
                simple = (_EXTENDED if self.extended else _SIMPLE).get(body)
                if simple is not None and not simple[2] and ":" not in head:
                    syscall = head[cut:]
                    if is_system_call(policy.emulation, syscall):
                        policy.rules.append(
                            Rule(
                                policy.emulation, syscall, action=simple[0],
                                errno=errnos.DEFAULT if simple[0] == "deny" else 0, line=number,
                                text=body, simple=True,
                            )
                        )
                        continue
            if not line:
                continue
            if line[:8].lower() == "policy: ":
                policy = self.header(number, raw, line)
                # An emulation with a dash in it matches no rule: a rule's ends at the first one.
                prefix = "" if "-" in policy.emulation else policy.emulation + "-"
                cut = len(prefix)
            elif policy is None and line[: len(_LANGUAGE)].lower() == _LANGUAGE:
                self.language(number, raw, line)
            elif policy is None:
                raise self.error(
                    "a rule before the first header", number, raw, line,
                    hint="begin with: Policy: /path/of/program, Emulation: native",
                )
            elif line[:8].lower() == "detached":
                policy.detached = True
                policy = None
            elif self.extended and directives.word_of(line):
                self.directive(policy, number, raw, line)
            else:
                policy.rules.append(self.rule(policy.emulation, number, raw, line))
        return PolicyFile(self.name, list(self.policies.values()), self.extended)

    # language = "Language: certexec 1"
    def language(self, number: int, raw: str, line: str) -> None:
        """Take the line that marks a file as one that systrace could not read: it refuses it."""
        if self.extended or self.policies:
            raise self.error("the language stands before all else, once", number, raw, line)
        if line[len(_LANGUAGE) :] != LANGUAGE:
            raise self.error(
                "this language is unknown here", number, raw, line, len(_LANGUAGE),
                f"this version knows: {LANGUAGE}",
            )
        self.extended = True

    # directive = "no-dotdot" | "exec-in " directory { "," directory } | "landlock"
    #             | "after " emulation "-" syscall ": " expression "then" "only" name { "," name }
    #             | "include " preset version
    #             | "adopt " path { "," path }
    def directive(self, policy: Policy, number: int, raw: str, line: str) -> None:
        """Take a line of the extended language that is no rule."""
        try:
            if directives.word_of(line) == directives.INCLUDE:
                self.include(
                    policy, number, directives.preset_of(policy, line, number, self.presets)
                )
            elif directives.word_of(line) == directives.AFTER:
                directives.take_after(policy, line, number, self.users)
            else:
                directives.take(policy, line, number)
        except RuleError as error:
            raise self.error(
                error.message, number, raw, line, error.column, error.hint
            ) from None

    def include(self, policy: Policy, number: int, key: str) -> None:
        """Read the rules of a preset; it holds nothing else, so none includes another."""
        assert self.presets is not None
        reader = _PolicyReader(f"preset {key}", self.users, self.privileged, self.subject)
        reader.extended = True
        for own, raw, line in lexer.source_lines(self.presets[key], reader.name):
            if line:
                rule = reader.rule(policy.emulation, own, raw, line)
                rule.line, rule.origin = number, f"{key}({own})"
                policy.rules.append(rule)

    # header = "Policy: " path ", Emulation: " emulation
    def header(self, number: int, raw: str, line: str) -> Policy:
        path, comma, rest = line[8:].partition(",")
        if not comma or rest[:12].lower() != " emulation: ":
            raise self.error(
                "a header needs an emulation", number, raw, line, 8 + len(path),
                "write: Policy: /path/of/program, Emulation: native",
            )
        emulation = _first_bytes(rest[12:], EMULATION_MAX)
        # systrace took a second header with a path for more of the first one, whatever its
        # emulation. In the language of certexec the part for the 32-bit ABI is one of its own.
        part = _PART if self.extended and emulation == FOREIGN_EMULATION else ""
        found = self.policies.get(path + part)
        if found is None:
            # A wildcard is bound to the first program of that name that turns up.
            wildcard = "*/" + base_name(path) + part
            found = self.policies.pop(wildcard, None)
            if found is None:
                found = Policy(path, emulation, number)
            found.path = path
            self.policies[path + part] = found
        return found

    # template header = "Template: " name ", Emulation: " emulation ", Description: " text
    def template_header(self, number: int, raw: str, line: str) -> Template:
        name, comma, rest = line[10:].partition(",")
        if comma and rest[:12].lower() == " emulation: ":
            value = rest[12:]
            ends = [at for at in (value.find(","), value.find(" ")) if at >= 0]
            if ends:
                end = min(ends)
                description = value[end + 1 :]
                if description[:14].lower() == " description: ":
                    return Template(name, value[:end], description[14:])
        raise self.error(
            "a template header needs an emulation and a description", number, raw, line,
            hint="write: Template: NAME, Emulation: native, Description: TEXT",
        )

    # rule = emulation "-" syscall ": " body
    def rule(self, emulation: str, number: int, raw: str, line: str) -> Rule:
        own, dash, rest = line.partition("-")
        if not dash or not rest:
            raise self.error("not a rule", number, raw, line, hint="write: native-NAME: permit")
        if own != emulation:
            raise self.error(
                f'emulation "{own}" differs from the header\'s "{emulation}"', number, raw, line
            )
        syscall, colon, _ = rest.partition(":")
        start = len(own) + len(syscall) + 2
        if not colon or line[start : start + 1] != " ":
            raise self.error(
                "a rule needs a colon and a space after the system call", number, raw, line,
                min(start, len(line)),
            )
        start += 1
        indent = len(raw) - len(raw.lstrip(" \t"))
        return self.rule_body(emulation, syscall, line[start:], number, raw, indent + start)

    # body = simple | simple ", if" relation | fullexpression
    # simple = "permit" | "permit-now" | ( "deny" | "deny-now" ) [ "[" name "]" ]
    #          | "kill"
    def rule_body(
        self, emulation: str, syscall: str, body: str, number: int, raw: str, column: int
    ) -> Rule:
        text = body
        comma = body.rfind(",")
        if comma >= 0 and body[comma : comma + 4].lower() == ", if":
            rewritten = bare_action(body[:comma], self.extended) is not None
        else:
            simple = bare_action(body, self.extended)
            if simple is not None and is_system_call(emulation, syscall):
                action, errno_name, now = simple
                return Rule(
                    emulation, syscall, action=action, errno=errno_of(action, errno_name),
                    errno_name=errno_name, line=number, text=text, simple=True, now=now,
                    flaw="an answer for one call only cannot be given by a file" if now else "",
                )
            rewritten = simple is not None
        if rewritten:
            body = _first_bytes(REWRITE + body, REWRITTEN_MAX)
            column -= len(REWRITE)
        if self.open_quote:
            raise self.error(
                f"the quote that line {self.open_quote} opens is never closed", number, raw, raw
            )
        try:
            parser = RuleParser(
                body, self.users, self.privileged, self.subject, self.extended
            )
            rule = parser.fullexpression(emulation, syscall, number, text)
        except RuleError as error:
            raise PolicySyntaxError(
                error.message, file=self.name, line=number,
                column=max(column + error.column, 0) + 1, source_line=raw,
                hint=lexer.JOIN_THE_LINES if lexer.goes_on(raw) else error.hint,
            ) from None
        if parser.open_quote:
            self.open_quote = number
            rule.flaw = "a quote is never closed"
        return rule


def bare_action(body: str, extended: bool = False) -> tuple[str, str, bool] | None:
    """Take apart a bare permit or deny: (action, error name, now); None for anything else.

    ``extended``: a bare kill, too.
    """
    known = (_EXTENDED if extended else _SIMPLE).get(body)
    if known is not None or body[:4] != "deny" or body[-1:] != "]":
        return known
    start = 9 if body[4:9] == "-now[" else 5
    if body[start - 1] != "[":
        return None
    name = body[start:-1]
    if errnos.number(name) is None:
        return None
    return "deny", name.lower(), start == 9


def _first_bytes(text: str, count: int) -> str:
    """Return as much of the text as fits, in bytes; a character that is cut leaves its bytes."""
    if len(text) * 4 <= count:
        return text
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text[:count]
    return data[:count].decode("utf-8", "surrogateescape")
