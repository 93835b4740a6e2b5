"""A report on disk: the page, and beside it what the next one has to know."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from certexec.cli.common import PUBLIC_MODE, check_writable, show_time, write_file
from certexec.errors import CliError
from certexec.observe.reading import Seen
from certexec.observe.report import LogReport, VerifyReport, read_state
from certexec.observe.report_page import log_page, verify_page

STATE = ".state.json"
"""What is put behind the page's name for its state."""
STATE_MAX = 32 << 20
"""bytes of a state that is read"""
PRIVATE_MODE = 0o600
"""what a log tells about users and files is not for everybody"""


def write_log_report(path: str, events: Iterable[Seen]) -> LogReport:
    """Write the page about events, and its state. Raises CliError("unreadable")."""
    report = LogReport(events, _state(path, "log"))
    _write(path, log_page, report, PRIVATE_MODE)
    return report


def write_verify_report(path: str, results: Sequence[Mapping[str, object]]) -> VerifyReport:
    """Write the page about certificates, given the records of "verify --json", and its state.

    Raises CliError("unreadable").
    """
    report = VerifyReport(results, _state(path, "verify"))
    _write(path, verify_page, report, PUBLIC_MODE)
    return report


def check_report(path: str) -> None:
    """Refuse a file that cannot be written, before any work. Raises CliError."""
    if os.path.isdir(path) or (os.path.exists(path) and not os.path.isfile(path)):
        raise CliError("usage", f'"{path}" is not a regular file', "name a file for the report")
    check_writable(path)


def _state(path: str, kind: str) -> dict[str, object]:
    try:
        with open(path + STATE, "rb") as file:
            return read_state(file.read(STATE_MAX), kind)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CliError("unreadable", f'cannot read "{path}{STATE}": {error.strerror}') from None


def _write(path: str, page: Callable[..., str], report: LogReport | VerifyReport,
           mode: int) -> None:  # fmt: skip
    made = show_time(int(time.time()))
    write_file(path, page(report, made).encode("utf-8", "backslashreplace"), mode, force=True)
    state = json.dumps(report.state(made), indent=1) + "\n"
    write_file(path + STATE, state.encode(), mode, force=True)
