"""``certexec run``: run a certificate without any set-up."""

from __future__ import annotations

import contextlib
import fcntl
import os

import click

from certexec.certificate.model import ASK, UNMATCHED
from certexec.cli.output import warn
from certexec.errors import CliError, RunError
from certexec.kernel.ownership import PersonalOwners
from certexec.observe.json_lines import render
from certexec.observe.lines import Lines, is_torn, text_line
from certexec.run.agent_protocol import SOCKET, new_socket
from certexec.run.front import FIRST_FREE, execute, explain_execution
from certexec.run.inquiry import places_for
from certexec.run.layout import SYSTEM
from certexec.run.server import READABLE_HINT, Settings


def _open_log(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise CliError("unreadable", f'"{path}": {error.strerror}') from None


def _log_file(path: str, form: str) -> Lines:
    torn = is_torn(path)
    return Lines(_open_log(path), render if form == "json" else text_line, torn, _kept_stderr())


def _kept_stderr() -> int:
    """Return standard error for the server, whose own leads nowhere; -1 where that cannot be."""
    try:
        return fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    except OSError:
        return -1


def _check_readable(path: str) -> None:
    """Refuse a certificate whose owner or directory keeps it from us: that is no fault of ours."""
    try:
        os.stat(path)
        allowed = os.access(path, os.R_OK)
    except PermissionError:
        allowed = False
    except OSError:
        return  # opening it says what is wrong
    if not allowed:
        raise RunError(
            "certificate-unreadable", f'you may not read the certificate "{path}"',
            READABLE_HINT,
        )  # fmt: skip


def _warn_if_unanswered() -> None:
    """Say that there is nobody to ask, where that is so before the program starts."""
    for place in places_for(os.getuid(), grant=False):
        with contextlib.closing(new_socket()) as agent:
            try:
                agent.connect(f"{place.directory}/{SOCKET}")
            except OSError:
                continue  # none, or one that has ended
            return
    warn(
        "no agent is there to ask: what no rule matches is denied while that is so",
        'start "certexec agent" in another terminal',
    )


def _check_open(number: int) -> int:
    try:
        os.fstat(number)
    except OSError:
        raise CliError("usage", f"descriptor {number} is not open") from None
    return number


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    short_help="Run a certificate without any set-up.",
)
@click.option(
    "--trust",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Trust the keys in DIR, which you or root must own, instead of the machine's.",
)
@click.option("--log", "log_file", metavar="FILE", help="Append denied calls to FILE, not syslog.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Lines in FILE: systrace's (text, the default), or JSON objects.",
)
@click.option(
    "--collector", metavar="ADDRESS",
    help="Send denied calls there, too: udp:ADDRESS:PORT or tcp:ADDRESS:PORT.",
)
@click.option("--trace", metavar="FILE", help="Append each supervised call to FILE, as strace(1).")
@click.option(
    "--status-fd", metavar="N", type=click.IntRange(min=0), help="Write one JSON line to N."
)
@click.option("--permissive", is_flag=True, help="Write down what would be denied, and let it be.")
@click.option(
    "--unmatched", type=click.Choice(UNMATCHED),
    help="What happens to calls that no rule matches, whatever CERT says; ask: your agent decides.",
)
@click.option("--explain", is_flag=True, help="Say what would run, as whom and how; run nothing.")
@click.argument("certificate", metavar="CERT")
@click.argument("arguments", metavar="[--] [ARG]...", nargs=-1, type=click.UNPROCESSED)
def command(
    trust: str | None,
    log_file: str | None,
    log_format: str | None,
    collector: str | None,
    trace: str | None,
    status_fd: int | None,
    permissive: bool,
    unmatched: str | None,
    explain: bool,
    certificate: str,
    arguments: tuple[str, ...],
) -> None:
    """Run the program of CERT under its policy, as yourself.

    Everything is proved as when the certificate's name is typed: signature, binary, policy, the
    list of who may run it. Identities are never granted here. The exit status is the program's;
    125 means that certexec failed, 126 that it refused, 127 that something was not found.
    """
    if arguments[:1] == ("--",):
        arguments = arguments[1:]
    _check_readable(certificate)
    keep = []
    settings = Settings(may_grant=False)
    if trust is not None:
        settings.store = os.path.realpath(trust)
        settings.owners = PersonalOwners((0, os.getuid()))
    elif not os.path.isdir(SYSTEM.trust_store):
        raise CliError(
            "unreadable",
            f'there is no trust store "{SYSTEM.trust_store}"',
            'name one with "--trust DIR", or let root run "certexec setup"',
        )
    if log_file is not None:
        log = _log_file(log_file, log_format or "text")
        keep += [one for one in (log.fd, log.complaints) if one >= 0]
        settings.sinks = [log]
        settings.notify_denials = True
    elif log_format is not None:
        raise CliError("usage", "--log-format is about the file of --log, which is missing")
    if collector is not None:
        from certexec.observe.collector import Collector, parse_address
        from certexec.observe.sinks import machine_sinks

        sinks = machine_sinks() if settings.sinks is None else settings.sinks
        settings.sinks = [*sinks, Collector(parse_address(collector))]
        settings.notify_denials = True
    if trace is not None:
        from certexec.run.trace import Trace

        keep.append(_open_log(trace))
        settings.trace = Trace(keep[-1])
    if status_fd is not None:
        keep.append(_check_open(status_fd))
        settings.status_fd = status_fd
    if permissive:
        warn("permissive: denials are only written down")
        settings.permissive = settings.notify_denials = True
    settings.unmatched = unmatched or ""
    if unmatched == ASK and not explain:
        _warn_if_unanswered()
    if explain:
        for line in explain_execution(certificate, settings):
            click.echo(line)
        return
    execute(certificate, arguments, settings, keep)
