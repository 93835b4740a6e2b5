"""The operators of a rule, and the macros in their quoted strings.

Everything is compared as bytes. What surprises people is kept, because policies rely on it:
``eq`` and ``neq`` ignore case, ``inpath`` asks whether the *argument* is a directory on the way to
the quoted path, and ``match`` is fnmatch(3) with FNM_PATHNAME and FNM_LEADING_DIR, so that
"/usr/lib" matches everything below it and "*" matches one component and everything below that.

Source: systrace 1.6g, filter.c and util.c (strrpl).
"""

from __future__ import annotations

import os

from certexec.errors import PolicyError
from certexec.kernel import c_locale, libc
from certexec.policy import networks
from certexec.policy.model import MACROS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from certexec.policy.model import Subject

    Test = Callable[[bytes], bool]

EXPANDED_MAX = 8192
"""bytes of a string after its macros were replaced: the original's buffer (2 * MAXPATHLEN)."""
_MATCH_FLAGS = libc.FNM_PATHNAME | libc.FNM_LEADING_DIR
_GLOB_BYTES = (b"*", b"?", b"[", b"\\")
_ALNUM = frozenset(
    bytes((byte,)) for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)


def pattern_bytes(data: str) -> bytes:
    """Return the bytes of a quoted string (policies are UTF-8, see lexer.decode_policy)."""
    try:
        return data.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: nothing real holds it
        return data.encode("utf-8", "surrogatepass")


def value_bytes(text: str | bytes) -> bytes:
    """Return the bytes of an argument's text as C saw them: up to the first NUL."""
    data = text if isinstance(text, bytes) else os.fsencode(text)
    return data.partition(b"\0")[0] if b"\0" in data else data


def make_test(operator: str, data: bytes) -> Test:
    """Return the function that tells whether an argument's bytes satisfy ``operator data``.

    A regular expression that regcomp(3) refuses matches nothing: only one with macros can come
    this far without having been compiled, and the original let it pass silently as well.
    """
    return _MAKERS[operator](data)


def _match(pattern: bytes) -> Test:
    # Most patterns are a plain path or end in their only "*". For these two, what fnmatch(3) says
    # can be said in Python for a tenth of the price; the tests compare it with libc.
    head = pattern[:-1] if pattern.endswith(b"*") else pattern
    if not any(special in head for special in _GLOB_BYTES):
        if head is not pattern:
            return lambda value: value.startswith(head)
        below = pattern + b"/"
        return lambda value: value == pattern or value.startswith(below)

    def test(value: bytes) -> bool:
        previous = c_locale.enter()
        try:
            return libc.fnmatch(pattern, value, _MATCH_FLAGS)
        finally:
            c_locale.leave(previous)

    return test


def _eq(data: bytes) -> Test:
    wanted = data.lower()  # of bytes: ASCII only, as strcasecmp(3) in the C locale
    return lambda value: value.lower() == wanted


def _neq(data: bytes) -> Test:
    wanted = data.lower()
    return lambda value: value.lower() != wanted


def _sub(data: bytes) -> Test:
    return lambda value: data in value


def _nsub(data: bytes) -> Test:
    return lambda value: data not in value


def _inpath(path: bytes) -> Test:
    length = len(path)

    def test(value: bytes) -> bool:
        if not value or len(value) > length:
            return False
        if len(value) == 1:
            return value == b"/"
        return path.startswith(value) and path[len(value) : len(value) + 1] in (b"", b"/")

    return test


def _re(pattern: bytes) -> Test:
    try:
        regex = _compile(pattern)
    except PolicyError:
        return lambda value: False

    def test(value: bytes) -> bool:
        previous = c_locale.enter()
        try:
            return regex.search(value)
        finally:
            c_locale.leave(previous)

    return test


_MAKERS: dict[str, Callable[[bytes], Test]] = {
    "match": _match, "eq": _eq, "neq": _neq, "sub": _sub, "nsub": _nsub, "inpath": _inpath,
    "re": _re, "in": networks.make_test,
}


def _compile(pattern: bytes) -> libc.Regex:
    previous = c_locale.enter()
    try:
        return libc.Regex(pattern)
    finally:
        c_locale.leave(previous)


def is_regex(pattern: str) -> bool:
    """Tell whether regcomp(3) takes the pattern as a POSIX extended regular expression."""
    try:
        _compile(pattern_bytes(pattern))
    except PolicyError:
        return False
    return True


def needs_expansion(data: str) -> bool:
    """Tell whether the quoted string may hold a macro."""
    return "$" in data and any(macro in data for macro in MACROS)


def expand(data: str, subject: Subject) -> str:
    """Replace $HOME, $USER and $CWD by what they are for this subject."""
    expanded = pattern_bytes(data)[: EXPANDED_MAX - 1]
    for macro, value in zip(MACROS, (subject.home, subject.user, subject.cwd), strict=True):
        expanded = _replace(expanded, macro.encode(), value_bytes(value))
    return expanded.decode("utf-8", "surrogateescape")


def _replace(text: bytes, macro: bytes, value: bytes) -> bytes:
    """Replace the macro until it is gone, in the way of the original.

    It stands where no letter or digit follows ($HOME_x is replaced, $HOMEx is not). A "$" that
    does not begin it skips as many bytes as the macro is long, so one that follows closely is
    not seen. What was put in is looked at again; a value that holds its own macro stops at the
    size of the buffer (and one that *is* its macro, which kept the original busy for ever, stops
    at once).
    """
    while True:
        at = text.find(b"$")
        while at >= 0:
            after = at + len(macro)
            if text.startswith(macro, at) and text[after : after + 1] not in _ALNUM:
                break
            at = text.find(b"$", after)
        if at < 0 or value == macro or len(text) - len(macro) + len(value) > EXPANDED_MAX:
            return text
        text = text[:at] + value + text[at + len(macro) :]

