"""What is said of the scheduler is what it does: who may leave the idle class, and who is in it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from certexec.kernel import scheduling
from tests.isolation import PROJECT, Machine

TRIES = """
import os, resource, sys
from certexec.kernel import scheduling
from certexec.kernel.credentials import own_capabilities
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if sys.argv[1:]:
    os.setresuid(1000, 1000, 1000)
os.nice(5)
said = scheduling.rights_let_leave()
assert os.getpriority(os.PRIO_PROCESS, 0) == 5
assert os.sched_getscheduler(0) == os.SCHED_OTHER
assert not scheduling.limit_lets_leave()
assert scheduling.enter_idle_class()
assert os.sched_getscheduler(0) == os.SCHED_IDLE
left = scheduling.leave_idle_class()
assert left == (os.sched_getscheduler(0) == os.SCHED_OTHER)
assert os.getpriority(os.PRIO_PROCESS, 0) == 5
print(said, left, bool(own_capabilities()[0] & 1 << 23))
"""
"""A thread says whether its rights let it leave the idle class (without limits), and tries."""


def tried(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRIES, *arguments], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": PROJECT},
    )  # fmt: skip
    return done.stdout.split()


def test_root_of_another_user_namespace_has_the_capability_and_no_way_back() -> None:
    machine = Machine()
    try:
        assert machine.python(TRIES).split() == ["False", "False", "True"]
    finally:
        machine.stop()


def test_a_way_back_is_told_of_where_there_is_one() -> None:
    said, left, _ = tried()
    assert said == left


@pytest.mark.root
def test_who_has_no_rights_any_more_has_no_way_back() -> None:
    assert tried("user") == ["False", "False", "False"]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The limits of RLIMIT_NICE, one after the other; the nice value is 5."""
    known = [(0, 0)]

    def change(kind: int, pair: tuple[int, int]) -> None:
        assert kind == resource.RLIMIT_NICE
        known.append(pair)

    monkeypatch.setattr(resource, "getrlimit", lambda kind: known[-1])
    monkeypatch.setattr(resource, "setrlimit", change)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 5)
    yield known


def test_the_limit_goes_no_further_than_the_nice_value_there_is(
    limits: list[tuple[int, int]],
) -> None:
    assert not scheduling.limit_lets_leave()
    scheduling.raise_limit()
    assert limits[1:] == [(15, 15)]
    assert scheduling.limit_lets_leave()


@pytest.mark.parametrize(
    ("limit", "lets"),
    [((14, 40), False), ((15, 40), True), ((resource.RLIM_INFINITY,) * 2, True)],
)
def test_the_limit_of_now_counts(
    limits: list[tuple[int, int]], limit: tuple[int, int], lets: bool
) -> None:
    limits[:] = [limit]
    assert scheduling.limit_lets_leave() == lets


@pytest.mark.parametrize(("hard", "after"), [(40, 40), (resource.RLIM_INFINITY,) * 2])
def test_a_hard_limit_is_not_lowered(
    limits: list[tuple[int, int]], hard: int, after: int
) -> None:
    limits[:] = [(0, hard)]
    scheduling.raise_limit()
    assert limits[-1] == (15, after)


def test_who_may_not_raise_limits_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, pair: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    before = resource.getrlimit(resource.RLIMIT_NICE)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    scheduling.raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NICE) == before


def test_at_the_lowest_nice_value_rights_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes a lower one for the lowest, and asks for no right."""
    monkeypatch.setattr(os, "getpriority", lambda which, who: -20)
    monkeypatch.setattr(os, "setpriority", lambda which, who, nice: None)
    assert not scheduling.rights_let_leave()


@pytest.mark.parametrize("policy", [os.SCHED_BATCH, os.SCHED_IDLE])
def test_a_class_that_somebody_chose_is_kept(
    monkeypatch: pytest.MonkeyPatch, policy: int
) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: policy)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *parts: pytest.fail("changed"))
    assert not scheduling.enter_idle_class()


def test_a_return_that_does_not_read_back_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", lambda *parts: None)
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_IDLE)
    assert not scheduling.leave_idle_class()


def test_the_kernel_says_where_this_thread_runs_and_how_many_can() -> None:
    assert scheduling.processor() in os.sched_getaffinity(0)
    assert scheduling.runnable() >= 1
