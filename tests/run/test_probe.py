"""Probes: they agree with what the kernel shows elsewhere, and leave nothing behind."""

from __future__ import annotations

import os
import time

import pytest

from certexec.kernel.filesystem import UNDENIED_RELEASES, parse_release
from certexec.run import child, probe
from tests.isolation import MUST_WORK, Machine, need

ALL = (
    probe.exec_denies_writers,
    probe.has_notification,
    probe.has_wait_killable,
    probe.has_sync_wake_up,
    probe.has_addfd_send,
    probe.landlock_abi,
    probe.can_trace_child,
    probe.can_trace_parent,
    probe.own_binfmt_in_user_namespace,
    lambda: probe.keeps_ids(no_new_privs=False),
    lambda: probe.keeps_ids(no_new_privs=True),
)


def release() -> tuple[int, int, int]:
    found = parse_release(os.uname().release)
    assert found is not None
    return found


def state() -> tuple[object, ...]:
    with open("/proc/self/status") as file:
        status = file.read()
    wanted = ("Uid:", "Gid:", "Groups:", "CapEff:", "NoNewPrivs:", "Seccomp:", "TracerPid:")
    lines = tuple(line for line in status.splitlines() if line.startswith(wanted))
    return lines, sorted(os.listdir("/proc/self/fd")), os.getcwd()


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


def test_probes_change_nothing() -> None:
    before, ours = state(), children()
    for ask in ALL:
        ask()
    assert state() == before
    assert children() <= ours


def test_exec_denies_writers_except_on_the_kernels_that_lost_it() -> None:
    lost = any(
        release()[:2] == (major, minor) and first <= release()[2] <= last
        for major, minor, first, last in UNDENIED_RELEASES
    )
    if lost:
        pytest.skip("whether this distribution carried the fix back is not known")
    assert probe.exec_denies_writers() is True


def test_a_kernel_that_runs_a_file_with_a_writer_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_on_linux_6_12_0(fd: int, argv: list[str], env: dict[str, str]) -> None:
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(os, "execve", as_on_linux_6_12_0)
    assert probe.exec_denies_writers() is False


@pytest.mark.parametrize(
    ("ask", "since"),
    [
        (probe.has_notification, (5, 0)),
        (probe.has_addfd_send, (5, 14)),
        (probe.has_wait_killable, (5, 19)),
        (probe.has_sync_wake_up, (6, 6)),
        (probe.own_binfmt_in_user_namespace, (6, 7)),
    ],
)
def test_a_feature_is_there_from_its_release_on(ask: object, since: tuple[int, int]) -> None:
    answer = ask()  # type: ignore[operator]
    if answer is None and not MUST_WORK:
        pytest.skip("cannot be tried here")
    if release()[:2] < since:
        assert answer is False
    elif ask is not probe.own_binfmt_in_user_namespace:  # which a sysctl may forbid
        assert answer is True


def test_a_child_can_be_traced_here() -> None:
    assert probe.can_trace_child() is True


def test_tracing_a_parent_is_what_yama_decides() -> None:
    scope = probe.sysctl("kernel/yama/ptrace_scope")
    assert probe.can_trace_parent() is (scope in (None, 0))


def test_a_setting_that_does_not_exist_is_none() -> None:
    assert probe.sysctl("kernel/certexec/missing") is None
    assert probe.sysctl("fs/leases-enable") in (0, 1)


def test_exec_keeps_granted_ids_without_no_new_privs() -> None:
    if os.geteuid() != 0:
        assert probe.keeps_ids(no_new_privs=False) is None
        return
    assert probe.keeps_ids(no_new_privs=False) is True
    stranger, service = probe.STRANGER, probe.SERVICE
    assert probe.ids_after_exec(stranger, service, False) == (stranger, service, service, service)
    assert probe.ids_after_exec(stranger, 0, False) == (stranger, 0, 0, 0)


def test_ids_that_a_kernel_resets_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {(probe.STRANGER, 0): 0, (probe.STRANGER, probe.SERVICE): probe.SERVICE}

    def answer(real: int, effective: int, no_new_privs: bool) -> tuple[int, int, int, int]:
        now = real if no_new_privs else kept[real, effective]
        return real, now, now, now

    monkeypatch.setattr(probe, "ids_after_exec", answer)
    assert probe.keeps_ids(no_new_privs=False) is True
    assert probe.keeps_ids(no_new_privs=True) is False


def test_where_there_is_one_id_only_the_identity_cannot_be_tried() -> None:
    need("unshare")
    machine = Machine(identity=False)
    try:
        shown = machine.python(
            "import os; from certexec.run import child, probe\n"
            "probe.STRANGER = 70000; child.ORDINARY_IDS = (70000,)\n"
            "print(probe.keeps_ids(False), child.ordinary_uid(), probe.can_trace_parent())"
        )
    finally:
        machine.stop()
    assert shown == "None None None"


def test_a_lease_is_refused_while_somebody_writes(tmp_path: object) -> None:
    path = f"{tmp_path}/file"
    with open(path, "w") as writer:
        assert probe.lease_granted(path) is False
        writer.write("x")
    assert probe.lease_granted(path) is True
    assert probe.lease_granted(f"{tmp_path}/missing") is None


def test_a_child_runs_with_the_ids_and_the_environment_it_was_given() -> None:
    os.environ["LD_PRELOAD_TEST"] = "x"
    outcome = child.run(["/usr/bin/env"])
    assert outcome.code == 0
    assert sorted(line.split(b"=")[0] for line in outcome.output.splitlines()) == [
        b"LC_ALL", b"PATH",
    ]
    uid = child.ordinary_uid()
    if uid is not None:
        shown = child.run(["/bin/cat", "/proc/self/status"], uid=uid).output.decode()
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in shown
        assert "Groups:\t \n" in shown
        assert "CapEff:\t0000000000000000" in shown


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("echo one >&2; echo two >&2; exit 3", 3, "two"),
        ("exit 4", 4, "it ended with exit code 4"),
        ("kill -9 $$", -9, "it ended with signal 9"),
    ],
)
def test_a_child_that_fails_says_why(command: str, code: int, complaint: str) -> None:
    outcome = child.run(["/bin/sh", "-c", command])
    assert (outcome.code, outcome.complaint) == (code, complaint)


def test_a_program_that_does_not_exist_is_an_outcome_too() -> None:
    outcome = child.run(["/nonexistent/program"])
    assert outcome.code == 125
    assert "No such file" in outcome.complaint


def test_a_child_that_hangs_is_killed() -> None:
    start = time.monotonic()
    outcome = child.run(["/bin/sh", "-c", "sleep 30"], limit=0.3)
    assert time.monotonic() - start < 5
    assert outcome.timed_out
    assert outcome.complaint == "it did not end in time"


def test_a_child_that_closes_its_output_and_hangs_is_killed() -> None:
    outcome = child.run(["/bin/sh", "-c", "exec >&- 2>&-; exec sleep 30"], limit=0.3)
    assert outcome.timed_out


def test_a_question_that_raises_or_dies_has_no_answer() -> None:
    assert child.ask(lambda: 1 / 0) is None
    assert child.ask(lambda: os.kill(os.getpid(), 9)) is None
    assert child.ask(lambda: "yes") == "yes"
