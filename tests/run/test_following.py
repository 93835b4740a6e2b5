"""Whom a supervisor follows, and how it is back in its place before anybody has an answer.

The scheduler's part is played here, but in the last tests: there the kernel decides.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Listener, Notification
from certexec.run import following
from certexec.run.following import LEASE, PATIENCE, STREAK, FollowingListener
from tests.isolation import PROJECT, Machine

OPENAT = 257
EVERYWHERE = {0, 1, 2, 3}
USUAL = 100e-6
"""seconds that a hand-over takes for which nothing was done."""


class Scheduler:
    """The scheduler, the clock and the kernel's end of the listener.

    Attributes:
        affinity: of this thread (0) and of the callers; policy: of this thread.
        at_work: (affinity, policy) of this thread at each hand-over; waiting: at each wait for a
            call; asked: how often rights were tried.
        takes: seconds of a hand-over; running: tasks that can run; refuses: what fails; during:
            what happens while a descriptor is handed over.
        limit, rights: what lets it leave the idle class; raises: it may raise the limit.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.affinity: dict[int, set[int]] = {0: set(EVERYWHERE)}
        self.policy = os.SCHED_OTHER
        self.at_work: list[tuple[set[int], int]] = []
        self.waiting: list[tuple[set[int], int]] = []
        self.now = 100.0
        self.takes = USUAL
        self.running = 1
        self.processor = 2
        self.limit, self.rights, self.raises, self.asked = True, False, False, 0
        self.calls: list[int] = []
        self.refuses: set[str] = set()
        self.during: Any = lambda: None
        self.thread = 1
        self.told: list[str] = []
        for name in ("sched_getaffinity", "sched_setaffinity"):
            monkeypatch.setattr(os, name, getattr(self, name))
        for name in (
            "enter_idle_class", "leave_idle_class", "limit_lets_leave", "raise_limit",
            "rights_let_leave",
        ):  # fmt: skip
            monkeypatch.setattr(following, name, getattr(self, name))
        monkeypatch.setattr(following, "processor", lambda: self.processor)
        monkeypatch.setattr(following, "runnable", lambda: self.running)
        monkeypatch.setattr(following, "monotonic", lambda: self.now)
        monkeypatch.setattr(following, "get_ident", lambda: self.thread)
        monkeypatch.setattr(FollowingListener, "usual", 0.0)
        monkeypatch.setattr(Listener, "wake_synchronously", lambda one: "sync" not in self.refuses)
        monkeypatch.setattr(Listener, "receive", self.receive)
        monkeypatch.setattr(Listener, "install_fd", self.install_fd)

    def fail(self, name: str) -> None:
        if name in self.refuses:
            raise OSError(errno.EPERM, name)

    def sched_getaffinity(self, tid: int) -> set[int]:
        self.fail(f"where {tid} runs")
        return set(self.affinity.get(tid, EVERYWHERE))

    def sched_setaffinity(self, tid: int, processors: Any) -> None:
        self.fail("affinity")
        assert tid == 0, "nobody else's affinity is the supervisor's business"
        self.affinity[0] = set(processors)

    def enter_idle_class(self) -> bool:
        if "class" in self.refuses or self.policy != os.SCHED_OTHER:
            return False
        self.policy = os.SCHED_IDLE
        return True

    def leave_idle_class(self) -> bool:
        if "way back" in self.refuses:
            return False
        self.policy = os.SCHED_OTHER
        return True

    def limit_lets_leave(self) -> bool:
        self.fail("limit")
        return self.limit

    def raise_limit(self) -> None:
        self.limit = self.limit or self.raises
        if self.raises:
            self.refuses.discard("way back")

    def rights_let_leave(self) -> bool:
        self.asked += 1
        return self.rights

    def receive(self) -> Notification | None:
        self.waiting.append((set(self.affinity[0]), self.policy))
        return Notification(1, self.calls.pop(0), OPENAT, 0, (0,) * 6)

    def install_fd(self, cookie: int, fd: int, close_on_exec: bool) -> int:
        self.at_work.append((set(self.affinity[0]), self.policy))
        self.now += self.takes if self.affinity[0] == EVERYWHERE else self.takes / 2
        self.during()
        self.fail("descriptor")
        return 3


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    return Scheduler(monkeypatch)


def listener_of(scheduler: Scheduler, changed: bool = False) -> FollowingListener:
    mask: Any = SimpleNamespace(changed=changed)
    listener = FollowingListener(-1, mask, scheduler.told.append)
    listener.wake_synchronously()
    return listener


def opens(listener: FollowingListener, scheduler: Scheduler, tid: int, count: int = 1) -> None:
    """Let a thread open some files."""
    for _ in range(count):
        scheduler.calls.append(tid)
        listener.receive()
        listener.install_fd(1, 5, True)


FIRST = STREAK + 1
"""calls until one is made as ever to measure the next ones by; that one included."""
BESIDE = ({2}, os.SCHED_IDLE)
FREE = (EVERYWHERE, os.SCHED_OTHER)


def test_a_thread_that_calls_again_and_again_is_followed_where_it_has_woken_us(
    scheduler: Scheduler,
) -> None:
    opens(listener_of(scheduler), scheduler, 42, FIRST + 3)
    assert scheduler.at_work == [FREE] * FIRST + [BESIDE] * 3


def test_a_tree_s_first_thread_is_followed_from_its_first_call_on(scheduler: Scheduler) -> None:
    opens(listener_of(scheduler), scheduler, 42, FIRST)  # what one takes that is made as ever
    scheduler.at_work.clear()
    listener = listener_of(scheduler)
    scheduler.running = len(EVERYWHERE)  # itself among them: it sleeps while it is followed
    listener.expect(43)
    opens(listener, scheduler, 43, 2)
    assert scheduler.at_work == [BESIDE] * 2


def test_nobody_is_expected_before_it_is_known_what_a_call_takes(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    listener.expect(42)
    opens(listener, scheduler, 42, FIRST)
    assert scheduler.at_work == [FREE] * FIRST


def test_where_others_run_too_nobody_is_followed_who_was_expected(scheduler: Scheduler) -> None:
    opens(listener_of(scheduler), scheduler, 42, FIRST)
    listener = listener_of(scheduler)
    scheduler.running = len(EVERYWHERE) + 1
    listener.expect(43)
    opens(listener, scheduler, 43, FIRST)
    assert scheduler.at_work == [FREE] * 2 * FIRST


def test_another_thread_than_the_expected_one_is_not_followed(scheduler: Scheduler) -> None:
    opens(listener_of(scheduler), scheduler, 42, FIRST)
    listener = listener_of(scheduler)
    listener.expect(43)
    opens(listener, scheduler, 44, STREAK)
    assert scheduler.at_work == [FREE] * (FIRST + STREAK)


def test_nobody_waits_for_a_call_or_answers_one_in_another_place_or_class(
    scheduler: Scheduler,
) -> None:
    listener = listener_of(scheduler)
    for _ in range(FIRST + 3):
        opens(listener, scheduler, 42)
        assert (scheduler.affinity[0], scheduler.policy) == FREE
    assert BESIDE in scheduler.at_work
    assert scheduler.waiting == [FREE] * (FIRST + 3)


def test_callers_that_take_turns_are_not_drawn_to_one_processor(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    for _ in range(STREAK + 3):
        opens(listener, scheduler, 42, STREAK)
        opens(listener, scheduler, 43, STREAK)
    assert set(map(str, scheduler.at_work)) == {str(FREE)}


def test_another_caller_ends_it(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    opens(listener, scheduler, 43)
    assert scheduler.at_work[-2:] == [BESIDE, FREE]
    opens(listener, scheduler, 43, STREAK)
    assert scheduler.at_work[-1] == FREE  # what was looked at was another caller


def test_from_time_to_time_a_call_is_made_as_ever_and_all_is_looked_at_again(
    scheduler: Scheduler,
) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    scheduler.now += LEASE
    scheduler.processor = 3
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-2:] == [FREE, ({3}, os.SCHED_IDLE)]


def test_it_ends_when_others_have_come(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    scheduler.now += LEASE
    scheduler.running = 4
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-3:] == [BESIDE, FREE, FREE]


def test_a_program_on_one_processor_needs_nobody_to_give_way(scheduler: Scheduler) -> None:
    scheduler.limit = False
    scheduler.affinity[42] = {2}
    opens(listener_of(scheduler), scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == ({2}, os.SCHED_OTHER)
    assert scheduler.affinity[0] == EVERYWHERE


@pytest.mark.parametrize("running", [4, 5])
def test_where_there_is_no_processor_for_each_nobody_is_followed(
    scheduler: Scheduler, running: int
) -> None:
    scheduler.running = running
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == FREE
    scheduler.running = 3
    opens(listener, scheduler, 42)
    assert scheduler.at_work[-1] == FREE  # it is not asked at each call
    scheduler.now += LEASE
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-1] == BESIDE


@pytest.mark.parametrize("times", [1, 1000])
def test_a_call_slower_than_one_made_as_ever_ends_it_for_a_multiple_of_that_time(
    scheduler: Scheduler, times: int
) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST)
    took = times * 1.1 * USUAL
    scheduler.takes = 2 * took
    opens(listener, scheduler, 42)
    assert scheduler.at_work[-1] == BESIDE
    scheduler.takes = 0
    scheduler.now += max(LEASE, PATIENCE * took) * 0.9
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-2:] == [FREE, FREE]
    scheduler.now += max(LEASE, PATIENCE * took) * 0.2
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-2:] == [FREE, BESIDE]


@pytest.mark.parametrize(
    ("limit", "rights", "changed", "follows"),
    [
        (True, False, True, True),
        (False, True, False, True),
        (False, True, True, False),  # with the program's rights there would be no way back
        (False, False, False, False),
    ],
)
def test_only_who_can_come_back_becomes_idle(
    scheduler: Scheduler, limit: bool, rights: bool, changed: bool, follows: bool
) -> None:
    scheduler.limit, scheduler.rights = limit, rights
    opens(listener_of(scheduler, changed), scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == (BESIDE if follows else FREE)
    assert scheduler.asked == (not limit and not changed)  # nothing is tried as somebody else


def test_other_rights_than_those_that_were_tried_do_not_count(scheduler: Scheduler) -> None:
    scheduler.limit, scheduler.rights = False, True
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == BESIDE
    mask: Any = listener.mask
    mask.changed = True
    opens(listener, scheduler, 42)
    assert scheduler.at_work[-1] == FREE


def test_the_way_back_is_proven_anew_from_time_to_time(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    scheduler.limit = False  # an administrator's work, say
    scheduler.now += LEASE
    opens(listener, scheduler, 42, 2)
    assert scheduler.at_work[-1] == FREE


def test_the_limit_is_raised_by_who_may_before_rights_are_tried(scheduler: Scheduler) -> None:
    scheduler.limit, scheduler.raises = False, True
    opens(listener_of(scheduler, changed=True), scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == BESIDE
    assert scheduler.asked == 0


@pytest.mark.parametrize(
    ("refused", "last"),
    [
        ("sync", FREE), ("affinity", FREE), ("class", ({2}, os.SCHED_OTHER)), ("limit", FREE),
        ("where 42 runs", FREE), ("", BESIDE),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_nobodys_failure(
    scheduler: Scheduler, refused: str, last: tuple[set[int], int]
) -> None:
    scheduler.refuses.add(refused)
    opens(listener_of(scheduler), scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-1] == last
    assert (scheduler.affinity[0], scheduler.policy) == FREE


def test_a_caller_that_died_does_not_end_it_for_the_others(scheduler: Scheduler) -> None:
    scheduler.refuses.add("where 42 runs")
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    scheduler.now += LEASE
    opens(listener, scheduler, 43, FIRST + 1)
    assert scheduler.at_work[-1] == BESIDE


def test_whose_way_back_was_taken_tries_it_before_each_wait_and_tells_and_never_goes_again(
    scheduler: Scheduler,
) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST)
    scheduler.during = lambda: scheduler.refuses.add("way back")
    opens(listener, scheduler, 42)
    assert (scheduler.affinity[0], scheduler.policy) == (EVERYWHERE, os.SCHED_IDLE)
    scheduler.during = lambda: None
    opens(listener, scheduler, 42)
    assert len(scheduler.told) == 1
    scheduler.refuses.clear()
    opens(listener, scheduler, 42)
    assert scheduler.waiting[-1] == FREE
    assert len(scheduler.told) == 1
    scheduler.now += LEASE
    opens(listener, scheduler, 42, FIRST + 1)
    assert scheduler.at_work[-FIRST:] == [FREE] * FIRST


def test_who_may_raise_limits_gives_itself_the_way_back_that_was_taken(
    scheduler: Scheduler,
) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST)
    scheduler.during = lambda: scheduler.refuses.add("way back")
    scheduler.raises = True
    opens(listener, scheduler, 42)
    scheduler.during = lambda: None
    opens(listener, scheduler, 42)
    assert scheduler.waiting[-1] == FREE
    assert not scheduler.told


def test_a_descriptor_that_cannot_be_had_is_told_and_leaves_us_as_we_were(
    scheduler: Scheduler,
) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST)
    scheduler.refuses.add("descriptor")
    with pytest.raises(OSError, match="descriptor"):
        opens(listener, scheduler, 42)
    assert scheduler.at_work[-1] == BESIDE
    assert (scheduler.affinity[0], scheduler.policy) == FREE


@pytest.mark.parametrize("when", ["before", "during"])
def test_where_an_administrator_has_put_us_we_stay(scheduler: Scheduler, when: str) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    if when == "before":
        scheduler.affinity[0] = {0, 1}
    else:
        scheduler.during = lambda: scheduler.affinity.update({0: {0, 1}})
    opens(listener, scheduler, 42)
    assert scheduler.at_work[-1] == BESIDE
    assert scheduler.affinity[0] == {0, 1}


def test_a_worker_hands_over_as_ever(scheduler: Scheduler) -> None:
    listener = listener_of(scheduler)
    opens(listener, scheduler, 42, FIRST + 1)
    scheduler.thread = 2
    listener.install_fd(1, 5, True)
    assert scheduler.at_work[-2:] == [BESIDE, FREE]


def test_callers_without_a_number_may_be_several(scheduler: Scheduler) -> None:
    opens(listener_of(scheduler), scheduler, 0, FIRST + 1)
    assert scheduler.at_work[-1] == FREE


REAL = """
import os, resource, sys
from certexec.kernel import credentials, notify
from certexec.run import following
seen = set()
def place():
    return os.sched_getscheduler(0), len(os.sched_getaffinity(0)), os.getpriority(0, 0)
def receive(self):
    seen.add(("waits", *place()))
    return notify.Notification(1, os.getpid(), 257, 0, (0,) * 6)
def install_fd(self, cookie, fd, close_on_exec):
    seen.add(("hands over", *place()))
    return 3
notify.Listener.receive, notify.Listener.install_fd = receive, install_fd
notify.Listener.wake_synchronously = lambda self: True
following.runnable, following.monotonic = lambda: 0, lambda: 0.0  # whatever this machine does
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
os.nice(5)
processors = len(os.sched_getaffinity(0))
listener = following.FollowingListener(-1, credentials.Mask(False), print)
listener.wake_synchronously()
for _ in range(9):
    listener.receive()
    listener.install_fd(1, 2, True)
seen.add(("leaves", *place()))
for what, policy, wide, nice in sorted(seen):
    print(what, "idle" if policy == os.SCHED_IDLE else policy, wide == processors, nice)
"""
AT_HOME = ["hands over 0 True 5", "leaves 0 True 5", "waits 0 True 5"]


def test_root_of_another_user_namespace_stays_out_of_the_class_that_it_cannot_leave() -> None:
    """It has CAP_SYS_NICE by what capget(2) says, but the kernel asks for that of the first one."""
    machine = Machine()
    try:
        assert machine.python(REAL).splitlines() == AT_HOME
    finally:
        machine.stop()


def may_follow() -> bool:
    """Whether root here can: not in a container, perhaps, or with one processor."""
    code = (
        "import os, resource; from certexec.kernel import scheduling\n"
        "resource.setrlimit(resource.RLIMIT_NICE, (0, 0)); scheduling.raise_limit()\n"
        "for policy in os.SCHED_IDLE, os.SCHED_OTHER:\n"
        "    os.sched_setscheduler(0, policy, os.sched_param(0))"
    )
    tried = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={"PYTHONPATH": PROJECT}
    )
    return tried.returncode == 0 and len(os.sched_getaffinity(0)) > 1


@pytest.mark.root
def test_root_hands_over_in_the_idle_class_and_is_back_in_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAL], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": PROJECT},
    )  # fmt: skip
    beside = [*AT_HOME, "hands over idle False 5"]
    assert done.stdout.splitlines() == (sorted(beside) if may_follow() else AT_HOME)
