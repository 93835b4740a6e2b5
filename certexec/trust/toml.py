"""The little of TOML that constraint files need: text, whole numbers and lists of text.

Every text that is accepted here means the same to a full TOML parser. The run path cannot afford
to load one.
"""

from __future__ import annotations

from certexec.errors import TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_ESCAPES = {
    '"': '"', "\\": "\\", "b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r",
}  # fmt: skip


def write_text(text: str) -> str:
    """Write one text as TOML."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_list(texts: list[str]) -> str:
    """Write a list of texts as TOML, on one line."""
    return "[" + ", ".join(write_text(text) for text in texts) + "]"


class _Toml:
    """Reads the subset of TOML that the module's text describes; one method for each production.

    Source of the grammar: TOML 1.0.0, toml.abnf.
    """

    __slots__ = ("at", "keys", "name", "text")

    def __init__(self, text: str, keys: tuple[str, ...], name: str) -> None:
        self.text = text
        self.keys = keys
        self.name = name
        self.at = 0

    def fail(self, message: str) -> NoReturn:
        line = self.text.count("\n", 0, self.at) + 1
        raise TrustError(
            "trust-syntax",
            f'"{self.name}", line {line}: {message}',
            "see certexec.trust(5) for what a constraint file may hold",
        )

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def blank(self, newlines: bool) -> None:
        """Skip white space, comments and, where they mean nothing, ends of lines."""
        while True:
            character = self.peek()
            if character and character in " \t":
                self.at += 1
            elif character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character == "\n" and newlines:
                self.at += 1
            else:
                return

    def document(self) -> dict[str, str | int | list[str]]:
        """*( [ keyval ] newline )."""
        for index, character in enumerate(self.text):
            if (character < " " and character not in "\t\n") or character == "\x7f":
                self.at = index
                self.fail("a control character")
        read: dict[str, str | int | list[str]] = {}
        self.blank(newlines=True)
        while self.peek():
            key = self.key()
            if key in read:
                self.fail(f'"{key}" stands here twice')
            self.blank(newlines=False)
            if self.peek() != "=":
                self.fail(f'no "=" after "{key}"')
            self.at += 1
            self.blank(newlines=False)
            read[key] = self.value()
            self.blank(newlines=False)
            if self.peek() not in ("", "\n"):
                self.fail(f'something stands after the value of "{key}"')
            self.blank(newlines=True)
        return read

    def key(self) -> str:
        """unquoted-key."""
        start = self.at
        while self.peek() and self.peek() in _KEY_CHARACTERS:
            self.at += 1
        key = self.text[start : self.at]
        if key not in self.keys:
            self.at = start
            self.fail(f'"{key or self.peek()}" is not one of {", ".join(self.keys)}')
        return key

    def value(self) -> str | int | list[str]:
        """basic-string / unsigned dec-int / array of basic-string."""
        if self.peek() == '"':
            return self.string()
        if self.peek() == "[":
            return self.array()
        start = self.at
        while self.peek().isascii() and self.peek().isdigit():
            self.at += 1
        digits = self.text[start : self.at]
        if not digits or len(digits) > 18 or (digits[0] == "0" and digits != "0"):
            self.fail("a value that is no text, whole number or list of text")
        return int(digits)

    def string(self) -> str:
        """basic-string, with the escapes of one letter."""
        self.at += 1
        parts: list[str] = []
        while True:
            character = self.peek()
            self.at += 1
            if character == '"':
                return "".join(parts)
            if character in ("", "\n"):
                self.at -= 1
                self.fail("a text without its closing quote")
            if character == "\\":
                escaped = _ESCAPES.get(self.peek())
                if escaped is None:
                    self.fail("an escape that is not known here")
                self.at += 1
                character = escaped
            parts.append(character)

    def array(self) -> list[str]:
        """Elements of an array, over several lines if wanted, with an optional last comma."""
        self.at += 1
        items: list[str] = []
        while True:
            self.blank(newlines=True)
            if self.peek() == "]":
                break
            if self.peek() != '"':
                self.fail("a list that is not closed, or holds something else than text")
            items.append(self.string())
            self.blank(newlines=True)
            if self.peek() == ",":
                self.at += 1
            elif self.peek() != "]":
                self.fail("a list without a comma between its texts")
        self.at += 1
        return items


def read_toml(text: str, keys: tuple[str, ...], name: str) -> dict[str, str | int | list[str]]:
    """Read a document that has no keys but ``keys``.

    Raises TrustError("trust-syntax") with ``name`` and the line.
    """
    return _Toml(text, keys, name).document()
