"""``certexec monitor``: what is written down from now on."""

from __future__ import annotations

import shutil
import sys

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.event_options import as_json as json_line
from certexec.cli.event_options import event_options, line, selection, sources
from certexec.errors import CliError
from certexec.observe.alarm import PATH, Alarm
from certexec.observe.selection import is_violation
from certexec.observe.sources import follow

PATIENCE = 10.0
"""seconds to wait at the end for a command that was started"""


@click.command(
    name="monitor", short_help="Show events as they come.",
    context_settings={"allow_interspersed_args": True},
)
@event_options
@click.option("--exec", "program", metavar="CMD",
              help="Start CMD, a program, when a call was denied.")
@click.option("-n", "--count", "number", type=click.IntRange(min=1), metavar="N",
              help="End after N events.")
@click.argument("arguments", nargs=-1, metavar="[-- ARG...]", type=click.UNPROCESSED)
def command(
    files: tuple[str, ...], journal: bool, programs: tuple[str, ...],
    certificates: tuple[str, ...], users: tuple[str, ...], verdicts: tuple[str, ...],
    calls: tuple[str, ...], hosts: tuple[str, ...], as_json: bool, program: str | None,
    number: int | None, arguments: tuple[str, ...],
) -> int:  # fmt: skip
    """Show what programs under certificates are denied, and whatever else is logged, as it comes.

        certexec monitor --verdict deny --exec /usr/local/bin/tell -- --channel ops

    CMD gets the arguments after "--" and nothing else; the event stands in its environment:
    CERTEXEC_VERDICT, CERTEXEC_PROGRAM, CERTEXEC_ARG_FILENAME and so on, all of it as CERTEXEC_JSON.
    No shell reads any of it. Ends with what it reads, by ^C, or after --count.
    """
    wanted = selection(
        programs=programs, certificates=certificates, users=users, verdicts=verdicts, calls=calls,
        hosts=hosts,
    )  # fmt: skip
    alarm = _alarm(program, arguments)
    found_files, from_journal = sources(files, journal)
    left = -1 if number is None else number
    try:
        for seen in follow(found_files, from_journal):
            if seen is None:
                _flush(alarm)
                continue
            if not wanted.wants(seen):
                continue
            text = json_line(seen)
            click.echo(text if as_json else line(seen))
            if alarm is not None and is_violation(seen):
                alarm.ring(seen, text)
            left -= 1
            if not left:
                break
    finally:
        if alarm is not None:
            _flush(alarm)
            alarm.finish(PATIENCE)
    return 0


def _flush(alarm: Alarm | None) -> None:
    """Let readers see what came, and tell what the command missed."""
    sys.stdout.flush()
    if alarm is not None and alarm.missed:
        why = alarm.failed or "too many of them run already"
        output.warn(
            f'"{printable(alarm.command[0])}" was not started for {alarm.missed} events: {why}'
        )
        alarm.missed, alarm.failed = 0, ""


def _alarm(program: str | None, arguments: tuple[str, ...]) -> Alarm | None:
    if program is None:
        if arguments:
            raise CliError("usage", "arguments are for the command of --exec, which is missing")
        return None
    found = shutil.which(program, path=PATH)
    if found is None:
        raise CliError(
            "usage", f'"{program}" is not a program that can be started',
            "name one program; its arguments follow after \"--\"",
        )
    return Alarm([found, *arguments])
