"""The grammar of one rule: expression, action, flags, predicate.

What comes before it in a line, and rules that are a bare permit or deny, are read by
certexec.policy.syntax. Each method carries its part of the grammar (docs/policy.ebnf).

The original was a yacc grammar without precedences: ``and`` and ``or`` group to the right and bind
alike, ``not`` takes all that follows. Parentheses may be as deep as a line is long, so an
expression is parsed with a stack of its own and not with Python's.

Source: systrace 1.6g, parse.y.
"""

from __future__ import annotations

from certexec.policy import errnos, lexer, networks
from certexec.policy.lexer import END, NAME, NUMBER, QUOTED, RuleError
from certexec.policy.model import (
    LANGUAGE,
    MACROS,
    TRUE,
    And,
    Not,
    Or,
    Predicate,
    Rule,
    Symbol,
)
from certexec.policy.operators import expand, is_regex
from certexec.policy.spelling import close_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.lexer import Token
    from certexec.policy.model import Expression, Subject, UserDb

OFFSETS = 10
"""``filename[N]`` takes N below this: a system call had at most ten arguments for systrace."""
REWRITE = "true then "
"""What makes a rule of this grammar out of a bare permit or deny."""
ACTIONS = ("permit", "deny", "ask")
KILL = "kill"
"""An action that files with a language line have; elsewhere it is a name like any other."""
IN = "in"
"""Likewise an operator."""
CONNECTIVES = ("then", "and", "or")
_OPERATORS = frozenset(("match", "eq", "neq", "sub", "nsub", "inpath", "re"))


def errno_of(action: str, name: str) -> int:
    """Return the Linux error number of an action with an error name (lower case) or without."""
    if action != "deny":
        return 0
    return errnos.NUMBERS[name] if name else errnos.DEFAULT


def misspelt(token: Token, words: tuple[str, ...]) -> str:
    """Return the hint for a name that is nearly one of these words, else ""."""
    meant = close_word(str(token[1]), words) if token[0] == NAME else ""
    return f'did you mean "{meant}"?' if meant else ""


class RuleParser:
    """The grammar of one rule that is not a bare permit or deny."""

    def __init__(
        self, text: str, users: UserDb, privileged: bool, subject: Subject | None,
        extended: bool = False,
    ) -> None:
        """``extended``: the file says that it goes beyond systrace's language."""
        self.extended = extended
        self.users = users
        self.privileged = privileged
        self.subject = subject
        self.text = text
        self.tokens, self.open_quote = lexer.tokens(text)
        self.tokens.append((END, "", len(text)))
        self.position = 0

    # fullexpression = expression "then" action [ "[" name "]" ] [ "log" ]
    #                  [ elevate ] [ predicate ]
    def fullexpression(self, emulation: str, syscall: str, line: int, text: str) -> Rule:
        """Parse the whole rule."""
        expression = self.expression()
        self.expect("then", '"then" or "->"', (*CONNECTIVES, *ACTIONS))
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
        elif flag and action == KILL:
            raise RuleError('"kill" takes no flag', flag_column)
        log = self.accept("log") is not None
        start = self.tokens[self.position]
        elevate = self.elevate()
        if elevate is not None and action == KILL:
            raise RuleError("nothing is done with another identity", start[2])
        predicate = self.predicate()
        self.end()
        return Rule(
            emulation, syscall, expression=expression, action=action,
            errno=errno_of(action, errno_name), errno_name=errno_name, inherit=inherit,
            detach=detach, log=log, elevate=elevate, predicate=predicate, line=line, text=text,
        )

    # expression = operand [ ( "and" | "or" ) expression ]
    # operand = "not" expression | "(" expression ")" | symbol
    def expression(self) -> Expression:
        """Parse conditions up to what cannot continue them."""
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
                self.expect(")", '")"', CONNECTIVES)
                waiting.pop()

    # symbol = name [ "[" number "]" ] operator quoted | "true"
    # operator = "match" | "eq" | "neq" | "sub" | "nsub" | "inpath" | "re" | "in"
    def symbol(self) -> Expression:
        """Parse one comparison."""
        token = self.next()
        if token[0] == "true":
            return TRUE
        if token[0] != NAME:
            raise self.unexpected(token, "a condition")
        argument = str(token[1])
        offset = -1
        if self.accept("["):
            number = self.next()
            if number[0] != NUMBER:
                raise self.unexpected(number, "a number", misspelt(token, ACTIONS))
            offset = int(number[1])
            self.expect("]", '"]"')
            if not 0 <= offset < OFFSETS:
                raise RuleError(f"offset {offset} is not from 0 to {OFFSETS - 1}", number[2])
        operator = self.next()
        if self.extended and operator[:2] == (NAME, IN):
            return self.network(argument, offset, token[2])
        if operator[0] not in _OPERATORS:
            if argument.lower() in lexer.KEYWORDS or "(" in argument or ")" in argument:
                raise self.unexpected(token, "a condition")
            wanted = "an operator such as match or eq"
            raise self.unexpected(operator, wanted, misspelt(token, ACTIONS))
        data = self.expect(QUOTED, "a quoted string")
        value = str(data[1])
        if operator[0] == "re":
            self.check_regex(value, data[2])
        return Symbol(argument, offset, operator[0], value)

    def network(self, argument: str, offset: int, column: int) -> Symbol:
        """Parse what follows "in": a network and its ports."""
        if argument.lower() != "sockaddr":
            raise RuleError('"in" is about addresses', column, 'write: sockaddr in "inet-[...]:*"')
        data = self.expect(QUOTED, "a quoted string")
        try:
            networks.parse(str(data[1]))
        except networks.NetworkError as error:
            raise RuleError(str(error), data[2], networks.FORM) from None
        return Symbol(argument, offset, IN, str(data[1]))

    def check_regex(self, pattern: str, column: int) -> None:
        """Refuse what regcomp(3) refuses, where the original compiled it when it parsed."""
        if any(macro in pattern for macro in MACROS):
            if self.privileged:
                return
            if self.subject is not None:
                pattern = expand(pattern, self.subject)
        if not is_regex(pattern):
            raise RuleError("not a regular expression", column)

    # action = "permit" | "deny" | "ask" | "kill"
    def action(self) -> str:
        """Parse what is to happen."""
        token = self.next()
        if self.extended and token[:2] == (NAME, KILL):
            return KILL
        if token[0] not in ACTIONS:
            raise self.unexpected(token, "permit, deny or ask", misspelt(token, ACTIONS))
        return token[0]

    def only(self, word: str) -> list[tuple[str, int]]:
        """Parse ``only`` and names of calls to the end; returns each with its column."""
        if self.tokens[self.position][:2] != (NAME, word):
            raise self.unexpected(self.tokens[self.position], f'"{word}"')
        self.position += 1
        names = []
        while True:
            token = self.expect(NAME, "the name of a call")
            names.append((str(token[1]), token[2]))
            if not self.accept(","):
                self.end()
                return names

    # [ "[" name "]" ]
    def bracketed_name(self) -> tuple[str, int]:
        """Parse a flag or an error name; returns it with its column, or ""."""
        if not self.accept("["):
            return "", 0
        token = self.expect(NAME, "a name")
        self.expect("]", '"]"')
        return str(token[1]), token[2]

    # elevate = "as" ( uid [ ":" gid ] | ":" gid )
    def elevate(self) -> tuple[int | None, int | None] | None:
        """Parse the identity for this one call."""
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
        """Parse whom the rule is about."""
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
        """Parse a user or a group by number or name; an unknown name is an error."""
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

    def expect(self, kind: str, wanted: str, words: tuple[str, ...] = ()) -> Token:
        """Take the next token, which must be of this kind; ``words``: what was perhaps meant."""
        token = self.tokens[self.position]
        if token[0] != kind:
            raise self.unexpected(token, wanted, misspelt(token, words))
        self.position += 1
        return token

    def end(self) -> None:
        """Refuse anything after the rule."""
        token = self.tokens[self.position]
        if token[0] != END:
            raise self.unexpected(token, "the end of the rule")

    def unexpected(self, token: Token, wanted: str, hint: str = "") -> RuleError:
        """Make the error for a token that cannot stand here, with the hint for common mistakes."""
        kind, value, column = token
        if kind in ACTIONS and self.position <= 1:
            hint = f'write "{REWRITE}{self.text[column:]}"'
            for name in self.tokens[self.position + 1 : self.position + 2]:
                if kind == "deny" and name[0] == NAME and errnos.number(str(name[1])) is None:
                    hint = f'"{name[1]}" is no error name'
        elif kind == NAME and ("(" in str(value) or ")" in str(value)):
            hint = "a parenthesis that touches a word belongs to it: put a space between them"
        elif kind == END and self.open_quote:
            hint = "a quote is never closed"
        elif kind == NAME and str(value).lower() in lexer.KEYWORDS:
            hint = "keywords are in lower case"
        elif (kind, value) in ((NAME, KILL), (NAME, IN)) and not self.extended:
            hint = f'"{value}" needs a first line "Language: {LANGUAGE}"'
        if kind == END:
            shown = "the rule ends"
        elif kind == QUOTED:
            shown = "found a quoted string"
        else:
            shown = f'found "{value}"'
        return RuleError(f"{shown} where {wanted} is expected", column, hint)
