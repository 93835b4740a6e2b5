"""What a supervisor makes of what poll says of its listener, and of callers that are gone."""

import select
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run.quiet import QUIET, Quiet
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
    supervisor.waits_to_receive = False
    supervisor.judge = SimpleNamespace(folding=SimpleNamespace(patience=lambda: None))
    supervisor.listener = SimpleNamespace(receive=lambda: None)
    supervisor.poll = SimpleNamespace(poll=lambda wait: [(3, flags)] if flags else [])
    assert supervisor.next_event()[0] == event


@pytest.mark.parametrize(
    ("waits", "blocked", "owes", "asked"),
    [
        (True, False, False, ["receive"]),
        (True, True, False, [10]),  # calls that block are looked after
        (True, False, True, [70]),  # what was folded is told in time
        (False, False, False, [70]),  # older kernels do not tell who waits there of the end
    ],
)
def test_only_who_has_nothing_else_to_do_waits_to_receive(
    waits: bool, blocked: bool, owes: bool, asked: list[object]
) -> None:
    did: list[object] = []
    supervisor: Any = Supervisor.__new__(Supervisor)
    supervisor.blocked = {1: None} if blocked else {}
    supervisor.waits_to_receive = waits
    supervisor.judge = SimpleNamespace(
        folding=SimpleNamespace(owes=owes, patience=lambda: 70)
    )
    supervisor.listener = SimpleNamespace(receive=lambda: did.append("receive") or "call")
    supervisor.poll = SimpleNamespace(poll=lambda wait: did.append(wait) or [])
    event = supervisor.next_event()
    assert did == asked
    assert event == ((NOTIFIED, "call") if asked == ["receive"] else (TICK, None))


def test_who_waited_in_vain_to_receive_asks_why() -> None:
    supervisor: Any = Supervisor.__new__(Supervisor)
    supervisor.blocked = {}
    supervisor.waits_to_receive = True
    supervisor.judge = SimpleNamespace(
        folding=SimpleNamespace(owes=False, patience=lambda: None)
    )
    supervisor.listener = SimpleNamespace(receive=lambda: None)
    supervisor.poll = SimpleNamespace(poll=lambda wait: [(3, select.POLLHUP)])
    assert supervisor.next_event() == (ENDED, None)


@pytest.mark.parametrize(("ready", "told"), [([], True), ([(3, select.POLLIN)], False)])
def test_what_is_put_off_is_done_when_nobody_calls(
    ready: list[tuple[int, int]], told: bool
) -> None:
    did: list[object] = []
    supervisor: Any = Supervisor.__new__(Supervisor)
    supervisor.blocked = {}
    supervisor.waits_to_receive = True
    supervisor.quiet = Quiet(lambda: did.append("told"))
    supervisor.judge = SimpleNamespace(
        folding=SimpleNamespace(owes=False, patience=lambda: None)
    )
    supervisor.listener = SimpleNamespace(receive=lambda: did.append("receive"))
    supervisor.poll = SimpleNamespace(poll=lambda wait: did.append(wait) or ready)
    supervisor.next_event()
    assert did == [QUIET, "told" if told else "receive"]
