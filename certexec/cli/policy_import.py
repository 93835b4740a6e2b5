"""``certexec policy import``: policies of other systems, and pledge and unveil, as one for here."""

from __future__ import annotations

import os
import shutil

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.included_files import read_all
from certexec.cli.policy_input import EXIT_FINE, read_text, refuse, shown_name
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.apparmor import from_apparmor
from certexec.policy.firejail import from_firejail
from certexec.policy.import_kind import FIREJAIL, KINDS, SYSTRACE, kind_of
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
@click.option("--from", "kind", type=click.Choice(KINDS),
              help="What FILE is; else what it looks like.")
@click.option("--include-dir", "directories", multiple=True, metavar="DIR",
              help="Where what FILE includes is looked up; may be repeated.")
@click.option("--program", metavar="PROG",
              help="Whom a firejail profile is for, else the program with its name.")
def command(
    source: str, promises: str | None, unveils: tuple[str, ...], no_base: bool, kind: str | None,
    directories: tuple[str, ...], program: str | None,
) -> int:
    """Print a policy for this system, and say what could not be carried over.

        certexec policy import --pledge "stdio rpath" --unveil /etc:r /usr/bin/less

    With --pledge or --unveil it is for the program PROG, otherwise it is made of what FILE holds
    ("-": standard input): systrace policies, as OpenBSD and NetBSD had them, AppArmor profiles, or
    a firejail profile. Exit codes: 0 done, 1 done, but not all could be carried over, 2 it is no
    policy.
    """
    users = SystemUsers()
    try:
        if promises is None and not unveils:
            made = _from_file(source, kind, directories, program, base=not no_base)
        else:
            if kind is not None or directories or program is not None:
                raise CliError("usage", "--from, --include-dir and --program are about a file")
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


def _from_file(
    source: str, kind: str | None, directories: tuple[str, ...], program: str | None, *, base: bool
) -> Imported:
    text, name = read_text(source), shown_name(source)
    kind = kind or kind_of(text)
    if program is not None and kind != FIREJAIL:
        raise CliError("usage", "--program is for a firejail profile, others name their programs")
    if kind == SYSTRACE:
        if directories:
            raise CliError("usage", "a systrace policy includes nothing")
        return convert(text, name=name, users=SystemUsers(), base=base)
    if not base:
        raise CliError("usage", "--no-base is about systrace policies")
    if kind == FIREJAIL:
        near = [*directories, os.path.dirname(os.path.abspath(source)), "/etc/firejail"]
        named = os.path.basename(source).removesuffix(".profile")
        return from_firejail(
            text, name=name, program=_program(program or named),
            look_up=lambda each: read_all(near, each), real=_real,
        )
    places = [*directories, "/etc/apparmor.d"]
    return from_apparmor(text, name=name, look_up=lambda each: read_all(places, each), real=_real)


def _real(path: str) -> str | None:
    return os.path.realpath(path) if os.path.exists(path) else None


def _program(name: str) -> str:
    found = shutil.which(name) or name
    if not found.startswith("/") and not os.path.exists(found):
        raise CliError("usage", f'there is no program "{name}"', "name it by its path")
    return os.path.realpath(found)


def _tell(made: Imported) -> int:
    for note in made.notes:
        output.warn(printable(note))
    return EXIT_LOSSES if made.notes else EXIT_FINE
