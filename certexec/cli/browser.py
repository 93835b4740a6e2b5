"""``--browser``: the terminal app of a verb in a browser, for the one who is told the address."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from certexec.cli import output
from certexec.cli.common import KEY_MODE
from certexec.errors import CliError

F = TypeVar("F", bound=Callable[..., Any])

PAGE = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}">\n'


def browser_options(command: F) -> F:
    """Give a command the options ``--browser`` and ``--port``."""
    command = click.option(
        "--port", type=click.IntRange(1, 65535), metavar="N",
        help="With --browser: the port on 127.0.0.1, instead of any that is free.",
    )(command)
    return click.option(
        "--browser", is_flag=True,
        help="Show the app in a browser, at an address on this machine that opens once.",
    )(command)


def check_browser(browser: bool, port: int | None, plain: bool = False) -> None:
    """Refuse options that do not go together. Raises CliError("usage")."""
    if port is not None and not browser:
        raise CliError("usage", "--port is for --browser", 'say "--browser", too')
    if browser and plain:
        raise CliError("usage", "--browser shows the app, --plain does without", "choose one")


def show_in_browser(words: Sequence[str], port: int | None) -> int:
    """Serve the app of ``certexec WORDS`` until it has ended; returns its exit code.

    Raises CliError: "not-found" without textual-serve, "usage" where the port is taken or nobody
    opened the address.
    """
    if importlib.util.find_spec("textual_serve") is None:
        raise CliError(
            "not-found", "textual-serve is not installed, which shows the app in a browser",
            "pip install 'certexec[browser]'",
        )
    from certexec.browser.server import OPENING, NobodyCameError, StoppedError, serve

    # the user's own words, decided before anybody can connect; -P: nothing from where we stand
    argv = (sys.executable, "-P", "-m", "certexec.cli.main", *words)
    result = sys.stdout
    with contextlib.ExitStack() as stack:

        def told(address: str) -> None:
            click.echo(address, file=result)
            result.flush()
            output.info("it opens once, in a browser on this machine; the end of that is the end")
            stack.enter_context(_opened(address))

        try:
            # what the app says on stderr comes through stdout's object: it is no result
            with contextlib.redirect_stdout(sys.stderr):
                return serve(argv, told, port=port or 0)
        except OSError as error:
            raise CliError(
                "usage", f"cannot listen on port {port} of 127.0.0.1: {error.strerror}",
                "choose another one, or leave --port out",
            ) from None
        except NobodyCameError:
            raise CliError(
                "usage", f"nobody opened the address in {OPENING / 60:.0f} minutes"
            ) from None
        except StoppedError as stopped:
            if stopped.number == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + stopped.number) from None


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open the address on the user's desktop, where there is one.

    Everybody on the machine sees the arguments of every process, so the browser is given the name
    of a file that only the user can read, which leads on.
    """
    opener = shutil.which("xdg-open")
    desktop = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if not opener or not desktop or os.geteuid() == 0:
        yield
        return
    # mkdtemp's directory is ours alone
    with tempfile.TemporaryDirectory(dir=os.environ.get("XDG_RUNTIME_DIR")) as directory:
        path = os.path.join(directory, "certexec.html")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_MODE), "w") as file:
            file.write(PAGE.format(address))
        quiet = subprocess.DEVNULL
        try:
            subprocess.Popen([opener, path], stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError:
            output.info(f'"{opener}" cannot be started: open the address yourself')
        yield
