"""What is put off until nobody waits: it is done once, when it is quiet, or when it is late."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run import quiet
from certexec.run.quiet import QUIET, Quiet
from certexec.run.warm import RUNS, Execution


def test_it_is_done_once_when_it_is_quiet() -> None:
    done: list[str] = []
    one = Quiet(lambda: done.append("done"))
    assert one.comes() and not done
    one.now()
    one.now()
    assert done == ["done"] and not one.comes()


def test_whoever_is_never_quiet_does_not_put_it_off_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    one = Quiet(lambda: done.append("done"))
    later = quiet.time.monotonic() + quiet.LATEST
    monkeypatch.setattr(quiet.time, "monotonic", lambda: later)
    assert not one.comes() and done == ["done"]


@pytest.mark.parametrize(("other", "wait"), [(None, QUIET), (QUIET + 5, QUIET), (0, 0)])
def test_what_else_is_due_is_not_late(other: int | None, wait: int) -> None:
    assert Quiet.patience(other) == wait


def test_the_server_is_told_once_that_a_program_runs_and_may_be_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    execution: Any = Execution.__new__(Execution)
    execution.leash = theirs
    execution.known = SimpleNamespace(fresh=None, proven=None)
    execution.started(_approved(supervised=True))
    with pytest.raises(BlockingIOError):
        ours.recv(1, socket.MSG_DONTWAIT)
    execution.tell()
    execution.tell()
    assert ours.recv(9) == RUNS
    execution.started(_approved(supervised=False))
    assert ours.recv(9) == RUNS
    ours.close()
    execution.started(_approved(supervised=False))
    theirs.close()


def _approved(*, supervised: bool) -> Any:
    return SimpleNamespace(
        grant=False, compiled=SimpleNamespace(needs_listener=supervised),
        judged=SimpleNamespace(learns=False),
    )  # fmt: skip
