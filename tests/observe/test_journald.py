"""The event in the journal's native protocol, played by a socket."""

from __future__ import annotations

from pathlib import Path

from certexec.observe.event import Event, Lost, Note, Overflow, Record
from certexec.observe.journald import DENIED, OTHER, PERMITTED, Journal, field_name
from tests.observe.sample import HOSTILE, Daemon, event


def sent(tmp_path: Path, record: Record) -> dict[str, str]:
    daemon = Daemon(tmp_path / "socket")
    log = Journal(str(tmp_path / "socket"))
    log.write(record)
    (datagram,) = daemon.take()
    daemon.close()
    (tmp_path / "socket").unlink()
    assert not log.lost and datagram.endswith("\n")
    fields = [line.partition("=") for line in datagram[:-1].split("\n")]
    assert all(sign for _, sign, _ in fields), datagram
    assert len({name for name, _, _ in fields}) == len(fields)
    return {name: value for name, _, value in fields}


def test_a_call_has_its_line_and_its_fields(tmp_path: Path) -> None:
    fields = sent(tmp_path, event())
    assert fields["MESSAGE"] == event().line()
    assert fields.pop("SYSLOG_PID").isdigit()
    assert {name: fields[name] for name in fields if name != "MESSAGE"} == {
        "MESSAGE_ID": DENIED, "PRIORITY": "4", "SYSLOG_FACILITY": "10",
        "SYSLOG_IDENTIFIER": "certexec", "CERTEXEC_SCHEMA": "1", "CERTEXEC_EVENT": "call",
        "CERTEXEC_TIME": "1970-01-01T00:00:01.000000Z", "CERTEXEC_COUNT": "1",
        "CERTEXEC_VERDICT": "deny", "CERTEXEC_REASON": "unmatched", "CERTEXEC_USER": "alice",
        "CERTEXEC_UID": "1000", "CERTEXEC_PROGRAM": "/usr/bin/nc", "CERTEXEC_PID": "42",
        "CERTEXEC_PPID": "41", "CERTEXEC_CERTIFICATE": "nc.cert",
        "CERTEXEC_POLICY": "/usr/bin/nc", "CERTEXEC_FILTERS": "7", "CERTEXEC_EMULATION": "native",
        "CERTEXEC_SYSCALL": "connect", "CERTEXEC_NUMBER": "42", "CERTEXEC_ERRNO": "1",
        "CERTEXEC_ARG_SOCKADDR": "inet-[192.0.2.1]:80",
    }  # fmt: skip


def test_nothing_that_a_program_chooses_becomes_a_field(tmp_path: Path) -> None:
    fields = sent(tmp_path, event(program=HOSTILE, arguments=[("filename", HOSTILE)]))
    assert fields["PRIORITY"] == "4"
    assert all(value.isprintable() for value in fields.values())
    assert "\\x1b[31m" in fields["CERTEXEC_ARG_FILENAME"]
    assert "\\xff" in fields["CERTEXEC_PROGRAM"]
    fields = sent(tmp_path, Note(1.0, HOSTILE))
    assert fields["PRIORITY"] == "4"


def test_kinds_are_found_by_their_message_id(tmp_path: Path) -> None:
    records = (
        (event(), DENIED), (event(verdict="permit"), PERMITTED), (Note(1.0, "words"), OTHER),
        (Lost(1.0, 2, "why"), OTHER), (Overflow(2.0, 1.0, {"deny openat": 7}), OTHER),
    )  # fmt: skip
    for record, expected in records:
        fields = sent(tmp_path, record)
        assert fields["MESSAGE_ID"] == expected
    assert fields["CERTEXEC_CALLS_DENY_OPENAT"] == "7"
    assert fields["CERTEXEC_COUNT"] == "7"


def test_the_names_of_fields_are_plain(tmp_path: Path) -> None:
    assert field_name("arg", "filename[1]") == "CERTEXEC_ARG_FILENAME_1"
    assert field_name("arg", "...") == "CERTEXEC_ARG"
    assert field_name("calls", "deny #99999") == "CERTEXEC_CALLS_DENY__99999"


def test_the_largest_event_fits_a_datagram(tmp_path: Path) -> None:
    huge = "\U0010fffe" * 9999
    arguments = [(f"argv[{index}]", huge) for index in range(999)]
    largest = event(program=huge, user=huge, policy=huge, certificate=huge, arguments=arguments)
    assert isinstance(largest, Event)
    fields = sent(tmp_path, largest)
    assert fields["CERTEXEC_PROGRAM"].endswith("...")
