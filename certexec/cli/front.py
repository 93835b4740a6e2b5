"""Which front a verb has that asks somebody: the terminal app, or plain prompts."""

from __future__ import annotations

import importlib.util
import os
import sys

from certexec.errors import CliError

BROWSER = "TEXTUAL_DRIVER"
"""Environment variable by which textual-serve says that a browser is the terminal."""


def use_app(plain: bool, what: str) -> bool:
    """Tell whether the app is to be shown; ``plain``: prompts are wanted.

    ``what``: what needs somebody, for the error. Raises CliError("usage") where nobody is there.
    """
    app = not plain and importlib.util.find_spec("textual") is not None
    if app and in_browser():
        return True
    if not os.isatty(0) or not os.isatty(1):
        raise CliError("usage", f"{what} needs a terminal to ask somebody")
    app = app and _shows_frames()
    if app:
        _ask_the_terminal()
    return app


def _shows_frames() -> bool:
    """Tell whether the terminal can place text, and has the characters that frames are made of."""
    encoding = sys.stdout.encoding.lower().replace("-", "")
    return os.environ.get("TERM", "dumb") != "dumb" and encoding == "utf8"


def _ask_the_terminal() -> None:
    """Forget the size that a shell has exported: the terminal knows its own as it changes."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


def require_app(what: str) -> None:
    """Refuse where the app was asked for and cannot be shown; ``what`` it is, for the error.

    Raises CliError: "not-found" without Textual, "usage" without a terminal that has keys.
    """
    if importlib.util.find_spec("textual") is None:
        raise CliError(
            "not-found", f"Textual is not installed, which shows {what}",
            "pip install 'certexec[tui]'",
        )
    if in_browser():
        return
    if not os.isatty(1) or not _shows_frames():
        raise CliError(
            "usage", f"{what} needs a terminal that shows UTF-8", 'without "--app" there are lines'
        )
    _ask_the_terminal()


def take_keys() -> int:
    """Let keys come from the terminal where standard input is data; return the data's descriptor.

    Raises CliError("usage") where there is no terminal.
    """
    if os.isatty(0):
        return 0
    try:
        keys = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise CliError("usage", "there is no terminal to take keys from") from None
    data = os.dup(0)
    os.dup2(keys, 0)
    os.close(keys)
    return data


def in_browser() -> bool:
    """Tell whether standard output is no terminal but what a browser is fed with."""
    return bool(os.environ.get(BROWSER))
