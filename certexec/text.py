"""Text that others chose, made fit to be shown on a terminal."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """Return ``text`` with everything escaped that could move a terminal's cursor or hide text.

    With ``lines``, ends of lines and tabs stay.
    """
    if text.isprintable() and text.isascii():
        return text
    allowed = "\n\t" if lines else ""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON can hold half a pair of surrogates, which no file name has
        data = text.encode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() or one in allowed else one.encode("unicode_escape").decode()
        for one in data.decode("utf-8", "backslashreplace")
    )
