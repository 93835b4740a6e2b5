"""What the command line says, and how.

The rules: a verb's result goes to standard output, everything else to standard error. A result
that only tells what was done is printed by ``done``, what was asked to be shown by click, one JSON
object by ``print_json``. Everything on standard error starts with ``certexec:``, is in lower case,
has no full stop, and puts paths in double quotes. There are five ways to say something and no
others: ``info``, ``warn``, ``error``, ``error_with_hint`` and ``failure``. What could
steer a terminal, such as a name that somebody else chose, is escaped there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import Any, TextIO

import click

from certexec.errors import CertexecError
from certexec.text import printable

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


def _line(kind: str, color: str, message: str) -> str:
    label = f"{painted(kind, color, 2)}: " if kind else ""
    return f"certexec: {label}{printable(message)}\n"


def _say(kind: str, color: str, message: str) -> None:
    say_lines(_line(kind, color, message))


def say_lines(lines: str) -> None:
    """Write whole lines, as ``note_lines`` and ``error_lines`` make them, to standard error."""
    # a result that cannot be written is told at the end, see finish
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    try:
        sys.stderr.write(lines)
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)  # the exit status still tells


def _drop(stream: TextIO) -> None:
    """Throw away what a stream still holds: at exit Python would try again, and end with 120."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno(), inheritable=False)
        os.close(null)
        stream.flush()


class Descriptor(io.FileIO):
    """Standard output's descriptor; remembers why it could not be written.

    Python's streams forget what they failed to write, so that a later flush may succeed.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write like any file."""
        try:
            return super().write(data)
        except OSError as failure:
            self.failure = failure
            raise


def start() -> None:
    """Make the standard streams fit for results: none is closed, and failures are remembered."""
    _occupy_closed()
    before = sys.stdout
    if before is not None and before is not sys.__stdout__:
        return  # somebody redirected it inside this process
    # a name that the terminal's encoding lacks is shown as an escape, not a failure
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(Descriptor(1, "w", closefd=False)),
        "utf-8" if before is None else before.encoding, "backslashreplace",
        line_buffering=before is not None and before.isatty(),
    )  # fmt: skip


def _occupy_closed() -> None:
    """Put something where standard input, output or error were closed.

    A file opened later would take their numbers, and Python has no stream for them. What is put
    there answers EBADF, as a closed descriptor does, except to errors, which nobody wants to see;
    a program that is executed finds its descriptor closed.
    """
    for number, access in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access | os.O_CLOEXEC)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)))


def finish() -> bool:
    """Write out what was printed; say so and return False where that fails, or failed before.

    Raises BrokenPipeError for a reader that is gone.
    """
    failure = None
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, Descriptor):
        failure, raw.failure = raw.failure, None
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error_now:
        failure = failure or error_now
    if failure is None:
        return True
    if isinstance(failure, BrokenPipeError):
        raise failure
    _drop(sys.stdout)
    if isinstance(raw, Descriptor):
        raw.failure = None
    error(f"cannot write standard output: {failure.strerror}")
    return False


def check() -> None:
    """Raise the OSError with which standard output failed before, if it did.

    For what prints much: the work need not go on for a reader that is gone.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, Descriptor) and raw.failure is not None:
        raise raw.failure


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


def warn(message: str, hint: str = "") -> None:
    """Say what is odd though the command goes on and, where a hint is given, what mends it."""
    if not settings.quiet:
        more = _line("hint", "cyan", hint) if hint else ""
        say_lines(_line("warning", "yellow", message) + more)


def error(message: str) -> None:
    """Say what went wrong."""
    _say("error", "red", message)


def error_with_hint(message: str, hint: str) -> None:
    """Say what went wrong and, where a hint is given, what mends it."""
    say_lines(error_lines(message, hint))


def failure(error: CertexecError) -> None:
    """Say why something failed; for a policy's text, with its line and a caret."""
    caret = getattr(error, "caret", None)  # only where the policy language is loaded already
    if caret is None:
        error_with_hint(error.message, error.hint)
        return
    hint = _line("hint", "cyan", error.hint) if error.hint else ""
    place = printable(caret().removeprefix(error.message), lines=True)
    say_lines(_line("error", "red", error.message).rstrip("\n") + place + "\n" + hint)


def error_lines(message: str, hint: str) -> str:
    """Return what ``error_with_hint`` says, for ``say_lines`` in another process."""
    lines = _line("error", "red", message)
    return lines + _line("hint", "cyan", hint) if hint else lines


def note_lines(message: str, *, odd: bool) -> str:
    """Return what ``info`` or, if it is odd, ``warn`` says; "" if nothing is to be said."""
    if settings.quiet:
        return ""
    return _line("warning", "yellow", message) if odd else _line("", "", message)


def print_json(value: object) -> None:
    """Print one JSON object on standard output.

    In ASCII: a certificate's texts may hold characters that steer a terminal.
    """
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
