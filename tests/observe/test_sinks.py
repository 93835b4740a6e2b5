"""Which sinks a machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certexec.observe import sinks
from tests.observe.sample import Daemon


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without daemons, and its ordinary user."""
    for name in ("SYSLOG", "JOURNAL", "JOURNALS_SYSLOG"):
        monkeypatch.setattr(sinks, name, str(tmp_path / name))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def names() -> list[str]:
    return [type(sink).__name__ for sink in sinks.machine_sinks()]


def test_without_a_journal_events_go_to_syslog(machine: Path) -> None:
    assert names() == ["Syslog"]


def test_where_both_daemons_are_there_events_go_to_both(machine: Path) -> None:
    for name in ("SYSLOG", "JOURNAL", "JOURNALS_SYSLOG"):
        Daemon(machine / name)
    assert names() == ["Journal", "Syslog"]


def test_where_the_journal_is_the_syslog_daemon_it_gets_events_once(machine: Path) -> None:
    Daemon(machine / "JOURNAL")
    Daemon(machine / "JOURNALS_SYSLOG")
    (machine / "SYSLOG").symlink_to("JOURNALS_SYSLOG")
    assert names() == ["Journal"]


def test_root_writes_to_the_audit_log_too(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert names() == ["Syslog", "Audit"]
