"""Logs are read to their end, and followed through rotation."""

from __future__ import annotations

import errno
import grp
import gzip
import os
import pwd
import sys
from pathlib import Path

import pytest

from certexec.errors import RunError
from certexec.observe import sources
from certexec.observe.json_lines import render
from certexec.observe.lines import text_line
from certexec.observe.sources import Tail, follow, past
from tests.observe.sample import event


def line(pid: int) -> str:
    return render(event(pid=pid)) + "\n"


def pids(events) -> list[object]:
    return [seen.members["pid"] for seen in events if seen is not None]


def test_files_are_read_to_their_end_whatever_their_form(tmp_path: Path) -> None:
    mixed = tmp_path / "log"
    mixed.write_bytes(
        line(1).encode() + b"\xff\xfe other\n" + text_line(event(pid=2)).encode() + b"\n"
        + b"x" * 3_000_000 + b"\n" + line(3).encode().rstrip()
    )  # fmt: skip
    (tmp_path / "old.gz").write_bytes(gzip.compress(line(4).encode()))
    assert pids(past([str(mixed), str(tmp_path / "old.gz")], False)) == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["missing", "directory", "broken.gz"])
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "broken.gz").write_bytes(b"no")
    with pytest.raises(RunError) as caught:
        list(past([str(tmp_path / name)], False))
    assert caught.value.reason == "unreadable"


def test_who_may_read_a_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "auth.log"
    log.write_text("")
    log.chmod(0o640)
    adm = grp.getgrnam("adm")
    if os.geteuid() == 0:
        os.chown(log, 0, adm.gr_gid)
    wanted = grp.getgrgid(log.stat().st_gid).gr_name

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("certexec.observe.sources._open", refuse)
    with pytest.raises(RunError) as caught:
        list(past([str(log)], False))
    assert caught.value.hint.startswith(f'members of the group "{wanted}" may, or root')
    log.chmod(0o600)
    with pytest.raises(RunError) as caught:
        list(past([str(log)], False))
    owner = pwd.getpwuid(log.stat().st_uid).pw_name
    assert caught.value.hint.startswith(f'its owner "{owner}" may')


def test_a_followed_file_is_read_from_its_end_on_and_through_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1))
    tail = Tail(str(path))
    assert tail.lines() == []
    with path.open("a") as file:
        file.write(line(2) + line(3)[:20])
        file.flush()
        assert len(tail.lines()) == 1
        file.write(line(3)[20:])
        file.flush()
        assert tail.lines() == [line(3).rstrip().encode()]
        path.rename(tmp_path / "log.1")
        assert tail.lines() == []
        path.write_text(line(4))
        file.write(line(5))
    assert [len(tail.lines()) for _ in range(2)] == [1, 1], "the old one to its end, then the new"
    path.write_text("")
    assert tail.lines() == []
    path.write_text(line(6))
    assert tail.lines() == [line(6).rstrip().encode()]
    tail.close()


def test_following_ends_with_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, (line(1) + line(2) + line(3).rstrip()).encode())
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert pids(follow(["-"], False)) == [1, 2, 3]


JOURNALCTL = """#!/bin/sh
echo "$@" >> {log}
echo '{entry}'
"""


def test_the_journal_is_asked_for_certexec_s_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = (
        '{"_HOSTNAME": "h", "CERTEXEC_EVENT": "call", "CERTEXEC_PID": "7", "CERTEXEC_VERDICT": '
        '"deny", "CERTEXEC_TIME": ["1970-01-01T00:00:09Z", "x"]}'
    )
    fake = tmp_path / "journalctl"
    fake.write_text(JOURNALCTL.format(log=tmp_path / "asked", entry=entry))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    [seen] = past([], True, since=60.0)
    assert (seen.members["pid"], seen.host, seen.time) == (7, "h", 9.0)
    assert pids(follow([], True)) == [7]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "SYSLOG_IDENTIFIER=certexec" in asked[0] and "--since=@60" in asked[0]
    assert " -f " in f" {asked[1]} " and "SYSLOG_IDENTIFIER=certexec" in asked[1]


def test_this_machine_s_log_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = (str(tmp_path / "auth.log"), str(tmp_path / "syslog"))
    monkeypatch.setattr(sources, "LOGS", logs)
    monkeypatch.setattr(sources, "AUDIT_LOG", str(tmp_path / "audit.log"))
    assert sources.usual_files() == []
    (tmp_path / "audit.log").write_text("")
    assert sources.usual_files() == [str(tmp_path / "audit.log")]
    (tmp_path / "syslog").write_text("")
    assert sources.usual_files() == [logs[1]]
    monkeypatch.setattr(sources, "JOURNAL", str(tmp_path / "none"))
    assert not sources.has_journal()
