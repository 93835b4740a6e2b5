"""Text to lines, and rules to tokens, exactly as systrace read them.

Two layers, as in the original. The file layer cuts the text into lines, removes comments and
white space, and refuses lines that do not fit the original's buffer. The rule layer cuts what
follows ``EMULATION-NAME: `` into tokens; there the longest match wins, so ``permitx`` is one name
and ``true)`` is one name too.

Source: systrace 1.6g, policy.c (systrace_policyline) and lex.l, whose verdicts the tests compare.
"""

from __future__ import annotations

from certexec.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Token = tuple[str, str | int, int]
    """Kind, value, and column: the offset in the text of the rule, from 0."""

LINE_MAX = 2046
"""bytes in a line without its newline: the original read into a buffer of 2048 bytes
(_POSIX2_LINE_MAX), of which the newline and the closing NUL take one each."""

NAME = "NAME"
QUOTED = "QUOTED"
NUMBER = "NUMBER"
END = "END"

KEYWORDS = frozenset(
    (
        "ask", "deny", "permit", "and", "or", "not", "match", "then", "eq", "neq", "sub", "nsub",
        "inpath", "re", "log", "true", "if", "user", "group", "as",
    )
)
_SPECIAL = {word: word for word in (*KEYWORDS, "(", ")", "[", "]", ":", ",", "=", "!=", "<", ">")}
_SPECIAL["->"] = "then"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_NAME_START = frozenset("_$" + _LETTERS)
_NAME_BODY = frozenset("_.()/-" + _LETTERS + _DIGITS)
_ESCAPES = {"n": "\n", "r": "\r"}
_TRAILING_SPACE = " \t\r\v\f"
"""What isspace(3) accepts in the C locale, without the newline that ended the line."""
_INT_SIGN = 1 << 31
_INT_SPAN = 1 << 32
_LONG_MAX = (1 << 63) - 1
JOIN_THE_LINES = (
    'a rule cannot go on in the next line: join the lines ("certexec policy fmt --join" does)'
)
"""The hint for a line that ends in a backslash, as rules on slides and in mails do."""


class PolicySyntaxError(PolicyError):
    """A policy is not in the language.

    Attributes:
        file: the name that was given for the text.
        line: from 1.
        column: from 1, in characters of the source line.
        source_line: the line as it stands in the file, without its newline.
    """

    def __init__(
        self, message: str, *, file: str, line: int, column: int, source_line: str, hint: str = ""
    ) -> None:
        super().__init__("policy-syntax", f"{file}({line}:{column}): {message}", hint)
        self.file = file
        self.line = line
        self.column = column
        self.source_line = source_line

    def caret(self) -> str:
        """Return three lines: the message, the source line and a caret under the column."""
        before = self.source_line[: self.column - 1]
        # A tab stays a tab, so that the caret stands right whatever a tab is wide.
        pad = "".join("\t" if character == "\t" else " " for character in before)
        return f"{self.message}\n{self.source_line}\n{pad}^"


class RuleError(Exception):
    """A rule is not in the language; the column is an offset in the text of the rule, from 0.

    Never leaves this package: ``certexec.policy.syntax`` turns it into a PolicySyntaxError.
    """

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.hint = hint


def decode_policy(data: bytes) -> str:
    """Return the text of a policy file; bytes that are not UTF-8 survive as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def source_lines(text: str, file: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, raw line, line without comment and outer white space).

    Raises PolicySyntaxError for a line that is longer than LINE_MAX bytes, a last line without a
    newline, and a NUL: the original could not see beyond any of these.
    """
    raws = text.split("\n")
    unfinished = raws.pop()
    number = 0
    for raw in raws:
        number += 1
        if len(raw) * 4 > LINE_MAX and byte_length(raw) > LINE_MAX:
            raise PolicySyntaxError(
                f"line too long, at most {LINE_MAX} bytes", file=file, line=number,
                column=LINE_MAX + 1, source_line=raw,
            )
        if "\0" in raw:
            raise PolicySyntaxError(
                "NUL byte", file=file, line=number, column=raw.index("\0") + 1, source_line=raw
            )
        yield number, raw, _strip(raw)
    if unfinished:
        raise PolicySyntaxError(
            "the last line does not end in a newline", file=file, line=number + 1,
            column=len(unfinished) + 1, source_line=unfinished, hint="add a newline at its end",
        )


def byte_length(line: str) -> int:
    """Return how many bytes a line of a policy has."""
    return len(line.encode("utf-8", "replace"))  # a lone surrogate stands for one byte


def split_comment(raw: str) -> tuple[str, str]:
    """Return what stands before a line's comment, and the comment with its "#" or ""."""
    cut = _comment_start(raw) if "#" in raw else len(raw)
    return raw[:cut], raw[cut:]


def goes_on(raw: str) -> bool:
    """Tell whether a line ends in a backslash, as if the next one continued it."""
    return split_comment(raw)[0].rstrip(_TRAILING_SPACE).endswith("\\")


def _strip(raw: str) -> str:
    line = raw[: _comment_start(raw)] if "#" in raw else raw
    stripped = line.rstrip(_TRAILING_SPACE)
    if not stripped:
        # The original never looked at the first character: an empty line that ends in CR LF is
        # one that holds a CR, and so it is a syntax error.
        stripped = line[:1]
    return stripped.lstrip(" \t")


def _comment_start(line: str) -> int:
    """Return where the comment begins: a '#' outside quotes that does not follow a '-'.

    Quotes are counted without regard to backslashes, as the original did, and a '-' before the
    '#' makes it part of a system call's name (``linux-#224 (unimplemented gettid)``).
    """
    at = line.find("#")
    while at >= 0:
        if line.count('"', 0, at) % 2 == 0 and line[at - 1 : at] != "-":
            return at
        at = line.find("#", at + 1)
    return len(line)


def tokens(text: str) -> tuple[list[Token], bool]:
    """Cut the text of a rule into tokens.

    Returns them and whether the text ends inside a quoted string. That is not an error in itself:
    the original's scanner said nothing then, so ``true then permit "x`` was a rule.
    Raises RuleError for a character that can begin no token.
    """
    found: list[Token] = []
    position = 0
    length = len(text)
    comments = "#" in text and "\n" in text
    while position < length:
        quote = text.find('"', position)
        stop = length if quote < 0 else quote
        if comments:
            sharp = text.find("#", position, stop)
            newline = text.find("\n", sharp) if sharp >= 0 else -1
            if newline >= 0:
                _words(text, position, sharp, found)
                position = newline + 1
                continue
        _words(text, position, stop, found)
        if quote < 0:
            break
        end = text.find('"', quote + 1)
        if end < 0:
            return found, True
        value = text[quote + 1 : end]
        if "\\" in value:
            unescaped, end = _unescape(text, quote + 1)
            if end < 0:
                return found, True
            value = unescaped
        found.append((QUOTED, value, quote))
        position = end + 1
    return found, False


def _unescape(text: str, position: int) -> tuple[str, int]:
    """Return the value of the quoted string that begins here, and where its quote closes or -1."""
    value: list[str] = []
    length = len(text)
    while position < length:
        character = text[position]
        if character == '"':
            return "".join(value), position
        if character == "\\":
            position += 1
            if position == length:
                break
            character = _ESCAPES.get(text[position], text[position])
        value.append(character)
        position += 1
    return "", -1


def _words(text: str, start: int, stop: int, found: list[Token]) -> None:
    """Append the tokens of an unquoted stretch of the text."""
    segment = text[start:stop]
    if not (segment.isascii() and segment.isprintable()):
        segment = segment.replace("\t", " ").replace("\n", " ")
        for offset, character in enumerate(segment):
            if not " " <= character <= "~":
                raise RuleError("illegal character", start + offset)
    cursor = 0
    for word in segment.split():
        cursor = segment.find(word, cursor)
        kind = _SPECIAL.get(word)
        if kind is not None:
            found.append((kind, word, start + cursor))
        elif word.isidentifier():
            found.append((NAME, word, start + cursor))
        else:
            _parts(word, start + cursor, found)
        cursor += len(word)


def _parts(word: str, column: int, found: list[Token]) -> None:
    """Append the tokens of a stretch without white space, the longest match first."""
    position = 0
    length = len(word)
    while position < length:
        end = position + 1
        first = word[position]
        if first in _NAME_START:
            while end < length and word[end] in _NAME_BODY:
                end += 1
            if word[end : end + 1] == "$":
                end += 1
            part = word[position:end]
            found.append((_SPECIAL.get(part, NAME), part, column + position))
        elif first in _DIGITS:
            while end < length and word[end] in _DIGITS:
                end += 1
            found.append((NUMBER, _c_int(word[position:end]), column + position))
        else:
            if word[position : position + 2] in ("->", "!="):
                end += 1
            part = word[position:end]
            kind = _SPECIAL.get(part)
            if kind is None:
                raise RuleError(f'illegal character "{part}"', column + position)
            found.append((kind, part, column + position))
        position = end


def _c_int(digits: str) -> int:
    """Return what atoi(3) made of the digits on a 64-bit machine: saturated, then cut to an int."""
    value = min(int(digits), _LONG_MAX) % _INT_SPAN
    return value - _INT_SPAN if value >= _INT_SIGN else value
