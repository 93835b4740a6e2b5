"""certexec log: past events of any form, selected, as lines, JSON or a report."""

import json
import time

import pytest

from certexec.cli import event_options
from certexec.observe.json_lines import render
from certexec.observe.lines import text_line
from tests.cli.conftest import Script
from tests.observe.sample import HOSTILE, event


@pytest.fixture
def logged(script: Script) -> Script:
    now = time.time()
    events = [
        event(time=now - 90000, pid=1),
        event(time=now - 60, pid=2, user="bob", uid=1001, program="/usr/sbin/nginx"),
        event(time=now - 30, pid=3, verdict="permit", reason="rule", syscall="bind", errno=0),
        event(time=now - 10, pid=4, program=HOSTILE, arguments=[("filename", HOSTILE)]),
    ]
    script.write("json", "".join(render(one) + "\n" for one in events))
    script.write("text", "noise\n" + "".join(text_line(one) + "\n" for one in events[:2]))
    return script


def test_events_are_shown_one_a_line(logged: Script) -> None:
    logged(
        r"""
        certexec log --file json --file text
        stdout ' deny alice /usr/bin/nc\[1\] connect\(inet-\[192.0.2.1\]:80\) \(unmatched, under nc.cert\)$'
        stdout '^deny bob /usr/sbin/nginx\[2\] connect'
        ! stdout noise
        ! stderr .
        """  # noqa: E501
    )
    assert len(logged.stdout.splitlines()) == 6
    assert all(line.isprintable() for line in logged.stdout.splitlines())


def test_files_may_be_named_without_an_option(logged: Script) -> None:
    logged("certexec log --file json --file text")
    wanted = logged.stdout
    logged("certexec log json text")
    assert logged.stdout == wanted
    logged("certexec log --file json text")
    assert logged.stdout == wanted
    logged("? certexec log none\nstderr 'none'")


@pytest.mark.parametrize(
    ("options", "pids"),
    [("--since -1h", [2, 3, 4]), ("--until -1h", [1]), ("--user bob", [2]), ("--user 1000", [1, 3,
     4]), ("--program nginx --verdict deny", [2]), ("--verdict permit", [3]), ("-n 2", [3, 4]),
     ("--syscall connect -n 1", [4]), ("--certificate other", []), ("--host web1", [])],
)  # fmt: skip
def test_they_can_be_selected(logged: Script, options: str, pids: list[int]) -> None:
    logged(f"{'' if pids else '! '}certexec log --json --file json {options}")
    assert [json.loads(line)["pid"] for line in logged.stdout.splitlines()] == pids


def test_a_report_remembers_the_last_one(logged: Script) -> None:
    logged(
        """
        certexec log --file json --user bob --html report.html
        stdout '^report.html: 1 events, 1 different denials$'
        mode report.html 600
        mode report.html.state.json 600
        certexec log --file json --html report.html
        stdout '^report.html: 4 events, 3 different denials, 2 new$'
        certexec log --file json --html report.html
        stdout ', 0 new$'
        """
    )
    page = logged.path("report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "/usr/sbin/nginx" in page
    assert "<script" not in page and "http:" not in page and "https:" not in page
    logged.write("report.html.state.json", "not ours")
    logged("certexec log --file json --html report.html\n! stdout new")


@pytest.mark.parametrize("text", [HOSTILE, "\ud800", "\x1b]52;c;eA==\x07[red]"])
@pytest.mark.parametrize(
    "member", ["verdict", "user", "program", "syscall", "host", "reason", "time", "as", "pid"]
)
def test_what_others_wrote_cannot_drive_the_terminal(
    logged: Script, member: str, text: str
) -> None:
    call = {"event": "call", "verdict": "deny", "program": "/bin/x", "syscall": "open"}
    logged.write("odd", json.dumps({**call, member: text}) + "\n")
    logged("certexec log --file odd\nstdout '^.+$'\n! stderr .")
    assert logged.stdout.removesuffix("\n").isprintable()
    logged("certexec log --json odd\ncertexec log --html odd.html odd")


def test_where_there_is_no_log_it_says_so(logged: Script, monkeypatch) -> None:
    monkeypatch.setattr(event_options, "has_journal", lambda: False)
    monkeypatch.setattr(event_options, "usual_files", list)
    logged("? certexec log\nstderr 'neither a journal nor a log'\nstderr '\"--file FILE\"'")
    monkeypatch.setattr(event_options, "usual_files", lambda: [str(logged.path("json"))])
    logged("certexec log --user bob\n! stderr .")
    logged("certexec -v log --user bob\nstderr 'reading .*json'")


def test_what_cannot_be_done_is_refused(logged: Script) -> None:
    logged.path("directory").mkdir()
    logged(
        """
        ? certexec log --file missing
        stderr 'cannot read "missing": No such file'
        ? certexec log --file json --since yesterday
        ? certexec log --file json --html directory
        ? certexec log --file json --html no/such/report.html
        ! exists no
        """
    )
    assert sorted(path.name for path in logged.directory.iterdir()) == ["directory", "json", "text"]


def test_nothing_found_is_an_answer(logged: Script) -> None:
    logged("! certexec log --file json --user nobody\n! stdout .\n! stderr .")
