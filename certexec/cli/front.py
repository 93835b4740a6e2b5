"""Which front a verb has that asks somebody: the terminal app, or plain prompts."""

from __future__ import annotations

import importlib.util
import os

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
    return app and os.environ.get("TERM", "dumb") != "dumb"


def in_browser() -> bool:
    """Tell whether standard output is no terminal but what a browser is fed with."""
    return bool(os.environ.get(BROWSER))
