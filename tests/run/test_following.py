"""Whom a supervisor follows, where to, and when it stops; the scheduler's part is played here."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel import scheduling
from certexec.kernel.notify import Listener, Notification
from certexec.run import following
from certexec.run.following import LEASE, PATIENCE, STALL, STREAK, FollowingListener

OPENAT, EXECVE = 257, 59
EVERYWHERE = {0, 1, 2, 3}
NICE = 1 << 23


class Machine:
    """The scheduler, the clock and the kernel's end of the listener.

    Attributes:
        affinity: of this thread and of the callers; policy: of this thread.
        at_work: (affinity, policy) of this thread at each hand-over.
        takes: seconds of a hand-over; running: tasks that can run; refuses: what fails.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.affinity: dict[int, set[int]] = {0: set(EVERYWHERE)}
        self.policy = os.SCHED_OTHER
        self.at_work: list[tuple[set[int], int]] = []
        self.asleep: list[set[int]] = []
        self.now = 100.0
        self.takes = STALL / 100
        self.running = 1
        self.processor = 2
        self.limit = True
        self.capabilities = 0
        self.calls: list[tuple[int, int]] = []
        self.refuses: set[str] = set()
        self.thread = 1
        for name in ("sched_getaffinity", "sched_setaffinity", "sched_setscheduler"):
            monkeypatch.setattr(os, name, getattr(self, name))
        monkeypatch.setattr(os, "sched_getscheduler", lambda pid: self.policy)
        monkeypatch.setattr(following, "processor", lambda: self.processor)
        monkeypatch.setattr(following, "runnable", lambda: self.running)
        monkeypatch.setattr(following, "may_leave_idle_class", lambda: self.limit)
        monkeypatch.setattr(following, "own_capabilities", lambda: (self.capabilities, 0, 0))
        monkeypatch.setattr(following, "monotonic", lambda: self.now)
        monkeypatch.setattr(following, "get_ident", lambda: self.thread)
        monkeypatch.setattr(Listener, "wake_synchronously", lambda one: "sync" not in self.refuses)
        monkeypatch.setattr(Listener, "receive", self.receive)
        monkeypatch.setattr(Listener, "install_fd", self.install_fd)

    def fail(self, name: str) -> None:
        if name in self.refuses:
            raise OSError(errno.EPERM, name)

    def sched_getaffinity(self, tid: int) -> set[int]:
        return set(self.affinity.get(tid, EVERYWHERE))

    def sched_setaffinity(self, tid: int, processors: Any) -> None:
        self.fail("affinity")
        assert tid == 0, "nobody else's affinity is the supervisor's business"
        self.affinity[0] = set(processors)

    def sched_setscheduler(self, tid: int, policy: int, parameters: Any) -> None:
        self.fail("class" if policy == os.SCHED_IDLE else "way back")
        assert tid == 0
        self.policy = policy

    def receive(self) -> Notification | None:
        self.asleep.append(set(self.affinity[0]))
        tid, nr = self.calls.pop(0)
        return Notification(1, tid, nr, 0, (0,) * 6)

    def install_fd(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        self.at_work.append((set(self.affinity[0]), self.policy))
        self.now += self.takes
        self.fail("descriptor")
        return 3


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def listener_of(changed: bool = False) -> FollowingListener:
    mask: Any = SimpleNamespace(changed=changed)
    listener = FollowingListener(-1, mask)
    listener.wake_synchronously()
    return listener


def opens(listener: FollowingListener, machine: Machine, tid: int, count: int = 1) -> None:
    """Let a thread open some files."""
    for _ in range(count):
        machine.calls.append((tid, OPENAT))
        listener.receive()
        listener.install_fd(1, 5, True)


BESIDE = ({2}, os.SCHED_IDLE)
FREE = (EVERYWHERE, os.SCHED_OTHER)


def test_a_thread_that_calls_again_and_again_is_followed_where_it_has_woken_us(
    machine: Machine,
) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 3)
    assert machine.at_work == [FREE] * STREAK + [BESIDE] * 3
    assert machine.policy == os.SCHED_OTHER  # only while a descriptor is handed over
    listener.end()
    assert machine.affinity[0] == EVERYWHERE


def test_callers_that_take_turns_are_not_drawn_to_one_processor(machine: Machine) -> None:
    listener = listener_of()
    for _ in range(STREAK + 3):
        opens(listener, machine, 42, STREAK)
        opens(listener, machine, 43, STREAK)
    assert set(map(str, machine.at_work)) == {str(FREE)}


def test_another_caller_ends_it(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    opens(listener, machine, 43)
    assert machine.at_work[-2:] == [BESIDE, FREE]


def test_an_execution_ends_it_because_judging_one_may_start_a_thread(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    machine.calls.append((42, EXECVE))
    listener.receive()
    assert machine.affinity[0] == EVERYWHERE


def test_from_time_to_time_it_sleeps_free_to_be_woken_elsewhere(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    machine.now += LEASE
    machine.processor = 3
    opens(listener, machine, 42, 2)
    assert machine.asleep[-2:] == [EVERYWHERE, {3}]
    assert machine.at_work[-1] == ({3}, os.SCHED_IDLE)


def test_a_program_on_one_processor_needs_nobody_to_give_way(machine: Machine) -> None:
    machine.limit = False
    machine.affinity[42] = {2}
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    assert machine.at_work[-1] == ({2}, os.SCHED_OTHER)
    machine.affinity[42] = {1}  # and elsewhere it is not waited for
    machine.now += LEASE
    opens(listener, machine, 42)
    assert machine.at_work[-1] == FREE


@pytest.mark.parametrize("running", [4, 5])
def test_where_there_is_no_processor_for_each_nobody_is_followed(
    machine: Machine, running: int
) -> None:
    machine.running = running
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 2)
    assert machine.at_work[-1] == FREE
    machine.running = 3
    opens(listener, machine, 42)
    assert machine.at_work[-1] == FREE  # it is not asked at each call
    machine.now += LEASE
    opens(listener, machine, 42)
    assert machine.at_work[-1] == BESIDE


def test_a_call_that_had_to_wait_ends_it_for_a_multiple_of_that_time(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK)
    machine.takes = 3 * STALL
    opens(listener, machine, 42)
    assert (machine.at_work[-1], machine.affinity[0]) == (BESIDE, EVERYWHERE)
    machine.takes = 0
    machine.now += PATIENCE * 2 * STALL
    opens(listener, machine, 42)
    assert machine.at_work[-1] == FREE
    machine.now += PATIENCE * STALL
    opens(listener, machine, 42)
    assert machine.at_work[-1] == BESIDE


@pytest.mark.parametrize(
    ("limit", "capabilities", "changed", "follows"),
    [
        (True, 0, True, True),
        (False, NICE, False, True),
        (False, NICE, True, False),  # with the program's rights there would be no way back
        (False, 0, False, False),
    ],
)
def test_only_who_can_come_back_becomes_idle(
    machine: Machine, limit: bool, capabilities: int, changed: bool, follows: bool
) -> None:
    machine.limit, machine.capabilities = limit, capabilities
    opens(listener_of(changed), machine, 42, STREAK + 1)
    assert machine.at_work[-1] == (BESIDE if follows else FREE)


def test_rights_that_are_taken_meanwhile_count(machine: Machine) -> None:
    machine.limit, machine.capabilities = False, NICE
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    listener.mask.changed = True
    opens(listener, machine, 42)
    assert machine.at_work[-1] == ({2}, os.SCHED_OTHER)


@pytest.mark.parametrize(
    ("refused", "last"),
    [
        ("sync", FREE), ("affinity", FREE), ("class", ({2}, os.SCHED_OTHER)), ("", BESIDE),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_nobodys_failure(
    machine: Machine, refused: str, last: tuple[set[int], int]
) -> None:
    machine.refuses.add(refused)
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    assert machine.at_work[-1] == last
    listener.end()


def test_a_supervisor_with_a_class_of_its_own_keeps_it(machine: Machine) -> None:
    machine.policy = os.SCHED_BATCH
    opens(listener_of(), machine, 42, STREAK + 1)
    assert machine.at_work[-1] == (EVERYWHERE, os.SCHED_BATCH)


def test_without_a_way_back_it_is_not_tried_again(machine: Machine) -> None:
    machine.refuses.add("way back")
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    machine.policy = os.SCHED_OTHER
    opens(listener, machine, 42, STREAK + 1)
    assert machine.policy == os.SCHED_OTHER


def test_a_descriptor_that_cannot_be_had_is_told_and_leaves_nobody_idle(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK)
    machine.refuses.add("descriptor")
    with pytest.raises(OSError):
        opens(listener, machine, 42)
    assert (machine.at_work[-1], machine.policy) == (BESIDE, os.SCHED_OTHER)


def test_where_an_administrator_has_put_us_we_stay(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    machine.affinity[0] = {0, 1}
    listener.let_go()
    assert machine.affinity[0] == {0, 1}


def test_a_worker_hands_over_as_ever(machine: Machine) -> None:
    listener = listener_of()
    opens(listener, machine, 42, STREAK + 1)
    machine.thread = 2
    listener.install_fd(1, 5, True)
    assert machine.at_work[-1][1] == os.SCHED_OTHER


def test_callers_without_a_number_may_be_several(machine: Machine) -> None:
    opens(listener_of(), machine, 0, STREAK + 1)
    assert machine.at_work[-1] == FREE


def test_the_kernel_says_where_this_thread_runs_and_how_many_can() -> None:
    assert scheduling.processor() in range(os.cpu_count() or 1)
    assert scheduling.runnable() >= 1


def test_the_limit_goes_no_further_than_the_nice_value_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = [(0, 0)]

    def change(kind: int, pair: tuple[int, int]) -> None:
        assert kind == scheduling.resource.RLIMIT_NICE
        limits.append(pair)

    monkeypatch.setattr(scheduling.resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(scheduling.resource, "setrlimit", change)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 5)
    assert scheduling.may_leave_idle_class()
    assert limits[1:] == [(15, 15)]
    assert scheduling.may_leave_idle_class()  # once is enough
    assert limits[1:] == [(15, 15)]


def test_without_the_right_to_raise_limits_there_is_no_way_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(kind: int, pair: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(scheduling.resource, "getrlimit", lambda kind: (0, 0))
    monkeypatch.setattr(scheduling.resource, "setrlimit", refuse)
    assert not scheduling.may_leave_idle_class()
