"""The findings of doctor: each bad answer of the machine becomes the right word."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import pytest

from certexec.kernel import binfmt
from certexec.run import checkup, handler, probe
from certexec.run.checkup import FAIL, OK, WARN, Finding
from certexec.run.layout import SYSTEM, Layout


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def answer(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(probe, name, lambda *arguments, **named: value)


@pytest.mark.parametrize(
    ("name", "row", "value", "status"),
    [
        ("exec_denies_writers", "kernel", True, OK),
        ("exec_denies_writers", "kernel", False, WARN),
        ("exec_denies_writers", "kernel", None, WARN),
        ("has_notification", "seccomp notify", False, FAIL),
        ("has_wait_killable", "wait killable", False, FAIL),
        ("has_addfd_send", "addfd send", False, FAIL),
        ("has_addfd_send", "addfd send", None, WARN),
        ("has_sync_wake_up", "sync wake-up", False, WARN),
        ("landlock_abi", "landlock", 0, WARN),
        ("landlock_abi", "landlock", 7, OK),
    ],
)
def test_what_the_kernel_lacks(
    monkeypatch: pytest.MonkeyPatch, name: str, row: str, value: object, status: str
) -> None:
    answer(monkeypatch, name, value)
    assert by_name(checkup.check_kernel())[row].status == status


@pytest.mark.parametrize(
    ("scope", "child", "parent", "status"),
    [
        (None, True, True, OK),
        (0, True, True, OK),
        (1, True, False, WARN),
        (2, True, False, WARN),
        (3, True, False, FAIL),
    ],
)
def test_what_yama_forbids(
    monkeypatch: pytest.MonkeyPatch, scope: int | None, child: bool, parent: bool, status: str
) -> None:
    answer(monkeypatch, "sysctl", scope)
    answer(monkeypatch, "can_trace_child", child)
    answer(monkeypatch, "can_trace_parent", parent)
    finding = by_name(checkup.check_tracing())["ptrace scope"]
    assert finding.status == status
    if status == WARN:
        assert finding.hint == "sysctl kernel.yama.ptrace_scope=0"


def test_a_machine_where_nothing_can_be_traced_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "can_trace_child", False)
    assert by_name(checkup.check_tracing())["ptrace"].status == FAIL


@pytest.mark.parametrize(
    ("kept", "status"), [(True, OK), (False, FAIL), (None, WARN)]
)
def test_a_kernel_that_takes_identities_away_fails(
    monkeypatch: pytest.MonkeyPatch, kept: bool | None, status: str
) -> None:
    answer(monkeypatch, "keeps_ids", kept)
    findings = by_name(checkup.check_identity())
    assert findings["identity"].status == status
    if kept is not None:
        assert findings["no_new_privs"].status == OK


@pytest.mark.parametrize(("value", "status"), [(0, OK), (1, WARN), (2, OK)])
def test_programs_with_a_grant_must_not_be_dumpable(
    monkeypatch: pytest.MonkeyPatch, value: int, status: str
) -> None:
    answer(monkeypatch, "sysctl", value)
    assert by_name(checkup.check_identity())["suid_dumpable"].status == status


@pytest.mark.parametrize(("value", "status"), [(None, OK), (0, OK), (1, OK), (2, WARN)])
def test_sealed_copies_must_be_executable(
    monkeypatch: pytest.MonkeyPatch, value: int | None, status: str
) -> None:
    answer(monkeypatch, "sysctl", value)
    assert by_name(checkup.check_memory_files(SYSTEM))["memfd_noexec"].status == status


def test_leases_that_are_switched_off_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "sysctl", 0)
    assert by_name(checkup.check_memory_files(SYSTEM))["leases"].status == WARN


def test_a_clock_before_the_first_release_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert by_name(checkup.check_surroundings())["clock"].status == FAIL
    monkeypatch.undo()
    assert by_name(checkup.check_surroundings())["clock"].status == OK


def test_too_few_open_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.resource, "getrlimit", lambda which: (3, 3))
    assert by_name(checkup.check_surroundings())["open files"].status == WARN


def test_places_are_grouped_by_what_they_promise() -> None:
    findings = list(checkup.check_places(["/usr/bin", "/bin", "/nonexistent", "/proc"]))
    assert [finding.value for finding in findings if finding.name == "on proc"] == ["/proc"]
    bins = next(finding for finding in findings if "/usr/bin" in finding.value)
    assert bins.value == "/usr/bin" or "/bin" in bins.value.split()
    assert "exec-stop" in bins.meaning or "sealed" in bins.meaning
    proc = by_name(findings)["on proc"]
    assert proc.status == (WARN if os.statvfs("/proc").f_flag & os.ST_NOSUID else OK)
    assert "sealed" in proc.meaning


@pytest.mark.parametrize(
    ("flag", "word"), [(os.ST_NOSUID, "nosuid"), (os.ST_NOEXEC, "noexec")]
)
def test_a_mount_that_takes_something_away_is_reported(
    monkeypatch: pytest.MonkeyPatch, flag: int, word: str
) -> None:
    class Flags:
        f_flag = flag

    monkeypatch.setattr(os, "fstatvfs", lambda fd: Flags)
    finding = next(iter(checkup.check_places(["/usr/bin"])))
    assert finding.status == WARN
    assert word in finding.meaning


def registered(monkeypatch: pytest.MonkeyPatch, fresh: bool | None, **changes: object) -> None:
    entry = binfmt.Entry("certexec", b"enabled\n")
    wanted: dict[str, object] = {
        "interpreter": SYSTEM.launcher, "flags": "POCF", "magic": binfmt.MAGIC,
    }
    for name, value in {**wanted, **changes}.items():
        setattr(entry, name, value)
    monkeypatch.setattr(binfmt, "mounted", lambda: True)
    monkeypatch.setattr(binfmt, "switched_on", lambda: True)
    monkeypatch.setattr(binfmt, "read_entry", lambda: entry)
    monkeypatch.setattr(binfmt, "conflicts", list)
    monkeypatch.setattr(handler, "is_fresh", lambda layout: fresh)


@pytest.mark.parametrize(("fresh", "status"), [(True, OK), (None, WARN), (False, FAIL)])
def test_the_handler_must_start_the_installed_launcher(
    monkeypatch: pytest.MonkeyPatch, fresh: bool | None, status: str
) -> None:
    registered(monkeypatch, fresh)
    assert by_name(checkup.check_handler(SYSTEM))["handler"].status == status


@pytest.mark.parametrize(
    "change", [{"flags": "OF"}, {"enabled": False}, {"interpreter": "/x"}, {"magic": b"x"}]
)
def test_a_handler_that_is_not_ours_fails(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    registered(monkeypatch, True, **change)
    assert by_name(checkup.check_handler(SYSTEM))["handler"].status == FAIL


def test_a_switched_off_binfmt_misc_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, True)
    monkeypatch.setattr(binfmt, "switched_on", lambda: False)
    assert by_name(checkup.check_handler(SYSTEM))["binfmt_misc"].status == FAIL


def test_without_an_installation_everything_of_it_fails(tmp_path: object) -> None:
    layout = Layout(f"{tmp_path}/libexec", f"{tmp_path}/etc", ())
    assert checkup.check_launcher(layout).status == FAIL
    assert [one.status for one in checkup.check_server(layout, None, "")] == [FAIL]
    assert checkup.check_trust_store(layout).status == FAIL


def test_the_main_job_works_unless_something_fails() -> None:
    good, odd, bad = (Finding("x", status, "", "") for status in (OK, WARN, FAIL))
    assert checkup.works([good, odd])
    assert not checkup.works([good, bad])
