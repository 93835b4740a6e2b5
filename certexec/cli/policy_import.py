"""``certexec policy import``: policies of other systems, and pledge and unveil, as one for here."""

from __future__ import annotations

import os
import shutil

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import EXIT_FINE, read_text, refuse, shown_name
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.other_system import convert
from certexec.policy.promises import Imported, from_promises, parse_promises, parse_unveil
from certexec.policy.reformat import reformat

EXIT_LOSSES = 1


@click.command(name="import", short_help="Make a policy of another system's.")
@click.argument("source", metavar="[FILE|PROG]")
@click.option("--pledge", "promises", metavar="PROMISES",
              help='The promises of pledge(2): "stdio rpath inet".')
@click.option("--unveil", "unveils", multiple=True, metavar="PATH:rwxc",
              help="What unveil(2) shows: a tree and its permissions; may be repeated.")
@click.option("--no-base", is_flag=True, help="Leave out what programs need here to start.")
def command(
    source: str, promises: str | None, unveils: tuple[str, ...], no_base: bool
) -> int:
    """Print a policy for this system, and say what could not be carried over.

        certexec policy import --pledge "stdio rpath" --unveil /etc:r /usr/bin/less

    With --pledge or --unveil it is for the program PROG, otherwise it is made of the systrace
    policies in FILE ("-": standard input), as OpenBSD and NetBSD had them. Exit codes: 0 done, 1
    done, but not all could be carried over, 2 it is no policy.
    """
    users = SystemUsers()
    try:
        if promises is None and not unveils:
            made = convert(
                read_text(source), name=shown_name(source), users=users, base=not no_base
            )
        else:
            if no_base:
                raise CliError("usage", "a pledge counts after the start: it needs the base")
            made = from_promises(
                _program(source), None if promises is None else parse_promises(promises),
                [parse_unveil(one) for one in unveils],
            )
        text = reformat(made.text, name="the result", users=users, presets=load_presets())
    except CertexecError as error:
        return refuse(error, as_json=False)
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    return _tell(made)


def _program(name: str) -> str:
    found = shutil.which(name) or name
    if not found.startswith("/") and not os.path.exists(found):
        raise CliError("usage", f'there is no program "{name}"', "name it by its path")
    return os.path.realpath(found)


def _tell(made: Imported) -> int:
    for note in made.notes:
        output.warn(printable(note))
    return EXIT_LOSSES if made.notes else EXIT_FINE
