"""What a supervisor makes of what poll says of its listener."""

import select
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run.supervisor import ENDED, NOTIFIED, TICK, Supervisor


@pytest.mark.parametrize(
    ("flags", "event"),
    [
        (select.POLLIN, NOTIFIED),
        (select.POLLIN | select.POLLHUP, NOTIFIED),
        (select.POLLHUP, ENDED),
        (select.POLLERR, TICK),  # a signal broke the look off: the tree lives on
        (0, TICK),
    ],
)
def test_only_a_hangup_ends_a_supervisor(flags: int, event: str) -> None:
    supervisor: Any = Supervisor.__new__(Supervisor)
    supervisor.blocked = {}
    supervisor.judge = SimpleNamespace(folding=SimpleNamespace(patience=lambda: None))
    supervisor.listener = SimpleNamespace(receive=lambda: None)
    supervisor.poll = SimpleNamespace(poll=lambda wait: [(3, flags)] if flags else [])
    assert supervisor.next_event()[0] == event
