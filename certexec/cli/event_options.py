"""What the verbs about events share: where they read, what they select, and how a line looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from certexec.cli import output
from certexec.cli.common import parse_time, printable
from certexec.errors import CliError
from certexec.observe.reading import VERDICTS, Seen
from certexec.observe.report import argument_of
from certexec.observe.selection import Selection
from certexec.observe.sources import has_journal, usual_files

F = TypeVar("F", bound=Callable[..., Any])

COLORS = {"deny": "red", "kill": "red", "ask": "yellow", "permit": "green"}
_OPTIONS = (
    click.option("--file", "files", multiple=True, metavar="FILE",
                 help='Read this log, of any form; "-": standard input; may be repeated.'),
    click.option("--journal", is_flag=True, help="Read the journal."),
    click.option("--program", "programs", multiple=True, metavar="GLOB",
                 help="Only programs with such a path or name."),
    click.option("--certificate", "certificates", multiple=True, metavar="GLOB",
                 help="Only what ran under such a certificate."),
    click.option("--user", "users", multiple=True, metavar="USER", help="Only this user's calls."),
    click.option("--verdict", "verdicts", multiple=True, type=click.Choice(VERDICTS),
                 help="Only calls with this verdict."),
    click.option("--syscall", "calls", multiple=True, metavar="GLOB", help="Only these calls."),
    click.option("--host", "hosts", multiple=True, metavar="GLOB", help="Only these machines."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON Lines."),
)  # fmt: skip


def event_options(command: F) -> F:
    """Add the options that say which log, and which of its events."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def sources(files: Sequence[str], journal: bool) -> tuple[list[str], bool]:
    """Return which files to read, and whether the journal: where nothing is said, what there is.

    Raises CliError("not-found").
    """
    if files or journal:
        return list(files), journal
    if has_journal():
        return [], True
    found = usual_files()
    if not found:
        raise CliError(
            "not-found", "there is neither a journal nor a log of a syslog daemon here",
            'name one with "--file FILE"',
        )
    output.info(f"reading {found[0]}", detail=True)
    return found, False


def selection(
    *, programs: Sequence[str], certificates: Sequence[str], users: Sequence[str],
    verdicts: Sequence[str], calls: Sequence[str], hosts: Sequence[str], since: str | None = None,
    until: str | None = None,
) -> Selection:
    """Return what the options select. Raises CliError("usage") for a time that is none."""
    now = int(time.time())
    return Selection(
        programs=programs, certificates=certificates, users=users, verdicts=verdicts, calls=calls,
        hosts=hosts, since=_moment(since, now), until=_moment(until, now),
    )


def _moment(text: str | None, now: int) -> float:
    return 0.0 if text is None else float(parse_time(text, now))


def as_json(seen: Seen) -> str:
    """Return an event as one line of JSON, with its machine as ``host``; ASCII only."""
    host = {"host": seen.host} if seen.host else {}
    return json.dumps({**host, **seen.members})


def line(seen: Seen) -> str:
    """Return an event as one line for people, safe for a terminal."""
    stamp = ""
    if seen.time:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(seen.time))
    head = stamp + (f"{printable(seen.host)} " if seen.host else "")
    if seen.text("event") != "call":
        return f"{head}{printable(_about(seen))}"
    verdict = seen.text("verdict")
    times = f" x{seen.count}" if seen.count > 1 else ""
    certificate = seen.text("certificate")
    shown = (
        f"{seen.text('user')} {seen.text('program')}[{seen.text('pid')}] "
        f"{seen.text('syscall')}({argument_of(seen)})"
    )
    why = [seen.text("reason"), certificate and f"under {certificate}",
           seen.text("as") and f"as {seen.text('as')}"]  # fmt: skip
    told = ", ".join(one for one in why if one)
    return (
        head + output.painted(printable(verdict), COLORS.get(verdict, "yellow")) + times + " "
        + printable(shown) + (f" ({printable(told)})" if told else "")
    )


def _about(seen: Seen) -> str:
    kind = seen.text("event")
    if kind == "note":
        return f"note: {seen.text('text')}"
    if kind == "lost":
        return f"lost {seen.count} events: {seen.text('reason')}"
    calls = seen.members.get("calls")
    listed = [f"{name} {number}" for name, number in calls.items()] if isinstance(calls, dict) \
        else []  # fmt: skip
    return f"{seen.count} others: {', '.join(listed)}"
