"""``certexec doctor``: say what this machine can promise."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.run import checkup, deploy
from certexec.run.layout import SYSTEM

SCHEMA = 1
COLORS = {checkup.OK: "green", checkup.WARN: "yellow", checkup.FAIL: "red"}
MAX_VALUE = 36
"""columns; a longer value pushes only its own line's meaning to the right."""


def _places() -> list[str]:
    """List where programs and certificates stand: the usual places, then $PATH."""
    path = os.environ.get("PATH", "").split(os.pathsep)
    return [*checkup.USUAL_PLACES, *(place for place in path if place.startswith("/"))]


def _print_table(findings: list[checkup.Finding]) -> None:
    names = max(len(finding.name) for finding in findings)
    values = min(max(len(finding.value) for finding in findings), MAX_VALUE)
    for finding in findings:
        status = output.painted(f"{finding.status:4}", COLORS[finding.status])
        row = f"{status}  {finding.name:{names}}  {finding.value:{values}}  {finding.meaning}"
        click.echo(row)
        if finding.hint and finding.status != checkup.OK:
            click.echo(f"{'':6}{'':{names}}  mend it: {finding.hint}")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Say what this kernel, these file systems and this installation can promise.

    Nothing is changed. Exit codes: 0 when signed certificates can run by name, 1 when they
    cannot.
    """
    findings = checkup.examine(SYSTEM, _places(), deploy.PACKAGE)
    works = checkup.works(findings)
    if as_json:
        rows = [
            {
                "name": finding.name,
                "status": finding.status,
                "value": finding.value,
                "meaning": finding.meaning,
                "hint": finding.hint,
            }
            for finding in findings
        ]
        output.print_json({"schema": SCHEMA, "works": works, "findings": rows})
    elif not output.settings.quiet:
        _print_table(findings)
    context.exit(0 if works else 1)
