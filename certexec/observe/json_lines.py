"""Records as JSON Lines: one object and a newline each, described in docs/events.md.

Written out by hand: the run path does without the json module, and what a program chooses must
neither end a line nor reach a terminal as anything but text. Every character that is not printable
is escaped. Text is text: bytes of a file name that are not UTF-8 show as U+FFFD there, and the
exact bytes stand in hexadecimal in "bytes", under the same names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

REPLACEMENT = "\ufffd"


def render(record: Record) -> str:
    """Return the object of one record, without a newline."""
    members = []
    exact = []
    for name, value in record.members():
        if isinstance(value, str):
            members.append((name, string(value)))
            if not is_text(value):
                exact.append((name, string(in_hex(value))))
        elif isinstance(value, int):
            members.append((name, str(value)))
        else:
            inner = [
                (key, string(content) if isinstance(content, str) else str(content))
                for key, content in value.items()
            ]
            members.append((name, _object(inner)))
            odd = [
                (key, string(in_hex(content)))
                for key, content in value.items()
                if isinstance(content, str) and not is_text(content)
            ]
            if odd:
                exact.append((name, _object(odd)))
    if exact:
        members.append(("bytes", _object(exact)))
    return _object(members)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{string(name)}: {value}" for name, value in members) + "}"


def string(text: str) -> str:
    """Return a JSON string (RFC 8259) of printable characters only."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    result = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            result.append("\\" + char)
        elif char.isprintable():
            result.append(char)
        elif 0xD800 <= code <= 0xDFFF:
            result.append(REPLACEMENT)
        elif code < 0x10000:
            result.append(f"\\u{code:04x}")
        else:
            code -= 0x10000
            result.append(f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}")
    return '"' + "".join(result) + '"'


def is_text(text: str) -> bool:
    """Tell whether a name is UTF-8: else it holds halves of surrogates (PEP 383)."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def in_hex(text: str) -> str:
    """Return the bytes that a name was made of, in hexadecimal."""
    return text.encode("utf-8", "surrogateescape").hex()
