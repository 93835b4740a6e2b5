"""``certexec policy merge``: two policies as one."""

from __future__ import annotations

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import EXIT_FINE, read_text, refuse, shown_name
from certexec.cli.presets import load_presets
from certexec.cli.progress import counting
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.merge import merge

EXIT_CONFLICTS = 1


@click.command(name="merge", short_help="Make one policy of two.")
@click.argument("one")
@click.argument("two")
def command(one: str, two: str) -> int:
    """Print a policy that permits what the policies in ONE or TWO permit.

        certexec policy merge nginx.policy nginx.policy.learned > nginx.policy.new

    It never permits what neither does. Where one denies in so many words what the other permits,
    and where the result permits less than both together, that is told. Comments are kept, includes
    are written out. Exit codes: 0 done, 1 done with something to tell, 2 one is no policy.
    """
    if one == two == "-":
        raise CliError("usage", "standard input can be only one of the two")
    try:
        texts = read_text(one), read_text(two)
        with counting("merge") as watch:
            made = merge(
                texts, names=(shown_name(one), shown_name(two)), users=SystemUsers(),
                presets=load_presets(), watch=watch,
            )
    except CertexecError as error:
        return refuse(error, as_json=False)
    click.echo(made.text.encode("utf-8", "surrogateescape"), nl=False)
    for conflict in made.conflicts:
        output.warn(printable(f"conflict: {conflict}"))
    for note in made.narrower:
        output.warn(printable(note))
    return EXIT_CONFLICTS if made.conflicts or made.narrower else EXIT_FINE
