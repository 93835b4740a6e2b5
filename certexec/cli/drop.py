"""``certexec drop``: give up rights for good, and become a program without them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from certexec.errors import CliError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.drop import error_number
from certexec.policy.model import ALIASES
from certexec.policy.names import CLASSIC
from certexec.run.drop import drop_and_execute

SEPARATOR = "--"


def _complete(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of calls before the separator, then names of files."""
    if SEPARATOR in context.params.get("words", ()):
        return [CompletionItem(incomplete, type="file")]
    names = (*sorted(ALIASES), *sorted({*NUMBERS, *CLASSIC}))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(
    "drop",
    context_settings={"allow_interspersed_args": False},
    short_help="Run a program that has given up rights for good.",
)
@click.option(
    "--errno", "error", metavar="NAME", default="eperm", show_default=True,
    help="What the dropped calls fail with.",
)
@click.argument(
    "words", metavar="CALL... -- PROG [ARG]...", nargs=-1, type=click.UNPROCESSED,
    shell_complete=_complete,
)
def command(error: str, words: tuple[str, ...]) -> None:
    """Run PROG without the system calls CALL, for it and for all that it starts.

    CALL is a name as in policies: a system call, or fsread or fswrite. Nothing brings a dropped
    call back. The exit status is the program's; 125 means that certexec failed, 126 that it refused
    or that PROG cannot be executed, 127 that there is no PROG.
    """
    calls, program = _split(words)
    drop_and_execute(calls, error_number(error), program[0], program[1:])


def _split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the calls, and the program with its arguments. Raises CliError("usage")."""
    if SEPARATOR not in words[1:]:
        raise CliError("usage", 'no "--" between the calls and the program', _example(words))
    at = words.index(SEPARATOR)
    calls, program = words[:at], words[at + 1 :]
    late = next((word for word in calls if word.startswith("-")), "")
    if late:
        raise CliError("usage", f'"{late}" stands behind a call', "options come first")
    if not program:
        raise CliError("usage", 'no program behind the "--"', _example(words))
    return calls, program


def _example(words: tuple[str, ...]) -> str:
    return f"write: certexec drop {words[0] if words else 'socket'} -- PROG"
