"""What the command line says, and how.

The rules: a verb's result goes to standard output, everything else to standard error. A result
that only tells what was done is printed by ``done``, what was asked to be shown by click, one JSON
object by ``print_json``. Everything on standard error starts with ``certexec:``, is in lower case,
has no full stop, and puts paths in double quotes. There are four ways to say something and no
others: ``info``, ``warn``, ``error`` and ``error_with_hint``.
"""

from __future__ import annotations

import json
import os
import sys

import click

COLOR_CHOICES = ("auto", "always", "never")


class Settings:
    """How much is said, and in which colours; set by the global flags.

    Attributes:
        quiet: say only what went wrong (the exit status tells the result).
        verbose: how many times ``-v`` was given.
        color: one of ``COLOR_CHOICES``.
    """

    __slots__ = ("color", "quiet", "verbose")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Go back to what holds before any flag was read."""
        self.quiet = False
        self.verbose = 0
        self.color = "auto"

    def colorful(self, descriptor: int) -> bool:
        """Tell whether text for this file descriptor is coloured (https://no-color.org)."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return False
        try:
            return os.isatty(descriptor)
        except OSError:
            return False


settings = Settings()


def painted(text: str, color: str, descriptor: int = 1) -> str:
    """Return ``text`` in a click colour where the stream of ``descriptor`` shows colours."""
    return click.style(text, fg=color) if settings.colorful(descriptor) else text


def _say(kind: str, color: str, message: str) -> None:
    label = f"{painted(kind, color, 2)}: " if kind else ""
    sys.stdout.flush()
    sys.stderr.write(f"certexec: {label}{message}\n")
    sys.stderr.flush()


def done(message: str) -> None:
    """Print what a verb did as its result, unless only the exit status is wanted.

    What was asked to be shown is printed by other means, whatever the flags.
    """
    if not settings.quiet:
        click.echo(message)


def info(message: str, *, detail: bool = False) -> None:
    """Say what happened; with ``detail`` only under ``-v``."""
    if settings.quiet or (detail and not settings.verbose):
        return
    _say("", "", message)


def warn(message: str) -> None:
    """Say what is odd though the command goes on."""
    if not settings.quiet:
        _say("warning", "yellow", message)


def error(message: str) -> None:
    """Say what went wrong."""
    _say("error", "red", message)


def error_with_hint(message: str, hint: str) -> None:
    """Say what went wrong and, where a hint is given, what mends it."""
    error(message)
    if hint:
        _say("hint", "cyan", hint)


def print_json(value: object) -> None:
    """Print one JSON object on standard output.

    In ASCII: a certificate's texts may hold characters that steer a terminal.
    """
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
