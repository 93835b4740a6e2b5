"""``certexec setup``: make certificates run by name on this machine, or undo that."""

from __future__ import annotations

import sys

import click

from certexec.cli import output
from certexec.cli.as_root import need_root
from certexec.errors import CliError
from certexec.run import checkup, handler
from certexec.run.deploy import Report
from certexec.run.layout import SYSTEM

LEFT = (
    "installed certificates stay where they are, and do not run any more: "
    '"certexec verify /usr/local" finds those below a directory'
)


def _tell(report: Report) -> None:
    for change in report.changes:
        output.info(change)
    for note in report.notes:
        output.warn(note)


def _confirm_purge(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("usage", "--purge removes trusted keys", 'confirm it with "--yes"')
    click.confirm(f'Remove every trusted key in "{SYSTEM.trust_store}"?', abort=True, err=True)


@click.command("setup")
@click.option("--remove", is_flag=True, help="Take away everything that setup made.")
@click.option("--purge", is_flag=True, help="With --remove: the trusted keys too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before removing keys.")
def command(remove: bool, purge: bool, yes: bool) -> None:
    """Make certificates run by name on this machine (root, once).

    Copies the launcher and the policy server to /usr/libexec/certexec, where only root can change
    them, makes /etc/certexec/trust.d for the keys that you trust, and registers the kernel's
    handler for certificates, now and at every boot. Run it again after an upgrade: certificates
    that run meanwhile go on running.
    """
    # 1. combinations that make no sense, before anything is touched
    if purge and not remove:
        raise CliError("usage", "--purge goes with --remove only")
    if yes and not purge:
        raise CliError("usage", "--yes goes with --remove --purge only")
    # 2. the other way round
    need_root("certexec setup --remove" if remove else "certexec setup")
    if remove:
        if purge:
            _confirm_purge(yes)
        report = handler.take_down(SYSTEM, purge)
        _tell(report)
        output.done("certexec is removed" if report.changes else "nothing to remove")
        if report.changes:
            output.info(LEFT)
        return
    # 3. set up
    report = handler.set_up(SYSTEM)
    _tell(report)
    state = "is set up" if report.changes else "is set up already, nothing changed"
    output.done(f'certexec {state}: version {report.version}, "{report.interpreter}"')
    if report.changes and checkup.check_trust_store(SYSTEM).status == checkup.WARN:
        output.info(
            'next: "certexec keygen -f NAME" makes a key, "certexec trust add NAME.pub" trusts it'
        )
