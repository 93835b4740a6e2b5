"""``certexec log``: what was written down so far."""

from __future__ import annotations

import collections
from collections.abc import Iterable

import click

from certexec.cli import output
from certexec.cli.event_options import as_json as json_line
from certexec.cli.event_options import event_options, line, selection, sources
from certexec.cli.report_file import check_report, write_log_report
from certexec.observe.reading import Seen
from certexec.observe.sources import past

EXIT_NOTHING = 1


@click.command(name="log", short_help="Show past events: denied and logged calls.")
@event_options
@click.option("--since", metavar="TIME", help="Only what came after: 2026-11-21, or -2d.")
@click.option("--until", metavar="TIME", help="Only what came before.")
@click.option("-n", "--last", "number", type=click.IntRange(min=1), metavar="N",
              help="Only the last N of these.")
@click.option("--html", "page", metavar="FILE", help="Write a report to FILE instead.")
@click.argument("named", metavar="[FILE]...", nargs=-1)
def command(
    files: tuple[str, ...], journal: bool, programs: tuple[str, ...],
    certificates: tuple[str, ...], users: tuple[str, ...], verdicts: tuple[str, ...],
    calls: tuple[str, ...], hosts: tuple[str, ...], as_json: bool, since: str | None,
    until: str | None, number: int | None, page: str | None, named: tuple[str, ...],
) -> int:  # fmt: skip
    """Show what programs under certificates were denied, and whatever else was logged.

        certexec log --since -1d --verdict deny --program nginx

    The journal is read where there is one, else the log of the syslog daemon; FILE, or --file,
    names others, of any form that certexec writes, and those of a collector. Exit codes: 0 there
    was something, 1 there was not, 2 it could not be read.
    """
    wanted = selection(
        programs=programs, certificates=certificates, users=users, verdicts=verdicts, calls=calls,
        hosts=hosts, since=since, until=until,
    )  # fmt: skip
    if page is not None:
        check_report(page)
    found_files, from_journal = sources((*files, *named), journal)
    events = filter(wanted.wants, past(found_files, from_journal, wanted.since))
    if number is not None:
        return _finish(collections.deque(events, number), as_json, page)
    return _finish(events, as_json, page)


def _finish(events: Iterable[Seen], as_json: bool, page: str | None) -> int:
    if page is not None:
        report = write_log_report(page, events)
        output.done(
            f"{page}: {report.total} events, {len(report.denials)} different denials"
            + (f", {sum(1 for row in report.denials if row.new)} new" if report.before else "")
        )
        return 0
    return 0 if _show(events, as_json) else EXIT_NOTHING


def _show(events: Iterable[Seen], as_json: bool) -> bool:
    shown = False
    for seen in events:
        shown = True
        click.echo(json_line(seen) if as_json else line(seen))
    return shown
