"""``certexec policy template``: print a policy to start from."""

from __future__ import annotations

import os
import shutil

import click

from certexec.cli import output
from certexec.errors import CliError
from certexec.policy.template import permit_all, starting_policy


@click.command(name="template")
@click.argument("program", metavar="PROG")
@click.option(
    "--unsafe-permit-all", "unsafe", is_flag=True,
    help="A policy that confines nothing: every call is permitted.",
)
def command(program: str, unsafe: bool) -> None:
    """Print a policy to start from.

    PROG is a path, or a name to look up in $PATH. Ordinary programs start under the policy; its
    comments say what to add.
    """
    path = _program_path(program)
    text = permit_all(path) if unsafe else starting_policy(path)
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    if unsafe:
        output.warn("this policy confines nothing")


def _program_path(program: str) -> str:
    """Return the path that a certificate for the program would name: links are followed."""
    found = program if "/" in program else shutil.which(program)
    if found is None:
        raise CliError("not-found", f'there is no program "{program}" in $PATH', "give its path")
    path = os.path.realpath(found)
    if os.path.exists(path) and not os.path.isfile(path):
        raise CliError("binary-unusable", f'"{path}" is not a regular file', "name a program")
    return path
