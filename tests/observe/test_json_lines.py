"""The same events as JSON Lines."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from certexec.observe.event import Lost, Note, Overflow
from certexec.observe.json_lines import render, string
from tests.observe.sample import HOSTILE, event

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def parsed(record: object) -> dict[str, object]:
    line = render(record)  # type: ignore[arg-type]
    assert line.isprintable(), line
    line.encode("utf-8")
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_call_has_every_member() -> None:
    assert parsed(event(time=1.5)) == {
        "schema": 1, "event": "call", "time": "1970-01-01T00:00:01.500000Z", "count": 1,
        "verdict": "deny", "reason": "unmatched", "user": "alice", "uid": 1000,
        "program": "/usr/bin/nc", "pid": 42, "ppid": 41, "certificate": "nc.cert",
        "policy": "/usr/bin/nc", "filters": 7, "emulation": "native", "syscall": "connect",
        "number": 42, "errno": 1, "arguments": {"sockaddr": "inet-[192.0.2.1]:80"},
    }  # fmt: skip


def test_a_call_without_translated_arguments_has_its_registers() -> None:
    found = parsed(event(arguments=[], raw=b"\1\2"))
    assert found["args"] == "0102" and "arguments" not in found


def test_what_the_log_says_of_itself_has_the_same_frame() -> None:
    frame = {"schema": 1, "time": "1970-01-01T00:00:02.000000Z"}
    assert parsed(Note(2.0, "a\nb")) == {**frame, "event": "note", "count": 1, "text": "a\nb"}
    assert parsed(Lost(2.0, 7, "why")) == {**frame, "event": "lost", "count": 7, "reason": "why"}
    assert parsed(Overflow(2.0, 1.0, {"deny open": 3, "permit open": 2})) == {
        **frame, "event": "overflow", "count": 5, "since": "1970-01-01T00:00:01.000000Z",
        "calls": {"deny open": 3, "permit open": 2},
    }  # fmt: skip


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_as_it_was(text: str) -> None:
    encoded = string(text)
    assert encoded.isprintable()
    assert json.loads(encoded) == text


@given(st.binary())
def test_bytes_that_are_no_text_come_back_exactly(name: bytes) -> None:
    text = os.fsdecode(name)
    found = parsed(event(program=text, arguments=[("filename", text)]))
    try:
        expected = name.decode()
    except UnicodeDecodeError:
        exact = found["bytes"]
        assert isinstance(exact, dict)
        assert bytes.fromhex(exact["program"]) == name
        assert bytes.fromhex(exact["arguments"]["filename"]) == name
    else:
        assert "bytes" not in found
        assert found["program"] == expected and found["arguments"] == {"filename": expected}


def test_a_hostile_name_is_text_in_one_line() -> None:
    found = parsed(event(arguments=[("filename", HOSTILE)]))
    arguments = found["arguments"]
    assert isinstance(arguments, dict)
    assert arguments["filename"] == HOSTILE.replace("\udcff", "\ufffd")


def test_every_member_is_documented_and_every_documented_one_exists() -> None:
    one = event(program="\udcff", elevated="root")
    one.count, one.since = 2, 1.0
    records = [one, event(arguments=[]), Note(1.0, ""), Lost(1.0, 1, ""), Overflow(1.0, 1.0, {})]
    members = {name for record in records for name in parsed(record)}
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.M))
    assert documented == members
