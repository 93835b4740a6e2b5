"""Calls that name another process: what keeps them off the supervisor and off other policies."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.errors import RunError
from certexec.kernel.procfs import read_status
from certexec.run import protection
from certexec.run.call import Fault, signed
from certexec.run.protection import concerns_others, concerns_supervisor, may_signal, send_signal

SUPERVISOR = os.getpid()
OTHER = 0
"""Another process: no relation, for our parent may be process 1."""


@pytest.fixture(scope="module", autouse=True)
def other() -> Iterator[None]:
    with subprocess.Popen(["sleep", "600"]) as process:
        globals()["OTHER"] = process.pid
        yield
        process.kill()


def call(name: str, *registers: int, foreign: str = "") -> Any:
    words = (*registers, *[0] * (6 - len(registers)))
    task = SimpleNamespace(tid=OTHER, tgid=OTHER, touch=lambda function, *more: function(*more))
    return SimpleNamespace(
        name=name, foreign=foreign, task=task, status=read_status(os.getpid()),
        notification=SimpleNamespace(tid=OTHER), arg=words.__getitem__,
        int_arg=lambda index: signed(words[index]), still_waits=lambda: None,
    )  # fmt: skip


def test_the_supervisor_s_own_group_is_not_signalled() -> None:
    assert concerns_supervisor(call("kill", -SUPERVISOR, 9), SUPERVISOR) == errno.EPERM
    assert concerns_supervisor(call("kill", -OTHER, 9), SUPERVISOR) == 0
    assert concerns_supervisor(call("kill", -1, 9), SUPERVISOR) == errno.EPERM


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, errno.EPERM)])
def test_a_number_of_another_numbering_is_nobody_s(
    monkeypatch: pytest.MonkeyPatch, same: bool, code: int
) -> None:
    transitions: Any = SimpleNamespace(one_policy=False, of=lambda tgid: 0)
    monkeypatch.setattr(protection.os.path, "samestat", lambda *_: same)
    assert concerns_others(call("ptrace", 16, OTHER), transitions) == code


def test_a_capability_over_another_user_namespace_signals_nobody_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caller = call("pidfd_send_signal")
    caller.status.uids = (7, 7, 7, 7)
    caller.status.tgid = OTHER
    target = read_status(os.getpid())
    target.uids = (8, 8, 8, 8)
    for capabilities, same, may in (
        (protection.CAP_KILL, True, True), (protection.CAP_KILL, False, False), (0, True, False),
    ):  # fmt: skip
        caller.status.caps = {**caller.status.caps, "eff": capabilities}
        monkeypatch.setattr(protection.os.path, "samestat", lambda *_, same=same: same)
        assert may_signal(caller, SUPERVISOR, target) == may


def test_a_signal_by_a_pidfd_goes_to_one_process_that_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pidfd = os.pidfd_open(os.getpid())
    monkeypatch.setattr(protection, "copy_descriptor", lambda *_: os.dup(pidfd))
    whole_group = 1 << 2
    with pytest.raises(Fault) as fault:
        send_signal(call("pidfd_send_signal", pidfd, 0, 0, whole_group), own_tgid=1)
    assert fault.value.code == errno.EINVAL
    with pytest.raises(RunError, match="siginfo of the 32-bit ABI"):
        send_signal(call("pidfd_send_signal", pidfd, 0, 4096, foreign="pidfd_send_signal"), 1)
    monkeypatch.setattr(protection, "_pid_of", lambda fd: protection._NOT_SEEN)
    sent: list[object] = []
    monkeypatch.setattr(protection, "syscall", lambda *words: sent.append(words))
    with pytest.raises(Fault) as fault:
        send_signal(call("pidfd_send_signal", pidfd, signal.SIGTERM), own_tgid=1)
    assert fault.value.code == errno.EPERM and not sent
    os.close(pidfd)
