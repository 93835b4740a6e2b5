"""The policy language: text to policies, with the same verdict and the same tree as systrace.

A recursive descent whose methods carry their part of the grammar (docs/policy.ebnf holds all of
it). The original was a yacc grammar without precedences: ``and`` and ``or`` group to the right and
bind alike, ``not`` takes all that follows. Parentheses may be as deep as a line is long, so the
expression is parsed with a stack of its own and not with Python's.

Source: systrace 1.6g, policy.c, filter.c (filter_parse_simple) and parse.y.
"""

from __future__ import annotations

from certexec.policy import errnos, lexer
from certexec.policy.lexer import (
    END,
    NAME,
    NUMBER,
    QUOTED,
    PolicySyntaxError,
    RuleError,
    decode_policy,
)
from certexec.policy.model import (
    MACROS,
    TRUE,
    And,
    Not,
    Or,
    Policy,
    PolicyFile,
    Predicate,
    Rule,
    Subject,
    Symbol,
    Template,
    base_name,
)
from certexec.policy.names import is_system_call
from certexec.policy.operators import expand, is_regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.lexer import Token
    from certexec.policy.model import Expression, UserDb

__all__ = [
    "PolicySyntaxError", "decode_policy", "parse_policy", "parse_rule", "parse_template",
]

OFFSETS = 10
"""``filename[N]`` takes N below this: a system call had at most ten arguments for systrace."""
EMULATION_MAX = 15
"""bytes of a header's emulation that count: the original kept 16 with the NUL."""
REWRITTEN_MAX = 2047
"""bytes of a rule after ``true then `` was put before it: the rest fell off the buffer."""
_PREFIX = "true then "
_OPERATORS = frozenset(("match", "eq", "neq", "sub", "nsub", "inpath", "re"))
_SIMPLE: dict[str, tuple[str, str, bool]] = {
    "permit": ("permit", "", False),
    "permit-now": ("permit", "", True),
    "deny": ("deny", "", False),
    "deny-now": ("deny", "", True),
}


def parse_policy(
    text: str, *, name: str, users: UserDb, privileged: bool, subject: Subject | None = None
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

    Returns:
        The policies. A file of comments holds none, which is no error.

    Raises:
        PolicySyntaxError: the text is not in the language.
    """
    return _PolicyReader(name, users, privileged, subject).read(text)


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
            if template is None:
                template = reader.template_header(number, raw, line)
            continue
        if template is None:
            raise reader.error("a template begins with its header", number, raw, line)
        template.rules.append(reader.rule(template.emulation, number, raw, line))
    if template is None:
        raise PolicySyntaxError("no template header", file=name, line=1, column=1, source_line="")
    return template


def parse_rule(
    text: str, *, emulation: str = "native", syscall: str = "open", line: int = 1, users: UserDb,
    privileged: bool, subject: Subject | None = None, name: str = "rule",
) -> Rule:
    """Parse what follows ``EMULATION-NAME: `` alone. Raises PolicySyntaxError."""
    reader = _PolicyReader(name, users, privileged, subject)
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
        self.open_quote = 0
        """The line of an accepted rule that ended inside a quoted string, or 0."""

    def error(
        self, message: str, line: int, raw: str, stripped: str, offset: int = 0, hint: str = ""
    ) -> PolicySyntaxError:
        """Make the error for an offset in the stripped line."""
        indent = len(raw) - len(raw.lstrip(" \t")) if stripped else 0
        return PolicySyntaxError(
            message, file=self.name, line=line, column=indent + offset + 1, source_line=raw,
            hint=hint,
        )

    # file = { line newline }
    # line = [ header | detached | rule ] [ comment ]
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
                simple = _SIMPLE.get(body)
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
            elif policy is None:
                raise self.error(
                    "a rule before the first header", number, raw, line,
                    hint="begin with: Policy: /path/of/program, Emulation: native",
                )
            elif line[:8].lower() == "detached":
                policy.detached = True
                policy = None
            else:
                policy.rules.append(self.rule(policy.emulation, number, raw, line))
        return PolicyFile(self.name, list(self.policies.values()))

    # header = "Policy: " path ", Emulation: " emulation
    def header(self, number: int, raw: str, line: str) -> Policy:
        path, comma, rest = line[8:].partition(",")
        if not comma or rest[:12].lower() != " emulation: ":
            raise self.error(
                "a header needs an emulation", number, raw, line, 8 + len(path),
                "write: Policy: /path/of/program, Emulation: native",
            )
        found = self.policies.get(path)
        if found is None:
            # A wildcard is bound to the first program of that name that turns up.
            wildcard = "*/" + base_name(path)
            found = self.policies.pop(wildcard, None)
            if found is None:
                found = Policy(path, _first_bytes(rest[12:], EMULATION_MAX), number)
            found.path = path
            self.policies[path] = found
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
    def rule_body(
        self, emulation: str, syscall: str, body: str, number: int, raw: str, column: int
    ) -> Rule:
        text = body
        comma = body.rfind(",")
        if comma >= 0 and body[comma : comma + 4].lower() == ", if":
            rewritten = _simple(body[:comma]) is not None
        else:
            simple = _simple(body)
            if simple is not None and is_system_call(emulation, syscall):
                action, errno_name, now = simple
                return Rule(
                    emulation, syscall, action=action, errno=_errno(action, errno_name),
                    errno_name=errno_name, line=number, text=text, simple=True, now=now,
                    flaw="an answer for one call only cannot be given by a file" if now else "",
                )
            rewritten = simple is not None
        if rewritten:
            body = _first_bytes(_PREFIX + body, REWRITTEN_MAX)
            column -= len(_PREFIX)
        if self.open_quote:
            raise self.error(
                f"the quote that line {self.open_quote} opens is never closed", number, raw, raw
            )
        try:
            parser = _RuleParser(body, self)
            rule = parser.fullexpression(emulation, syscall, number, text)
        except RuleError as error:
            raise PolicySyntaxError(
                error.message, file=self.name, line=number,
                column=max(column + error.column, 0) + 1, source_line=raw, hint=error.hint,
            ) from None
        if parser.open_quote:
            self.open_quote = number
            rule.flaw = "a quote is never closed"
        return rule


class _RuleParser:
    """The grammar of one rule that is not a bare permit or deny."""

    def __init__(self, text: str, reader: _PolicyReader) -> None:
        self.users = reader.users
        self.privileged = reader.privileged
        self.subject = reader.subject
        self.text = text
        self.tokens, self.open_quote = lexer.tokens(text)
        self.tokens.append((END, "", len(text)))
        self.position = 0

    # fullexpression = expression "then" action [ "[" name "]" ] [ "log" ]
    #                  [ elevate ] [ predicate ]
    def fullexpression(self, emulation: str, syscall: str, line: int, text: str) -> Rule:
        expression = self.expression()
        self.expect("then", '"then" or "->"')
        action = self.action()
        flag, flag_column = self.bracketed_name()
        errno_name = ""
        inherit = detach = False
        if flag and action == "deny":
            errno_name = flag.lower()
            if errnos.number(flag) is None:
                raise RuleError(f'unknown error name "{flag}"', flag_column)
        elif flag and action == "permit":
            inherit = flag.lower() == "inherit"
            detach = flag.lower() == "detach"
            if not inherit and not detach:
                raise RuleError(f'unknown flag "{flag}"', flag_column)
        log = self.accept("log") is not None
        elevate = self.elevate()
        predicate = self.predicate()
        self.end()
        return Rule(
            emulation, syscall, expression=expression, action=action,
            errno=_errno(action, errno_name), errno_name=errno_name, inherit=inherit,
            detach=detach, log=log, elevate=elevate, predicate=predicate, line=line, text=text,
        )

    # expression = operand [ ( "and" | "or" ) expression ]
    # operand = "not" expression | "(" expression ")" | symbol
    def expression(self) -> Expression:
        # What waits for its right side: "not", "(", or the connective with its left side.
        waiting: list[tuple[str, Expression]] = []
        while True:
            kind = self.tokens[self.position][0]
            if kind in ("not", "("):
                waiting.append((kind, TRUE))
                self.position += 1
                continue
            node = self.symbol()
            while True:
                kind = self.tokens[self.position][0]
                if kind in ("and", "or"):
                    waiting.append((kind, node))
                    self.position += 1
                    break
                # Nothing more to the right: everything back to the parenthesis is complete.
                while waiting and waiting[-1][0] != "(":
                    kind, left = waiting.pop()
                    if kind == "not":
                        node = Not(node)
                    else:
                        node = And(left, node) if kind == "and" else Or(left, node)
                if not waiting:
                    return node
                self.expect(")", '")"')
                waiting.pop()

    # symbol = name [ "[" number "]" ] operator quoted | "true"
    # operator = "match" | "eq" | "neq" | "sub" | "nsub" | "inpath" | "re"
    def symbol(self) -> Expression:
        token = self.next()
        if token[0] == "true":
            return TRUE
        if token[0] != NAME:
            raise self.unexpected(token, "a condition")
        argument = str(token[1])
        offset = -1
        if self.accept("["):
            number = self.expect(NUMBER, "a number")
            offset = int(number[1])
            self.expect("]", '"]"')
            if not 0 <= offset < OFFSETS:
                raise RuleError(f"offset {offset} is not from 0 to {OFFSETS - 1}", number[2])
        operator = self.next()
        if operator[0] not in _OPERATORS:
            if argument.lower() in lexer.KEYWORDS or "(" in argument or ")" in argument:
                raise self.unexpected(token, "a condition")
            raise self.unexpected(operator, "an operator such as match or eq")
        data = self.expect(QUOTED, "a quoted string")
        value = str(data[1])
        if operator[0] == "re":
            self.check_regex(value, data[2])
        return Symbol(argument, offset, operator[0], value)

    def check_regex(self, pattern: str, column: int) -> None:
        """Refuse what regcomp(3) refuses, where the original compiled it when it parsed."""
        if any(macro in pattern for macro in MACROS):
            if self.privileged:
                return
            if self.subject is not None:
                pattern = expand(pattern, self.subject)
        if not is_regex(pattern):
            raise RuleError("not a regular expression", column)

    # action = "permit" | "deny" | "ask"
    def action(self) -> str:
        token = self.next()
        if token[0] not in ("permit", "deny", "ask"):
            raise self.unexpected(token, "permit, deny or ask")
        return token[0]

    # [ "[" name "]" ]
    def bracketed_name(self) -> tuple[str, int]:
        if not self.accept("["):
            return "", 0
        token = self.expect(NAME, "a name")
        self.expect("]", '"]"')
        return str(token[1]), token[2]

    # elevate = "as" ( uid [ ":" gid ] | ":" gid )
    def elevate(self) -> tuple[int | None, int | None] | None:
        start = self.accept("as")
        if start is None:
            return None
        uid = None if self.tokens[self.position][0] == ":" else self.identity("user")
        gid = None
        if uid is None or self.tokens[self.position][0] == ":":
            self.expect(":", '":"')
            gid = self.identity("group")
        if not self.privileged:
            raise RuleError("only root may elevate privilege", start[2])
        # A uid is unsigned, though the scanner read it as an int.
        return (
            None if uid is None else uid & 0xFFFFFFFF,
            None if gid is None else gid & 0xFFFFFFFF,
        )

    # predicate = "," "if" relation
    # relation = ( "user" | "group" ) ( "=" | "!=" | "<" | ">" ) ( uid | gid )
    def predicate(self) -> Predicate | None:
        if not self.accept(","):
            return None
        self.expect("if", '"if"')
        kind = self.next()
        if kind[0] not in ("user", "group"):
            raise self.unexpected(kind, "user or group")
        relation = self.next()
        if relation[0] not in ("=", "!=", "<", ">"):
            raise self.unexpected(relation, "=, !=, < or >")
        return Predicate(kind[0], relation[0], self.identity(kind[0]))

    # uid = number | name
    # gid = number | name
    def identity(self, kind: str) -> int:
        token = self.next()
        if token[0] == NUMBER:
            return int(token[1])
        if token[0] != NAME:
            raise self.unexpected(token, f"a {kind}")
        name = str(token[1])
        number = self.users.uid(name) if kind == "user" else self.users.gid(name)
        if number is None:
            raise RuleError(
                f'unknown {kind} "{name}"', token[2],
                f"names are looked up on this machine: add the {kind} or write its number",
            )
        return number

    def next(self) -> Token:
        """Take the next token; the end stays where it is."""
        token = self.tokens[self.position]
        if token[0] != END:
            self.position += 1
        return token

    def accept(self, kind: str) -> Token | None:
        """Take the next token if it is of this kind."""
        token = self.tokens[self.position]
        if token[0] != kind:
            return None
        self.position += 1
        return token

    def expect(self, kind: str, wanted: str) -> Token:
        """Take the next token, which must be of this kind."""
        token = self.tokens[self.position]
        if token[0] != kind:
            raise self.unexpected(token, wanted)
        self.position += 1
        return token

    def end(self) -> None:
        """Refuse anything after the rule."""
        token = self.tokens[self.position]
        if token[0] != END:
            raise self.unexpected(token, "the end of the rule")

    def unexpected(self, token: Token, wanted: str) -> RuleError:
        """Make the error for a token that cannot stand here, with the hint for common mistakes."""
        kind, value, column = token
        hint = ""
        if kind in ("permit", "deny", "ask") and self.position <= 1:
            hint = f'write "{_PREFIX}{self.text[column:]}"'
            for name in self.tokens[self.position + 1 : self.position + 2]:
                if kind == "deny" and name[0] == NAME and errnos.number(str(name[1])) is None:
                    hint = f'"{name[1]}" is no error name'
        elif kind == NAME and ("(" in str(value) or ")" in str(value)):
            hint = "a parenthesis that touches a word belongs to it: put a space between them"
        elif kind == END and self.open_quote:
            hint = "a quote is never closed"
        elif kind == NAME and str(value).lower() in lexer.KEYWORDS:
            hint = "keywords are in lower case"
        if kind == END:
            shown = "the rule ends"
        elif kind == QUOTED:
            shown = "found a quoted string"
        else:
            shown = f'found "{value}"'
        return RuleError(f"{shown} where {wanted} is expected", column, hint)


def _simple(body: str) -> tuple[str, str, bool] | None:
    """Take apart a bare permit or deny: (action, error name, now); None for anything else."""
    known = _SIMPLE.get(body)
    if known is not None or body[:4] != "deny" or body[-1:] != "]":
        return known
    start = 9 if body[4:9] == "-now[" else 5
    if body[start - 1] != "[":
        return None
    name = body[start:-1]
    if errnos.number(name) is None:
        return None
    return "deny", name.lower(), start == 9


def _errno(action: str, name: str) -> int:
    if action != "deny":
        return 0
    return errnos.NUMBERS[name] if name else errnos.DEFAULT


def _first_bytes(text: str, count: int) -> str:
    """Return as much of the text as fits, in bytes; a character that is cut leaves its bytes."""
    if len(text) * 4 <= count:
        return text
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text[:count]
    return data[:count].decode("utf-8", "surrogateescape")
