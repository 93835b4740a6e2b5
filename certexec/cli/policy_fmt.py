"""``certexec policy fmt``: write policies in canonical form, or say where they are not."""

from __future__ import annotations

import difflib
import sys

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    EXIT_NOT_A_POLICY,
    read_text,
    shown_name,
)
from certexec.cli.presets import load_presets
from certexec.cli.replace_file import Target, replace
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.include import expand
from certexec.policy.join import join_lines
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.reformat import reformat

EXIT_DIFFERENT = 1


@click.command(name="fmt", short_help="Print policies in canonical form.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "checking", is_flag=True, help="Only name the files that would change.")
@click.option("--diff", "differing", is_flag=True, help="Print what would change.")
@click.option("-w", "--write", "writing", is_flag=True, help="Change the files.")
@click.option("--join", "joining", is_flag=True,
              help="Join every line that ends in a backslash with the next one first.")
@click.option("--sort", "sorting", is_flag=True,
              help="Sort rules, as far as their order has no meaning.")
@click.option("--expand", "expanding", is_flag=True,
              help="Write the rules of presets in place of every include.")
def command(
    files: tuple[str, ...], checking: bool, differing: bool, writing: bool, joining: bool,
    sorting: bool, expanding: bool,
) -> int:
    """Print policies in canonical form; comments and meaning stay.

    "-" is standard input. Exit codes: 0 done, or nothing to change, 1 something would change
    (with --check or --diff), 2 a file is no policy or cannot be read; it is left as it is.
    """
    if checking + differing + writing > 1:
        raise CliError("usage", '"--check", "--diff" and "--write" exclude each other')
    if writing and "-" in files:
        raise CliError("usage", "standard input cannot be written")
    code = EXIT_FINE
    for name in files:
        try:
            before, text, after = _format(name, joining, sorting, expanding)
            if writing:
                if before is not None and after != text:
                    replace(before, _bytes(after))
            elif differing:
                _print_difference(name, text, after)
            elif checking:
                if after != text:
                    output.done(printable(shown_name(name)))
            else:
                _print(after)
        except CertexecError as error:
            output.failure(error)
            code = EXIT_NOT_A_POLICY
            continue
        if (checking or differing) and after != text:
            code = max(code, EXIT_DIFFERENT)
    return code


def _format(
    name: str, joining: bool, sorting: bool, expanding: bool
) -> tuple[Target | None, str, str]:
    """Return the file (None: standard input), its text, and the text in canonical form."""
    target = None if name == "-" else Target(name)
    text = read_text(name)
    joined, origins = join_lines(text) if joining else (text, [])
    users, presets = SystemUsers(), load_presets()
    try:
        if expanding:
            joined = expand(joined, name=shown_name(name), users=users, presets=presets)
        after = reformat(
            joined, name=shown_name(name), users=users, sort=sorting, presets=presets
        )
    except PolicySyntaxError as error:
        raise _in_the_file(error, origins) from None
    return target, text, after


def _in_the_file(error: PolicySyntaxError, origins: list[int]) -> PolicySyntaxError:
    """Return an error in joined lines with the number that the line has in the file."""
    if not 1 <= error.line <= len(origins):
        return error
    _, _, message = error.message.partition("): ")
    return PolicySyntaxError(
        message, file=error.file, line=origins[error.line - 1], column=error.column,
        source_line=error.source_line, hint=error.hint,
    )


def _print(text: str) -> None:
    """Print the text's very bytes; on a terminal nothing that steers it."""
    click.echo(printable(text, lines=True) if sys.stdout.isatty() else _bytes(text), nl=False)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _print_difference(name: str, before: str, after: str) -> None:
    shown = shown_name(name)
    for line in difflib.unified_diff(_lines(before), _lines(after), shown, shown):
        _print(line)


def _lines(text: str) -> list[str]:
    """Return the lines with their newlines; a policy ends in one."""
    return [line + "\n" for line in text.split("\n")[:-1]]
