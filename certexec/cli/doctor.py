"""``certexec doctor``: say what this machine can promise."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.kernel import doors
from certexec.kernel.procfs import in_initial_user_namespace
from certexec.observe.sinks import kept_by
from certexec.run import checkup, deploy
from certexec.run.layout import SYSTEM

SCHEMA = 1
COLORS = {checkup.OK: "green", checkup.WARN: "yellow", checkup.FAIL: "red"}
_NO_SERVER = ("resident server", "none")
_DOORS, _ALONE = "doors", "Python alone"
DOORS_HINT = (
    "install gcc and python3-dev, then certexec anew (pip install --force-reinstall --no-deps .), "
    'then run "certexec setup"'
)
LOG_HINT = 'install a syslog daemon, such as rsyslog, or name a file: "certexec run --log FILE"'
MAX_VALUE = 36
"""columns; a longer value pushes only its own line's meaning to the right."""


def _places() -> list[str]:
    """List where programs and certificates stand: the usual places, then $PATH."""
    path = os.environ.get("PATH", "").split(os.pathsep)
    return [*checkup.USUAL_PLACES, *(place for place in path if place.startswith("/"))]


def _examine() -> list[checkup.Finding]:
    """Return all findings: those of the run path, and what becomes of its denials."""
    findings = checkup.examine(SYSTEM, _places(), deploy.PACKAGE)
    if all(one.name != _DOORS for one in findings):  # nothing is set up: what a setup would copy
        compiled = doors.compiled is not None
        told = "setup copies them" if compiled else "judged calls would take about a third longer"
        value = "compiled" if compiled else _ALONE
        findings.append(checkup.Finding(_DOORS, checkup.OK, value, told))
    for one in findings:
        if (one.name, one.value) == (_DOORS, _ALONE):
            one.hint = DOORS_HINT
        if (one.name, one.value) == _NO_SERVER and not in_initial_user_namespace():
            one.meaning = "each execution starts a server; a user namespace has no resident one"
    who = kept_by()
    return [*findings, checkup.Finding(
        "denials", checkup.OK if who else checkup.WARN, ", ".join(who) or "kept nowhere",
        "what programs are denied can be looked up" if who else "what a program is denied is lost",
        "" if who else LOG_HINT,
    )]  # fmt: skip


def _print_table(findings: list[checkup.Finding]) -> None:
    names = max(len(finding.name) for finding in findings)
    values = min(max(len(finding.value) for finding in findings), MAX_VALUE)
    for finding in findings:
        status = output.painted(f"{finding.status:4}", COLORS[finding.status])
        row = f"{status}  {finding.name:{names}}  {finding.value:{values}}  {finding.meaning}"
        click.echo(row)
        if finding.hint:
            word = "hint" if finding.status == checkup.OK else "mend it"
            click.echo(f"{'':6}{'':{names}}  {word}: {finding.hint}")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Say what this kernel, these file systems and this installation can promise.

    Nothing is changed. Exit codes: 0 when signed certificates can run by name, 1 when they
    cannot.
    """
    findings = _examine()
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
