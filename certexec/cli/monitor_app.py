"""``certexec monitor --app``: what the terminal app is given, and what is done with its end."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Generator, Sequence

from certexec.cli.common import check_output, write_file
from certexec.cli.event_advice import Adviser
from certexec.cli.event_options import as_json
from certexec.cli.front import take_keys
from certexec.cli.policy_input import count
from certexec.cli.report_file import PRIVATE_MODE
from certexec.errors import CliError
from certexec.observe.alarm import Alarm
from certexec.observe.intake import Intake
from certexec.observe.reading import Seen
from certexec.observe.selection import Selection, is_violation
from certexec.observe.sources import STANDARD_INPUT, follow

SHOWN = 3
"""files that the head line names"""


def check_readable(files: Sequence[str], journal: bool, policies: tuple[str, ...]) -> None:
    """Find out whether a browser's app could read all of it. Raises CliError and RunError."""
    Adviser(policies)
    events = follow(files, journal)
    next(events, None)
    events.close()


def run_app(
    files: Sequence[str], journal: bool, policies: tuple[str, ...], *, wanted: Selection,
    alarm: Alarm | None, missed: Callable[[Alarm], str],
) -> int:  # fmt: skip
    """Show events until somebody has seen enough; returns the exit code.

    ``missed``: says for how many events the command was not started, and forgets them.
    Raises CliError and RunError for what cannot be read, before anything is shown.
    """
    from certexec.tui.monitor_app import Advice, MonitorApp

    adviser = Adviser(policies)
    keys = take_keys() if STANDARD_INPUT in files else 0
    events = follow(files, journal, keys)
    first = next(events, None)  # opens all of them

    def feed() -> Generator[Seen | str | None, None, None]:
        try:
            for seen in itertools.chain([first], events):
                if seen is None:
                    if alarm is not None and alarm.missed:
                        yield missed(alarm)
                    yield None
                elif wanted.wants(seen):
                    if alarm is not None and is_violation(seen):
                        alarm.ring(seen, as_json(seen))
                    yield seen
        finally:
            events.close()

    def advise(seen: Seen) -> Advice:
        return Advice(*adviser.advise(seen))

    intake = Intake(feed())
    intake.start()
    try:
        return MonitorApp(intake, _source(files, journal), advise=advise, save=save).run() or 0
    finally:
        intake.finish()
        if alarm is not None:
            alarm.finish()


def save(events: Sequence[Seen], name: str, force: bool) -> str:
    """Write events as JSON Lines; returns what can be done with them. Raises CliError."""
    path = os.path.expanduser(name)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise CliError("unreadable", f'"{path}" is not a regular file')  # nothing to be replaced
    check_output(path, force)
    lines = "".join(as_json(one) + "\n" for one in events)
    write_file(path, lines.encode("ascii"), PRIVATE_MODE, force=force)
    written = f'"{path}": {count(len(events), "event", "events")}'
    return f"{written}; certexec policy review --log {shlex.quote(path)} POLICY"


def _source(files: Sequence[str], journal: bool) -> str:
    names = ["standard input" if one == STANDARD_INPUT else one for one in files]
    if len(names) > SHOWN:
        names = [*names[:SHOWN], f"{len(names) - SHOWN} more"]
    return ", ".join([*names, *(["the journal"] if journal else [])])
