"""Events read as systrace's log lines, whatever a program puts into them."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from certexec.observe.event import Event, escape
from certexec.observe.lines import Lines


def event(**changes: object) -> Event:
    facts: dict[str, object] = {
        "time": 1.0, "verdict": "deny", "reason": "unmatched", "user": "alice",
        "program": "/usr/bin/nc", "pid": 42, "ppid": 41, "policy": "/usr/bin/nc", "filters": 7,
        "emulation": "native", "syscall": "connect", "number": 42,
        "arguments": [("sockaddr", "inet-[192.0.2.1]:80")], "raw": bytes(4), "errno": 1,
        "certificate": "nc.cert",
    }  # fmt: skip
    return Event(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_line_is_systraces() -> None:
    assert event().line() == (
        "deny user: alice, prog: /usr/bin/nc, pid: 42(0)[41], policy: /usr/bin/nc, filters: 7, "
        "syscall: native-connect(42), sockaddr: inet-[192.0.2.1]:80"
    )


def test_calls_without_translated_arguments_show_their_registers() -> None:
    assert event(arguments=[], raw=b"\1\2").line().endswith("native-connect(42), args: 0102")


@given(st.text())
def test_no_text_of_a_program_ends_a_line_or_drives_a_terminal(text: str) -> None:
    assert escape(text).isprintable()


@given(st.binary())
def test_bytes_that_are_no_text_stay_visible(name: bytes) -> None:
    shown = escape(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")


def test_a_file_gets_one_line_per_event() -> None:
    reader, writer = os.pipe()
    Lines(writer).write(event(program="/tmp/a\nb"))
    Lines(writer).note("that was all")
    os.close(writer)
    with os.fdopen(reader) as file:
        lines = file.read().splitlines()
    assert len(lines) == 2 and "/tmp/a\\nb" in lines[0]


def test_a_full_log_changes_nothing_for_the_program() -> None:
    Lines(os.open("/dev/full", os.O_WRONLY)).write(event())
