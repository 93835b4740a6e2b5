"""What is known of a tree's first thread before it asks for anything."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.procfs import StatusReader, read_status
from certexec.run.first_call import FirstCaller, read_ahead
from certexec.run.steady import Steady


class Recorder:
    """Home and listener of a supervisor: what they are asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def expect(self, *what: Any) -> None:
        self.asked.append(what)


def supervisor(steady: Steady, waits: bool = False) -> Any:
    asked = Recorder()
    poll = SimpleNamespace(poll=lambda patience: [(5, 1)] if waits else [])
    return SimpleNamespace(
        steady=steady, home=asked, listener=asked, statuses=StatusReader(), asked=asked.asked,
        poll=poll,
    )  # fmt: skip


def test_rights_place_and_whether_it_can_be_followed_are_found_out() -> None:
    status = read_status(os.getpid())
    made = supervisor(Steady(True, []))  # with no table the filter tells of every change
    FirstCaller(42, status).expect(made)
    assert made.steady.rights is status
    assert made.asked == [(42, made.statuses), (42,)]


def test_who_waits_already_does_not_wait_for_being_followed() -> None:
    made = supervisor(Steady(True, []), waits=True)
    FirstCaller(42, read_status(os.getpid())).expect(made)
    assert made.steady.rights is not None
    assert made.asked == [(42, made.statuses)]


def test_rights_that_may_change_unseen_are_not_taken_for_granted() -> None:
    steady = Steady(False, [])
    steady.end()
    made = supervisor(steady)
    FirstCaller(42, read_status(os.getpid())).expect(made)
    assert steady.rights is None


def test_a_status_is_read_ahead_and_that_of_nobody_is_not() -> None:
    statuses = StatusReader()
    read_ahead(statuses, os.getpid())
    assert statuses.reads_on(os.getpid())
    read_ahead(statuses, 1 << 22)  # no process has this number (pid_max)
    assert not statuses.reads_on(1 << 22)
    statuses.close()


@pytest.mark.parametrize("error", [KeyError, ValueError, OSError])
def test_what_cannot_be_read_ahead_is_left_for_later(error: type[Exception]) -> None:
    def fails(tid: int) -> None:
        raise error(tid)

    unreadable: Any = SimpleNamespace(read=fails)
    read_ahead(unreadable, 1)
