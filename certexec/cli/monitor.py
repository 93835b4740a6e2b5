"""``certexec monitor``: what is written down from now on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence

import click

from certexec.cli import output
from certexec.cli.browser import browser_options, check_browser, show_in_browser
from certexec.cli.common import printable
from certexec.cli.event_options import as_json as json_line
from certexec.cli.event_options import event_options, line, selection, sources
from certexec.cli.front import require_app
from certexec.errors import CliError
from certexec.observe.alarm import PATH, Alarm
from certexec.observe.selection import is_violation
from certexec.observe.sources import STANDARD_INPUT, follow


@click.command(
    name="monitor", short_help="Show events as they come.",
    context_settings={"allow_interspersed_args": True},
)
@event_options
@click.option("--exec", "program", metavar="CMD",
              help="Start CMD, a program, when a call was denied.")
@click.option("-n", "--count", "number", type=click.IntRange(min=1), metavar="N",
              help="End after N events.")
@click.option("--app", "app", is_flag=True,
              help="Show them in the terminal app instead of line by line.")
@click.option("--policy", "policies", multiple=True, metavar="FILE",
              help="With the app: the policy file that shows which rule denied; may be repeated.")
@browser_options
@click.argument("arguments", nargs=-1, metavar="[-- ARG...]", type=click.UNPROCESSED)
def command(
    files: tuple[str, ...], journal: bool, programs: tuple[str, ...],
    certificates: tuple[str, ...], users: tuple[str, ...], verdicts: tuple[str, ...],
    calls: tuple[str, ...], hosts: tuple[str, ...], as_json: bool, program: str | None,
    number: int | None, app: bool, policies: tuple[str, ...], browser: bool, port: int | None,
    arguments: tuple[str, ...],
) -> int:  # fmt: skip
    r"""Show what programs under certificates are denied, and whatever else is logged, as it comes.

    \b
    certexec monitor --verdict deny --exec /usr/local/bin/tell -- ops
    certexec monitor --app --policy site.policy

    CMD gets the arguments after "--" and nothing else; the event stands in its environment:
    CERTEXEC_VERDICT, CERTEXEC_PROGRAM, CERTEXEC_ARG_FILENAME and so on, all of it as CERTEXEC_JSON.
    No shell reads any of it. Ends with what it reads, by ^C, or after --count.

    The app counts by program and verdict, filters as you type, and shows of each event what would
    permit it; --browser shows it in a browser.
    """
    _check_front(app or browser, as_json, number, policies)
    check_browser(browser, port)
    wanted = selection(
        programs=programs, certificates=certificates, users=users, verdicts=verdicts, calls=calls,
        hosts=hosts,
    )  # fmt: skip
    alarm = _alarm(program, arguments, quiet=app or browser)
    if app and not browser:
        require_app("the app")
    found_files, from_journal = sources(files, journal)
    if app or browser:
        from certexec.cli.monitor_app import check_readable, run_app

        watched = found_files, from_journal, policies
        if not browser:
            return run_app(*watched, wanted=wanted, alarm=alarm, missed=_missed)
        words = _words(
            {"--file": found_files, "--program": programs, "--certificate": certificates,
             "--user": users, "--verdict": verdicts, "--syscall": calls, "--host": hosts,
             "--policy": policies, "--exec": [program] if program is not None else []},
            from_journal, arguments,
        )  # fmt: skip
        check_readable(*watched)
        return show_in_browser(words, port)
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
            alarm.finish()
    return 0


def _check_front(
    app: bool, as_json: bool, number: int | None, policies: tuple[str, ...]
) -> None:
    """Refuse options that do not go together. Raises CliError("usage")."""
    if app and (as_json or number is not None):
        option = "--json" if as_json else "--count"
        raise CliError("usage", f"{option} is for lines, and not for the app", "choose one")
    if policies and not app:
        raise CliError("usage", "--policy is for the app", 'say "--app", too')


def _words(
    options: Mapping[str, Sequence[str]], journal: bool, arguments: Sequence[str]
) -> list[str]:
    """Return the command line of the app that a browser shows. Raises CliError("usage")."""
    if STANDARD_INPUT in options["--file"]:
        raise CliError("usage", "a browser cannot show standard input", 'use "--app"')
    words = ["monitor", "--app", *(["--journal"] if journal else [])]
    words += [f"{name}={value}" for name, values in options.items() for value in values]
    return [*words, "--", *arguments] if arguments else words


def _missed(alarm: Alarm) -> str:
    """Say what the command missed, and begin anew."""
    why = alarm.failed or "too many of them run already"
    said = f'"{printable(alarm.command[0])}" was not started for {alarm.missed} events: {why}'
    alarm.missed, alarm.failed = 0, ""
    return said


def _flush(alarm: Alarm | None) -> None:
    """Let readers see what came, and tell what the command missed."""
    sys.stdout.flush()
    if alarm is not None and alarm.missed:
        output.warn(_missed(alarm))


def _alarm(program: str | None, arguments: tuple[str, ...], *, quiet: bool) -> Alarm | None:
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
    return Alarm([found, *arguments], quiet=quiet)
