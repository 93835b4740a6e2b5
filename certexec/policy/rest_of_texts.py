"""Comparisons with a text that holds any number: for which numbers do they hold?

``AF_UNKNOWN(16)``, ``<unknown>: 64``, ``1000``: a head, a number, a tail. An operator mostly gives
one answer for all such texts but a few, and these few are named by the rule itself. Where it does
not (``re "[0-9]5"``) the answer is None: somebody has to look at the text.
"""

from __future__ import annotations

DECIMAL = "-0123456789"
HEXADECIMAL = "0123456789abcdef"

TYPE_CHECKING = False
if TYPE_CHECKING:
    Answer = tuple[bool | None, list[int]]
    """(for all numbers but those named; None: cannot be said, the numbers to be asked about)."""

_NEVER: Answer = (False, [])
_ALWAYS: Answer = (True, [])
_UNKNOWN: Answer = (None, [])
_GLOB_SETS = "?[\\"
_PLAIN_IN_RE = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-<>:, =/"
)
"""Characters that stand for themselves in a regular expression."""


class Numbered:
    """The texts ``head NUMBER tail`` with any number, written without leading zeros.

    ``head`` and ``tail`` hold no decimal digits and no minus, unless the digits are hexadecimal.
    """

    __slots__ = ("digits", "head", "tail")

    def __init__(self, head: str, tail: str, digits: str = DECIMAL) -> None:
        self.head = head
        self.tail = tail
        self.digits = digits

    def text(self, number: int) -> str:
        """Return the text with this number."""
        shown = f"{number:x}" if self.digits is HEXADECIMAL else str(number)
        return self.head + shown + self.tail

    def compare(self, operator: str, data: str) -> Answer:
        """Return for which numbers ``text OPERATOR "data"`` holds."""
        if "\0" in data:
            return _UNKNOWN  # some operators end there
        if operator == "eq":
            return self._equals(data.lower(), ignore_case=True)
        if operator == "neq":
            return _inverse(self._equals(data.lower(), ignore_case=True))
        if operator == "sub":
            return self._holds(data)
        if operator == "nsub":
            return _inverse(self._holds(data))
        if operator == "inpath":
            parts = data.split("/")
            return False, [
                number for count in range(1, len(parts) + 1)
                for number in self._equals("/".join(parts[:count]))[1]
            ]
        if operator == "match":
            return self._match(data)
        return self._re(data) if operator == "re" else _UNKNOWN

    def _match(self, pattern: str) -> Answer:
        if any(special in pattern for special in _GLOB_SETS):
            return _UNKNOWN
        if "/" in pattern:
            return _NEVER  # FNM_PATHNAME: only a slash matches a slash, and no text holds one
        first, *others = pattern.split("*")
        if not others:
            return self._equals(pattern)
        inner = [part for part in (first, *others) if part]
        if not inner:
            return _ALWAYS
        if len(inner) > 1:
            return _UNKNOWN
        if first:
            return self._begins(first)
        return self._ends(inner[0]) if others[-1] else self._holds(inner[0])

    def _re(self, pattern: str) -> Answer:
        """Answer for alternatives of plain text, each with or without an anchor at either end."""
        truth: bool | None = False
        numbers: list[int] = []
        for part in pattern.split("|"):
            begins, ends = part.startswith("^"), part.endswith("$")
            plain = part[begins : len(part) - ends]
            if not plain or not _PLAIN_IN_RE.issuperset(plain):
                return _UNKNOWN
            if begins and ends:
                one = self._equals(plain)
            elif begins:
                one = self._begins(plain)
            else:
                one = self._ends(plain) if ends else self._holds(plain)
            numbers += one[1]
            if one[0] is not False and truth is not True:
                truth = one[0]
        return truth, numbers

    # Each of these asks about one plain text, and names the one number of which it speaks in full.

    def _equals(self, plain: str, *, ignore_case: bool = False) -> Answer:
        head, tail = self.head, self.tail
        if ignore_case:
            head, tail = head.lower(), tail.lower()
        if len(plain) <= len(head) + len(tail):
            return _NEVER
        if not plain.startswith(head) or not plain.endswith(tail):
            return _NEVER
        return self._just(plain[len(head) : len(plain) - len(tail)])

    def _begins(self, plain: str) -> Answer:
        if self.head.startswith(plain):
            return _ALWAYS
        if not plain.startswith(self.head):
            return _NEVER
        rest = plain[len(self.head) :]
        after = rest.lstrip(self.digits)
        if not after:
            return _UNKNOWN
        return self._just(rest[: -len(after)]) if self.tail.startswith(after) else _NEVER

    def _ends(self, plain: str) -> Answer:
        if self.tail.endswith(plain):
            return _ALWAYS
        if not plain.endswith(self.tail):
            return _NEVER
        rest = plain[: len(plain) - len(self.tail)]
        before = rest.rstrip(self.digits)
        if not before:
            return _UNKNOWN
        return self._just(rest[len(before) :]) if self.head.endswith(before) else _NEVER

    def _holds(self, plain: str) -> Answer:
        if plain in self.head or plain in self.tail:
            return _ALWAYS
        if not any(digit in plain for digit in self.digits):
            return _NEVER  # a number stands between head and tail
        if any(digit in self.head for digit in self.digits):
            return _UNKNOWN
        before = plain[: min(plain.index(one) for one in self.digits if one in plain)]
        rest = plain[len(before) :]
        after = rest.lstrip(self.digits)
        if any(digit in after for digit in self.digits):
            return _NEVER  # two numbers
        if not self.head.endswith(before) or not self.tail.startswith(after):
            return _NEVER
        if not before or not after:
            return _UNKNOWN
        return self._just(rest[: -len(after)])

    def _just(self, digits: str) -> Answer:
        """Answer for a text that gives the whole number."""
        if not digits or not set(self.digits).issuperset(digits) or "-" in digits[1:]:
            return _NEVER
        if digits == "-" or len(digits) > len("-4294967296"):
            return _NEVER
        number = int(digits, 16 if self.digits is HEXADECIMAL else 10)
        return False, [number] if self.text(number) == self.head + digits + self.tail else []


def _inverse(answer: Answer) -> Answer:
    truth, numbers = answer
    return (None if truth is None else not truth), numbers
