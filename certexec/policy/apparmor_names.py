"""AppArmor's patterns of names as regular expressions of rules (pure).

``*`` and ``?`` do not pass a slash, ``**`` does; between two slashes, or at the end behind one,
either stands for at least one character. AppArmor writes a directory with a slash at its end;
rules see names without one.

Source: apparmor.d(5), convert_aaregex_to_pcre of its parser.
"""

from __future__ import annotations

import re

ALTERNATIVES_MAX = 64
"""names that a group at the end of a pattern may make of it"""
_SPECIAL = frozenset("*?[]{}\\")
_OF_ERE = frozenset(".^()|+*?{}[]\\")
_PROC = "/proc/"
_PIDS = ("1", "12", "345", "6789", "10203", "304050", "4194303")
OWN = "self"


class Inexpressible(Exception):
    """The pattern cannot be said in the language."""


class Name:
    """A pattern without variables, and without a group at its end.

    Attributes:
        regex: of the names as rules see them, without anchors.
        files, folders: whether it stands for files, for directories; ``**`` at the end: both.
        literal: it stands for one name.
    """

    __slots__ = ("files", "folders", "literal", "regex")

    def __init__(self, pattern: str) -> None:
        self.literal = not _SPECIAL & set(pattern)
        regex = to_regex(pattern)
        self.folders = pattern.endswith(("/", "**"))
        self.files = not pattern.endswith("/")
        if pattern.endswith("/") and regex != "/":
            regex = regex[:-1]
        self.regex = regex

    @property
    def sure(self) -> bool:
        """Whether what has such a name can be nothing but what the pattern is about."""
        return self.literal or (self.files and self.folders)


def names_of(pattern: str) -> list[Name]:
    """Return what a pattern without variables stands for. Raises Inexpressible."""
    if not pattern.startswith("/") and not pattern.startswith("{"):
        raise Inexpressible("it is no absolute path")
    if not pattern.isprintable() or re.search(r"\[\^[^]]*\]$", pattern):
        raise Inexpressible("it may end in a slash, or in a character that no rule can hold")
    found: list[Name] = []
    for one in _without_group_at_end(pattern):
        try:
            found += [Name(path) for path in expanded(one)]
        except Inexpressible:  # a pattern, no short list of paths
            found.append(Name(one))
    return found


def _without_group_at_end(pattern: str) -> list[str]:
    waiting, done = [pattern], []
    while waiting:
        one = waiting.pop()
        group = _group_at_end(one)
        if group is None:
            done.append(one)
        else:
            start, parts = group
            waiting += [one[:start] + part for part in reversed(parts)]
        if len(waiting) + len(done) > ALTERNATIVES_MAX:
            raise Inexpressible("it has too many alternatives")
    return done


def _group_at_end(pattern: str) -> tuple[int, list[str]] | None:
    """Return where a group at the end starts, and its alternatives."""
    commas: list[int] = []
    depth = start = at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif character == "[" and "]" in pattern[at + 2 :]:
            at = pattern.index("]", at + 2)
        elif character == "{":
            if depth == 0:
                start, commas = at, []
            depth += 1
        elif character == "," and depth == 1:
            commas.append(at)
        elif character == "}":
            depth -= 1
            if depth == 0 and at == len(pattern) - 1:
                edges = [start, *commas, at]
                parts = zip(edges[:-1], edges[1:], strict=True)
                return start, [pattern[one + 1 : two] for one, two in parts]
        at += 1
    return None


def to_regex(pattern: str) -> str:
    """Return the POSIX extended regular expression of a pattern, without anchors.

    Raises Inexpressible.
    """
    made: list[str] = []
    depth, at = 0, 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "\\":
            if at == len(pattern) or pattern[at].isalnum():
                raise Inexpressible("its backslash stands for a character by number")
            made.append(escaped(pattern[at]))
            at += 1
        elif character == "*":
            start = at - 1
            while pattern[at : at + 1] == "*":
                at += 1
            any_one = "[^/]" if at - start == 1 else "."
            whole = pattern[start - 1 : start] == "/" and pattern[at : at + 1] in ("", "/")
            made.append(("[^/]" if whole else "") + any_one + "*")
        elif character == "?":
            made.append("[^/]")
        elif character == "[":
            end = pattern.find("]", at + 1)
            inner = pattern[at:end]
            if end < 0 or not inner.isascii() or set(inner) & set("[\\") or inner[:2] == "^]":
                raise Inexpressible("its set of characters is none here")
            made.append(f"[{inner}]")
            at = end + 1
        elif character == "{":
            depth += 1
            made.append("(")
        elif character == "}" and depth:
            depth -= 1
            made.append(")")
        elif character == "," and depth:
            made.append("|")
        else:
            made.append(escaped(character))
    if depth:
        raise Inexpressible("a brace is not closed")
    return "".join(made)


def escaped(character: str) -> str:
    """Return a character as a regular expression; a "$" so that it begins no macro."""
    if character == "$":
        return "[$]"
    return "\\" + character if character in _OF_ERE else character


def own_proc(pattern: str) -> str | None:
    """Return a pattern below /proc/PID as one below /proc/self, as rules see the program's own.

    None where its second part cannot stand for the numbers of processes. Raises Inexpressible
    where it would stand for the program's own entries by their name alone, or for some numbers.
    """
    if not pattern.startswith(_PROC):
        return None
    part, slash, rest = pattern[len(_PROC) :].partition("/")
    if part.count("{") != part.count("}"):
        raise Inexpressible("a group spans the number of a process and what is below")
    if part in (OWN, "thread-self"):
        raise Inexpressible("names there hold the number of the process, never its own name")
    if not _SPECIAL & set(part):
        return None
    regex = re.compile(to_regex(part), re.DOTALL)
    fits = [regex.fullmatch(one) is not None for one in _PIDS]
    named = regex.fullmatch(OWN) is not None
    if all(fits):
        return None if named else f"{_PROC}{OWN}{slash}{rest}"
    if any(fits) or named:
        raise Inexpressible("it is about some numbers of processes, and not about others")
    return None


def expanded(pattern: str) -> list[str]:
    """Return the paths that a pattern stands for. Raises Inexpressible if that is no short list."""
    waiting, done = [pattern], []
    while waiting:
        one = waiting.pop()
        end = one.find("}")
        if end < 0:
            if _SPECIAL & set(one):
                raise Inexpressible("it stands for more paths than can be listed")
            done.append(one)
            continue
        start = one.rfind("{", 0, end)
        if start < 0 or len(waiting) + len(done) > ALTERNATIVES_MAX:
            raise Inexpressible("it has too many alternatives")
        waiting += [
            one[:start] + part + one[end + 1 :]
            for part in reversed(one[start + 1 : end].split(","))
        ]
    return list(dict.fromkeys(done))
