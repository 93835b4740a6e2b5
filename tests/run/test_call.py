"""What is read of a caller counts only while it still waits."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.kernel.procfs import read_status
from certexec.run import call as call_module
from certexec.run import supervisor as supervisor_module
from certexec.run.call import Call, GoneError
from certexec.run.steady import Steady
from certexec.run.supervisor import Supervisor

NAME = ctypes.create_string_buffer(b"/a/name")


def call(waits: bool) -> Call:
    listener: Any = SimpleNamespace(is_valid=lambda cookie: waits)
    registers = (ctypes.addressof(NAME), 0, 0, 0, 0, 0)
    steady = Steady(True, [])
    steady.rights = read_status(os.getpid())
    return Call(
        listener, Notification(1, os.getpid(), 4, 0, registers), "stat", read_status, steady
    )


def test_what_was_read_of_a_caller_that_is_gone_is_not_used() -> None:
    assert call(waits=True).path(0) == b"/a/name"
    with pytest.raises(GoneError):
        call(waits=False).path(0)


def test_the_question_can_be_put_off_until_all_is_read_but_not_forgotten() -> None:
    gone = call(waits=False)
    gone.put_off_check()
    assert gone.path(0) == b"/a/name"
    with pytest.raises(GoneError):
        gone.check()
    with pytest.raises(GoneError):
        gone.path(0)


@pytest.mark.parametrize("main", [True, False])
def test_a_process_s_number_counts_only_while_the_caller_waits(
    monkeypatch: pytest.MonkeyPatch, main: bool
) -> None:
    monkeypatch.setattr(call_module, "is_main_thread", lambda tid: main)
    assert call(waits=True).process == os.getpid()
    with pytest.raises(GoneError):
        call(waits=False).process  # noqa: B018 - it looks


def test_who_asks_for_the_process_of_a_task_knows_its_status_from_then_on() -> None:
    """Of a caller that was let go on nothing can be read, and its kill is to be logged."""
    one = call(waits=True)
    assert one.process == os.getpid() and one._status is None
    assert one.task.tgid == os.getpid() and one._status is not None


def test_whoever_looks_at_a_name_before_it_is_used_asks_first() -> None:
    looked: list[bytes] = []
    gone = call(waits=False)
    gone.look = lambda _, name: looked.append(name)
    gone.put_off_check()
    with pytest.raises(GoneError):
        gone.path(0)
    assert looked == []


def test_nothing_is_judged_of_a_caller_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    prepared: Any = SimpleNamespace(close=lambda: closed.append(True))
    monkeypatch.setitem(supervisor_module.OPERATIONS, "stat", lambda call, resolver: prepared)
    supervisor: Any = Supervisor.__new__(Supervisor)
    supervisor.home = SimpleNamespace(check=lambda call: None)
    supervisor.mask = SimpleNamespace(assume=lambda *_: None, restore=lambda: None)
    supervisor.elevation = SimpleNamespace(prepare=lambda *_: None)
    supervisor.resolver = None
    with pytest.raises(GoneError):
        supervisor._emulate(call(waits=False), judged=True, log=False)
    assert closed == [True]
