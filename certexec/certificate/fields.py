"""Strict checks of single fields: type, range and form, each limit with its name and reason.

Every function takes the value and the field's name for the message, returns the value with its
type known, and raises CertificateError("malformed") when the value may not stand there.
"""

from __future__ import annotations

from certexec.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

MAX_UINT = 2**64 - 1
"""The largest integer that CBOR holds; as a resource limit it means infinity."""
MAX_ID = 2**32 - 2
"""The largest user or group number; 2**32 - 1 is -1, "leave it", in setresuid(2)."""
MAX_TIME = 253402300799
"""Seconds since 1970; the end of the year 9999, so that every time can be written down."""
MAX_PATH = 4095
"""bytes; Linux' PATH_MAX without its terminating NUL."""
MAX_NAME = 255
"""bytes; a user, group, variable or certificate name (NAME_MAX, and LOGIN_NAME_MAX is less)."""
MAX_NOTE = 4096
"""bytes; a comment for people, not a document."""
MAX_STRING = 32768
"""bytes; one argument, pattern or variable, half of what a certificate can hold at all."""
MAX_LIST = 1024
"""Entries of one list or map; the size of the file bounds the sum of all."""
MAX_SIZE_OF_FILE = 2**63 - 1
"""bytes; Linux' off_t."""


def malformed(message: str) -> CertificateError:
    """Make the error that every strict check raises."""
    return CertificateError("malformed", message)


def a_map(
    value: object, name: str, required: tuple[int, ...], optional: tuple[int, ...] = ()
) -> dict[int, object]:
    """Check for a map with all ``required`` keys and no others but the ``optional`` ones."""
    if type(value) is not dict:
        raise malformed(f"{name} is not a map")
    for key in required:
        if key not in value:
            raise malformed(f"{name} lacks field {key}")
    known = len(required)
    for key in optional:
        known += key in value
    if len(value) != known:
        raise malformed(f"{name} has a field that this format version does not know")
    return value


def a_list(value: object, name: str) -> list[object]:
    """Check for a list of at most ``MAX_LIST`` entries."""
    if type(value) is not list:
        raise malformed(f"{name} is not a list")
    if len(value) > MAX_LIST:
        raise malformed(f"{name} has more than {MAX_LIST} entries")
    return value


def list_of(value: object, name: str, check: Callable[[object, str], T]) -> list[T]:
    """Check for a list whose entries all pass ``check``."""
    return [check(item, name) for item in a_list(value, name)]


def row(value: object, name: str, length: int) -> list[object]:
    """Check for a list of exactly ``length`` entries."""
    if type(value) is not list or len(value) != length:
        raise malformed(f"{name} is not a list of {length}")
    return value


def integer(value: object, name: str, low: int, high: int) -> int:
    """Check for an integer from ``low`` to ``high``, both included."""
    if type(value) is not int:
        raise malformed(f"{name} is not an integer")
    if not low <= value <= high:
        raise malformed(f"{name} is {value}, not between {low} and {high}")
    return value


def boolean(value: object, name: str) -> bool:
    """Check for true or false."""
    if type(value) is not bool:
        raise malformed(f"{name} is neither true nor false")
    return value


def octets(value: object, name: str, length: int) -> bytes:
    """Check for a byte string of exactly ``length`` bytes."""
    if type(value) is not bytes or len(value) != length:
        raise malformed(f"{name} is not a byte string of {length}")
    return value


def choice(value: object, name: str, words: tuple[str, ...]) -> str:
    """Return the word that an enumeration's number stands for."""
    return words[integer(value, name, 0, len(words) - 1)]


def text(value: object, name: str, limit: int) -> str:
    """Check for a text of at most ``limit`` bytes without NUL."""
    if type(value) is not str:
        raise malformed(f"{name} is not a text")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise malformed(f"{name} is not valid Unicode") from None
    if size > limit:
        raise malformed(f"{name} is longer than {limit} bytes")
    if "\0" in value:
        raise malformed(f"{name} holds a NUL")
    return value


def string(value: object, name: str) -> str:
    """Check for an argument, a pattern or a variable's value."""
    return text(value, name, MAX_STRING)


def note(value: object, name: str) -> str:
    """Check for a comment: several lines, but nothing else that moves a terminal's cursor."""
    checked = text(value, name, MAX_NOTE)
    for character in checked:
        if (character < " " and character not in "\n\t") or "\x7f" <= character <= "\x9f":
            raise malformed(f"{name} holds a control character")
    return checked


def label(value: object, name: str) -> str:
    """Check for a name of one line: not empty, no control character, no slash."""
    checked = text(value, name, MAX_NAME)
    if not checked:
        raise malformed(f"{name} is empty")
    for character in checked:
        if character < " " or "\x7f" <= character <= "\x9f" or character == "/":
            raise malformed(f"{name} holds a character that names cannot have")
    return checked


def account(value: object, name: str) -> str:
    """Check for a user, group or capability name, or an empty text where only a number counts."""
    if value == "":
        return ""
    checked = label(value, name)
    if " " in checked or ":" in checked or "," in checked or checked[0] in "#-":
        raise malformed(f"{name} is not a user or group name")
    return checked


def variable(value: object, name: str) -> str:
    """Check for the name of an environment variable."""
    checked = text(value, name, MAX_NAME)
    if not checked or "=" in checked:
        raise malformed(f"{name} is not the name of a variable")
    return checked


def path(value: object, name: str) -> str:
    """Check for an absolute path in its one normal form.

    No empty, ``.`` or ``..`` component, no trailing slash, no NUL; ``/`` itself names no file that
    could be meant.
    """
    checked = text(value, name, MAX_PATH)
    if not checked.startswith("/"):
        raise malformed(f"{name} is not an absolute path")
    for component in checked[1:].split("/"):
        if component in ("", ".", ".."):
            raise malformed(f"{name} is not in normal form")
    return checked


def pair(value: object, name: str) -> tuple[str, int]:
    """Check for a user or group: name (or empty) and number."""
    entry = row(value, name, 2)
    return account(entry[0], name), integer(entry[1], name, 0, MAX_ID)
