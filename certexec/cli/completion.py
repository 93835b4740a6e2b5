"""``certexec completion``: print the script by which a shell completes command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from certexec.cli.main import cli

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_CERTEXEC_COMPLETE"
"""By this variable the script asks for completions; click derives it from the name."""


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: certexec completion bash > /usr/share/bash-completion/completions/certexec
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "certexec", VARIABLE).source())
