"""Programs that the header of a policy cannot name: it has no quotes, and no escapes."""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.lexer import LINE_MAX, byte_length
from certexec.text import printable

_UNWRITABLE = {
    ",": "a comma", "#": "a number sign", "\n": "a newline", "\r": "a carriage return",
    "\0": "a NUL byte",
}  # fmt: skip
"""What ends a path in a header, or the header itself."""


def why_no_header(program: str) -> str:
    """Return why no header can name the program with this path; "" where one can."""
    for character, what in _UNWRITABLE.items():
        if character in program:
            return f"its path holds {what}"
    if program != program.strip():
        return "its path begins or ends with white space"
    if byte_length(f"Policy: {program}, Emulation: native") > LINE_MAX:
        return f"with its path the header would be longer than {LINE_MAX} bytes"
    return ""


def check_header(program: str) -> None:
    """Raise PolicyError("policy-syntax") for a program that no header can name."""
    why = why_no_header(program)
    if why:
        raise PolicyError(
            "policy-syntax", f'a policy cannot name the program "{printable(program)}"', why
        )
