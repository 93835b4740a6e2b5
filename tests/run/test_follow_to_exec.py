"""From the plan to the exec stop: the listener and the launcher's stops come in any order."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel import ptrace
from certexec.kernel.ptrace import Event
from certexec.run import server
from certexec.run.channel import Channel

PID = 1234
STOP = Event(PID, ptrace.EXEC_STOP, 0, 0)
END = Event(PID, ptrace.ENDED, 0, 0)


def execution(
    monkeypatch: pytest.MonkeyPatch, listener: bool, events: list[Event | None]
) -> tuple[Any, socket.socket]:
    """An execution whose launcher does all of this, and the launcher's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made: Any = server._Execution.__new__(server._Execution)
    made.approved = SimpleNamespace(compiled=SimpleNamespace(needs_listener=listener))
    made.channel, made.invoker = Channel(ours.detach()), SimpleNamespace(pid=PID)
    made.children, told = os.pipe()
    made.listener = -1
    made._judge_stopped = lambda: True
    os.write(told, b"x")

    def wait(pid: int, block: bool) -> Event | None:
        assert pid == PID and (events or not block), "waits for what never comes"
        return events.pop(0) if events else None

    monkeypatch.setattr(server.ptrace, "wait", wait)
    return made, theirs


def send_listener(to: socket.socket) -> None:
    socket.send_fds(to, [b"L"], [0])


def test_it_goes_on_with_a_listener_at_the_exec_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    made, launcher = execution(monkeypatch, True, [STOP])
    send_listener(launcher)
    assert made._follow_to_exec() and made.listener >= 0


def test_without_a_listener_to_come_only_the_stop_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = execution(monkeypatch, False, [STOP])
    assert made._follow_to_exec() and made.listener == -1


@pytest.mark.parametrize("events", [[None, END], [END], [STOP, END]])
def test_a_launcher_that_hands_over_no_listener_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, events: list[Event | None]
) -> None:
    made, launcher = execution(monkeypatch, True, events)
    launcher.close()
    assert not made._follow_to_exec()


@pytest.mark.parametrize("listener", [True, False])
def test_nobody_left_to_wait_for_is_the_end(
    monkeypatch: pytest.MonkeyPatch, listener: bool
) -> None:
    made, launcher = execution(monkeypatch, listener, [None, None, None])
    launcher.close()
    assert not made._follow_to_exec()
