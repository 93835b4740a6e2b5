"""What a thread is given that carries out a call which may block."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run import worker as worker_module
from certexec.run.call import GoneError
from certexec.run.worker import Worker


class Caller:
    """A call that notes which thread reads its caller's status."""

    def __init__(self, waits: bool = True) -> None:
        self.readers: list[threading.Thread] = []
        self.waits = waits

    @property
    def status(self) -> None:
        self.readers.append(threading.current_thread())
        if not self.waits:
            raise GoneError


def started(call: Any, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Start a worker whose thread never runs; return what was started, with what was read by it."""
    found: list[object] = []
    fake = SimpleNamespace(
        start_new_thread=lambda run, those: found.append(list(call.readers))
    )
    monkeypatch.setattr(worker_module, "_thread", fake)
    operation: Any = SimpleNamespace(call=call)
    Worker(None, operation, False).start()  # type: ignore[arg-type]
    return found


def test_a_status_is_read_by_the_loop_whose_reader_is_for_no_other_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert started(Caller(), monkeypatch) == [[threading.current_thread()]]


def test_for_a_caller_that_is_gone_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Caller(waits=False)
    with pytest.raises(GoneError):
        started(call, monkeypatch)
    assert len(call.readers) == 1
