"""POSIX extended regular expressions as sets of texts (pure), as the C library reads them.

The set is of the texts in which the expression matches *somewhere*, as regexec(3) is asked. What
this does not read, such as a back reference, is TooComplex: nobody guesses.

Source: regcomp(3), glibc's RE_SYNTAX_POSIX_EXTENDED in the C locale.
"""

from __future__ import annotations

import string

from certexec.policy.automaton import (
    ANY,
    Anchor,
    Bytes,
    Either,
    Everything,
    Repeat,
    Series,
    TooComplex,
    one_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.automaton import Tree

REPEATS_MAX = 1000
"""times that a part may be asked for; each is made anew"""
DEEPEST = 100
"""parentheses inside each other"""
CLASSES: dict[bytes, frozenset[int]] = {
    name.encode(): frozenset(characters.encode())
    for name, characters in (
        ("alpha", string.ascii_letters), ("digit", string.digits),
        ("alnum", string.ascii_letters + string.digits), ("upper", string.ascii_uppercase),
        ("lower", string.ascii_lowercase), ("space", " \t\n\v\f\r"), ("blank", " \t"),
        ("punct", string.punctuation), ("xdigit", string.hexdigits),
        ("print", "".join(map(chr, range(32, 127)))), ("graph", "".join(map(chr, range(33, 127)))),
        ("cntrl", "".join(map(chr, (*range(1, 32), 127)))),
    )
}
"""The characters of the classes in the C locale."""
_WORD = one_of({*CLASSES[b"alnum"], ord("_")}).mask
_SPACE = one_of(CLASSES[b"space"]).mask
_OWN = {ord("w"): _WORD, ord("W"): ~_WORD, ord("s"): _SPACE, ord("S"): ~_SPACE}
_PLACES = frozenset(b"123456789bB<>`'")
"""What a backslash makes a back reference or a place between characters of."""
_REPEATS = frozenset(b"*+?{")


def search(pattern: bytes) -> Tree:
    """Return the set of texts in which a pattern that regcomp(3) takes matches.

    Raises TooComplex.
    """
    return Series(Repeat(Bytes(ANY), 0, None), _Reader(pattern).read(), Everything())


def whole(pattern: str) -> Tree:
    """Return the set of texts that a pattern matches from their first byte to their last."""
    return _Reader(pattern.encode()).read()


class _Reader:
    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.anchors = 0
        # On the way through the pattern to here: was a byte read, and did a "$" stand?
        self.read_some = False
        self.ended = False

    def read(self) -> Tree:
        tree = self.alternatives()
        if self.at < len(self.pattern):
            raise TooComplex("a parenthesis that opens nowhere")
        return tree

    def peek(self) -> int:
        return self.pattern[self.at] if self.at < len(self.pattern) else -1

    def alternatives(self) -> Tree:
        before = self.read_some, self.ended
        found = [self.sequence()]
        ways = [(self.read_some, self.ended)]
        while self.peek() == ord("|"):
            self.at += 1
            self.read_some, self.ended = before
            found.append(self.sequence())
            ways.append((self.read_some, self.ended))
        self.read_some, self.ended = map(any, zip(*ways, strict=True))
        return found[0] if len(found) == 1 else Either(*found)

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        while (byte := self.peek()) not in (-1, ord("|"), ord(")")):
            if byte in _REPEATS:
                raise TooComplex("a repetition of nothing")
            anchors = self.anchors
            part = self.atom()
            while (byte := self.peek()) in _REPEATS:
                if isinstance(part, Anchor) or (self.anchors > anchors and byte != ord("?")):
                    raise TooComplex("a repeated anchor")
                part = self.repeated(part)
            parts.append(part)
        return Series(*parts)

    def atom(self) -> Tree:
        byte = self.pattern[self.at]
        self.at += 1
        if byte == ord("("):
            self.depth += 1
            if self.depth > DEEPEST:
                raise TooComplex("too many parentheses")
            inner = self.alternatives()
            if self.peek() != ord(")"):
                raise TooComplex("a parenthesis that is not closed")
            self.at += 1
            self.depth -= 1
            return inner
        if byte in b"^$":
            return self.anchor(byte == ord("$"))
        if self.ended:
            raise TooComplex("an anchor in the middle")  # see anchor()
        self.read_some = True
        if byte == ord("["):
            return self.bracket()
        if byte == ord("."):
            return Bytes(ANY)
        if byte == ord("\\"):
            if self.peek() < 0 or self.peek() in _PLACES:
                raise TooComplex("a back reference, or a place between characters")
            byte = self.pattern[self.at]
            self.at += 1
            if byte in _OWN:
                return Bytes(_OWN[byte])
        return one_of((byte,))

    def anchor(self, at_end: bool) -> Tree:
        r"""Take "^" or "$", which in the middle holds beside a newline, too, though nobody asked.

        (glibc 2.36: ".^b" is found in "\nb", and "a$." in "a\n", without REG_NEWLINE.)
        """
        if self.read_some and not at_end:
            raise TooComplex("an anchor in the middle")
        self.ended = self.ended or at_end
        self.anchors += 1
        return Anchor(at_end)

    def repeated(self, part: Tree) -> Tree:
        byte = self.pattern[self.at]
        self.at += 1
        if byte == ord("*"):
            return Repeat(part, 0, None)
        if byte == ord("+"):
            return Repeat(part, 1, None)
        if byte == ord("?"):
            return Repeat(part, 0, 1)
        end = self.pattern.find(b"}", self.at)
        low, comma, high = self.pattern[self.at : max(end, self.at)].partition(b",")
        if end < 0 or not (low.isdigit() or (comma and not low)):
            raise TooComplex("no interval")
        self.at = end + 1
        least = int(low or b"0")
        most: int | None = least
        if comma:
            if high and not high.isdigit():
                raise TooComplex("no interval")
            most = int(high) if high else None
        if max(least, most or 0) > REPEATS_MAX or (most is not None and most < least):
            raise TooComplex("too many repetitions")
        return Repeat(part, least, most)

    def bracket(self) -> Tree:
        negated = self.peek() == ord("^")
        self.at += negated
        mask, self.at = bracket_set(self.pattern, self.at, escapes=False)
        return Bytes(~mask if negated else mask)


def bracket_set(pattern: bytes, at: int, *, escapes: bool) -> tuple[int, int]:
    r"""Read what stands between "[" (or "[^") and "]": its bytes as bits, and the place behind.

    ``escapes``: a backslash quotes, as in fnmatch(3). Raises TooComplex.
    """
    mask = 0
    first = True
    while True:
        if at >= len(pattern):
            raise TooComplex("a bracket that is not closed")
        if pattern[at] == ord("]") and not first:
            return mask, at + 1
        first = False
        if pattern[at : at + 2] == b"[:":
            end = pattern.find(b":]", at + 2)
            known = CLASSES.get(pattern[at + 2 : max(end, at + 2)])
            if known is None:
                raise TooComplex("no class of characters")
            mask |= one_of(known).mask
            at = end + 2
            continue
        low, at = _member(pattern, at, escapes)
        if pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(pattern, at + 1, escapes)
            mask |= one_of(range(low, high + 1)).mask
        else:
            mask |= 1 << low


def _member(pattern: bytes, at: int, escapes: bool) -> tuple[int, int]:
    if pattern[at : at + 2] in (b"[=", b"[.", b"[:"):
        raise TooComplex("a collating element")
    if escapes and pattern[at : at + 1] == b"\\":
        at += 1
    if at >= len(pattern):
        raise TooComplex("a bracket that is not closed")
    return pattern[at], at + 1
