"""Rules that were broken over lines with a backslash, as on slides and in mails, made whole.

The language has no continuation lines: a line that ends in a backslash is not a rule, and the next
one neither. Joined with one space they mostly are what was meant. Inside a quoted string, where a
space would count, they are joined without one.
"""

from __future__ import annotations

from certexec.policy import lexer

_SPACE = " \t\r\v\f"


def join_lines(text: str) -> tuple[str, list[int]]:
    """Return the text with every line that ends in a backslash joined with the next one.

    The comments of joined lines come to stand at the end. A backslash in the last line stays, for
    the parser to refuse. The second value tells for each line of the result in which line of the
    text, from 1, it begins.
    """
    lines = text.split("\n")
    joined: list[str] = []
    origins: list[int] = []
    at = 0
    while at < len(lines):
        origins.append(at + 1)
        line, comment = lexer.split_comment(lines[at])
        comments = [comment]
        at += 1
        while lexer.goes_on(line) and any(lines[at:]):
            line = line.rstrip(_SPACE)[:-1]
            if not _in_quotes(line):
                line = line.rstrip(_SPACE) + " "
            line, comment = lexer.split_comment(line + lines[at].lstrip(_SPACE))
            comments.append(comment)
            at += 1
        joined.append(line + comment if len(comments) == 1 else _whole(line, comments))
    return "\n".join(joined), origins


def _in_quotes(line: str) -> bool:
    """Tell whether a rule's line ends inside a quoted string."""
    quoted = escaped = False
    for character in line:
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif character == "\\":
            escaped = quoted
    return quoted


def _whole(line: str, comments: list[str]) -> str:
    return " ".join([line.rstrip(_SPACE), *(each.strip(_SPACE) for each in comments if each)])
