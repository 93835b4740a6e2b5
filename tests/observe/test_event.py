"""Events read as systrace's log lines, whatever a program puts into them."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.observe.event import (
    ARGUMENTS_MAX,
    LINE_MAX,
    TEXT_MAX,
    Lost,
    Note,
    Overflow,
    escape,
    timestamp,
)
from tests.observe.sample import HOSTILE, event


def test_the_line_is_systraces() -> None:
    assert event().line() == (
        "deny user: alice, prog: /usr/bin/nc, pid: 42(0)[41], policy: /usr/bin/nc, filters: 7, "
        "syscall: native-connect(42), sockaddr: inet-[192.0.2.1]:80"
    )


def test_calls_without_translated_arguments_show_their_registers() -> None:
    assert event(arguments=[], raw=b"\1\2").line().endswith("native-connect(42), args: 0102")


def test_the_escapes_are_systraces() -> None:
    assert escape('a"b\\c\nd\re') == 'a\\"b\\\\c\\nd\\re'
    assert escape("a, b,c") == "a\\x2c b,c"


@given(st.text())
def test_no_text_of_a_program_ends_a_line_or_drives_a_terminal(text: str) -> None:
    assert escape(text).isprintable()


@given(st.binary())
def test_bytes_that_are_no_text_stay_visible(name: bytes) -> None:
    shown = escape(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.text(), st.text(), st.text())
def test_no_text_of_a_program_looks_like_another_field(user: str, prog: str, name: str) -> None:
    line = event(user=user, program=prog, arguments=[("filename", name)]).line(1 << 20)
    fields = [field.partition(": ")[0] for field in line.split(", ")]
    assert fields == ["deny user", "prog", "pid", "policy", "filters", "syscall", "filename"]


@settings(deadline=None)
@given(
    st.text(), st.text(), st.lists(st.text(), max_size=3), st.integers(1000, 20000),
    st.integers(1, 20000),
)  # fmt: skip
def test_a_line_is_never_longer_than_its_limit_and_keeps_every_field(
    user: str, prog: str, names: list[str], limit: int, times: int
) -> None:
    arguments = [(f"filename[{index}]", name * times) for index, name in enumerate(names)]
    one = event(user=user * times, program=prog * times, arguments=arguments, raw=bytes(48))
    line = one.line(limit)
    assert len(line.encode()) <= limit
    assert line.isprintable()
    for field in ("deny user: ", ", prog: ", ", pid: 42(0)[41]", ", policy: ", "(42)"):
        assert field in line
    for name, _ in arguments:
        assert f", {name}: " in line


def test_what_was_cut_shows() -> None:
    line = event(arguments=[("filename", "x" * 20000)]).line()
    assert line.endswith("xxx...") and len(line) <= LINE_MAX


def test_an_event_keeps_a_bounded_part_of_its_arguments() -> None:
    kept = event(arguments=[(f"argv[{index}]", "x" * 9999) for index in range(2000)]).arguments
    assert len(kept) == ARGUMENTS_MAX + 1
    assert kept[-1] == ("...", f"{2000 - ARGUMENTS_MAX} more")
    assert sum(len(text) for _, text in kept) < TEXT_MAX + 1000
    assert kept[0][1].endswith("...")


def test_folded_events_say_how_many_and_how_long() -> None:
    one = event(time=3.5)
    one.count, one.since = 999, 2.5
    assert one.line().startswith("folded 999 more in 1.0 s: deny user: alice, ")


def test_events_are_alike_whichever_process_they_are_of() -> None:
    assert event().key() == event(pid=7, ppid=1, time=2.0).key()
    for change in (
        {"verdict": "permit"}, {"reason": "rule"}, {"program": "/bin/cat"}, {"number": 49},
        {"arguments": [("sockaddr", "x")]}, {"errno": 2}, {"user": "bob"}, {"emulation": "linux"},
    ):  # fmt: skip
        assert event().key() != event(**change).key(), change
    assert event(arguments=[], raw=b"1").key() == event(arguments=[], raw=b"2").key()


def test_the_log_speaks_of_itself() -> None:
    assert Note(1.0, "killed pid: 3").line() == "killed pid: 3"
    assert Note(1.0, "odd\nname").line() == "odd\\nname"
    assert Lost(1.0, 3, "No space left on device").line() == (
        "lost 3 events: No space left on device"
    )
    counts = {"deny open": 3, "deny openat": 1200}
    assert Overflow(2.0, 1.0, counts).line() == (
        "folded 1203 others in 1.0 s: deny openat 1200, deny open 3"
    )


def test_times_are_in_utc_and_to_the_microsecond() -> None:
    assert timestamp(0.0) == "1970-01-01T00:00:00.000000Z"
    assert timestamp(1795300695.25) == "2026-11-21T22:38:15.250000Z"
    assert timestamp(1.9999999) == "1970-01-01T00:00:02.000000Z"


def test_the_sample_is_hostile() -> None:
    assert not HOSTILE.isprintable() and ", " in HOSTILE
