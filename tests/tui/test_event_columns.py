"""What a line of the list, and the details, say of an event."""

import json

import pytest

from certexec.observe.reading import Seen, read_line
from certexec.tui.event_columns import (
    DETAILS_MAX,
    TEXT_MAX,
    about,
    cell,
    columns,
    details,
    end_of,
)
from tests.observe.sample import HOSTILE


def seen(**members: object) -> Seen:
    made = {"event": "call", "verdict": "deny", "program": "/usr/bin/nc", "user": "alice",
            "syscall": "open", "arguments": {"filename": "/etc/shadow"}}  # fmt: skip
    found = read_line(json.dumps({**made, **members}))
    assert found is not None
    return found


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 300])
@pytest.mark.parametrize("hosts", [False, True])
def test_columns_leave_room_for_what_it_was_about(width: int, hosts: bool) -> None:
    made = columns(width, hosts)
    assert made[-1] == ("about", 0)
    taken = sum(one.width + 1 for one in made)
    assert width < 40 or width - taken >= 10
    names = {one.name for one in made}
    assert {"time", "verdict", "program"} <= names
    if width >= 80:
        assert {"user", "call", "times"} <= names and ("host" in names) == hosts


def row(one: Seen, width: int = 120) -> dict[str, str]:
    return {column.name: cell(one, column) for column in columns(width, True)}


def test_a_call_says_who_and_what_and_how_many() -> None:
    shown = row(seen(count=12, host="web1"))
    assert shown["host"] == "web1" and shown["times"] == "x12" and shown["user"] == "alice"
    assert shown["about"] == "/etc/shadow" and shown["call"] == "open"
    assert row(seen())["times"] == "" and row(seen(count=10**12))["times"] == "many"


@pytest.mark.parametrize(("members", "verdict", "words"), [
    ({"event": "note", "text": "hello"}, "note", "hello"),
    ({"event": "lost", "count": 4, "reason": "full"}, "lost", "lost 4 events: full"),
    ({"event": "overflow", "count": 9, "calls": {"deny open": 9}}, "overflow", "deny open 9"),
])  # fmt: skip
def test_what_is_no_call_says_what_it_is(
    members: dict[str, object], verdict: str, words: str
) -> None:
    shown = row(seen(**members))
    assert shown["verdict"] == verdict and words in shown["about"]
    assert shown["program"] == shown["call"] == ""


def test_the_end_of_a_path_tells_programs_apart() -> None:
    assert end_of("/usr/bin/nc", 20) == "/usr/bin/nc"
    assert end_of("/a/very/long/path/nc", 10) == "nc"
    assert end_of("/usr/bin/netcat-openbsd", 10) == "..-openbsd"


def test_nothing_of_an_event_can_drive_a_terminal_or_is_without_end() -> None:
    names = ("program", "user", "syscall", "verdict", "host", "text")
    odd = seen(**dict.fromkeys(names, HOSTILE * 500),
               arguments={HOSTILE: HOSTILE * 500}, **{HOSTILE: "\ud800" * 5000})  # fmt: skip
    for text in (*row(odd).values(), *details(odd)):
        assert text.isprintable() and len(text) < 12 * max(TEXT_MAX, 2000)
        text.encode()
    many = seen(**{f"x{number}": 1 for number in range(5000)})
    assert len(details(many)) == DETAILS_MAX + 1 and details(many)[-1].endswith(" more")


def test_the_details_are_all_that_the_event_says() -> None:
    shown = details(seen(host="web1", certificate="nc.cert"))
    assert shown[0] == "host: web1"
    assert {"certificate: nc.cert", "filename: /etc/shadow", "verdict: deny"} <= set(shown)
    assert about(seen()) == "/etc/shadow"
