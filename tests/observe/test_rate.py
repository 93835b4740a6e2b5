"""Folding: what repeats or comes too fast is counted, and every count is told."""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.observe.event import Event, Lost, Note, Overflow, Record
from certexec.observe.rate import LABELS_MAX, WINDOW, Folding
from certexec.observe.sink import Sink
from tests.observe.sample import event


class Memory(Sink):
    """Keeps what it is given, with the time at which it was; ``broken``: takes nothing."""

    name = "memory"
    burst = 5

    def __init__(self, clock: Clock) -> None:
        super().__init__(there=True)
        self.clock = clock
        self.broken = False
        self.taken: list[tuple[float, Record, int]] = []

    def deliver(self, record: Record) -> None:
        if self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken.append((self.clock.now, record, record.count))

    def lines(self) -> list[str]:
        return [record.line() for _, record, _ in self.taken]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def folding(broken: bool = False, *rest: Sink) -> tuple[Folding, Memory, Clock]:
    clock = Clock()
    memory = Memory(clock)
    memory.broken = broken
    return Folding([memory, *rest], clock=clock), memory, clock


def kind(number: int, **more: object) -> Event:
    return event(number=number, syscall=f"call{number}", **more)


def test_the_first_of_a_kind_is_written_at_once_and_nobody_is_woken_for_it() -> None:
    fold, memory, _ = folding()
    fold.write(kind(1))
    fold.write(kind(2))
    assert len(memory.taken) == 2
    assert fold.patience() is None and not fold.owes


def test_what_repeats_is_one_line_when_the_second_is_over() -> None:
    fold, memory, clock = folding()
    for index in range(1000):
        clock.now = 100 + index / 2000
        fold.write(kind(1, time=clock.now, pid=index))
    assert len(memory.taken) == 1
    patience = fold.patience()
    assert patience is not None and 490 <= patience <= 510
    fold.tick()
    assert len(memory.taken) == 1
    clock.now += patience / 1000
    fold.tick()
    (_, told, count) = memory.taken[1]
    assert (count, told.since, told.time) == (999, 100.0005, 100.4995)
    assert told.line().startswith("folded 999 more in 0.5 s: deny user: alice, ")
    assert isinstance(told, Event) and told.pid == 999
    assert fold.patience() is None


def test_what_goes_on_repeating_is_one_line_a_second() -> None:
    fold, memory, clock = folding()
    for _ in range(10_000):
        clock.now += 0.001
        fold.tick()
        fold.write(kind(1))
    fold.close()
    assert 10 <= len(memory.taken) <= 12
    assert sum(count for _, _, count in memory.taken) == 10_000


def test_a_kind_that_paused_is_written_at_once_again() -> None:
    fold, memory, clock = folding()
    fold.write(kind(1))
    fold.write(kind(1))
    clock.now += 1.5
    fold.write(kind(1))  # belongs to the next second: folded once more
    clock.now += 1.5
    fold.write(kind(2))
    clock.now += 1.5
    fold.write(kind(1))
    fold.close()
    assert [count for _, _, count in memory.taken] == [1, 1, 1, 1, 1]
    assert [record.since > 0 for _, record, _ in memory.taken] == [False, True, True, False, False]


def test_a_burst_of_different_ones_is_counted_by_call() -> None:
    fold, memory, clock = folding()
    for index in range(300):
        fold.write(event(arguments=[("filename", str(index))]))
    for index in range(40):
        fold.write(event(verdict="permit", syscall="bind", arguments=[("filename", str(index))]))
    assert len(memory.taken) == Memory.burst
    clock.now += 1.0
    fold.tick()
    (_, told, count) = memory.taken[-1]
    assert isinstance(told, Overflow) and count == 335
    assert told.counts == {"deny connect": 295, "permit bind": 40}
    assert len(memory.taken) == Memory.burst + 1


def test_a_rare_call_is_not_hidden_by_a_flood() -> None:
    fold, memory, _ = folding()
    for index in range(1000):
        fold.write(event(syscall="open", arguments=[("filename", str(index))]))
    fold.write(event(syscall="connect"))
    fold.close()
    assert "deny connect 1" in memory.lines()[-1]


def test_names_that_a_program_makes_up_are_counted_together() -> None:
    fold, memory, _ = folding()
    for index in range(1000):
        fold.write(kind(index))
    fold.close()
    told = memory.taken[-1][1]
    assert isinstance(told, Overflow)
    assert len(told.counts) == LABELS_MAX + 1
    assert told.count == 1000 - Memory.burst


def test_notes_are_folded_like_events() -> None:
    fold, memory, _ = folding()
    for _ in range(50):
        fold.note("internal: something")
    fold.close()
    assert memory.lines()[0] == "internal: something"
    assert memory.lines()[1].startswith("folded 49 more in ")
    assert len(memory.taken) == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.booleans()), max_size=400),
    st.sets(st.integers(0, 400), max_size=30),
)
def test_every_event_is_in_some_line_and_no_second_has_many(
    steps: list[tuple[int, int, bool]], breaks: set[int]
) -> None:
    fold, memory, clock = folding()
    for index, (number, pause, tick) in enumerate(steps):
        clock.now += pause / 20
        memory.broken = index in breaks
        if tick:
            fold.tick()
        patience = fold.patience()
        assert (patience is None) == (not fold.owes)
        assert patience is None or patience <= WINDOW * 1000 + 1
        fold.write(kind(number))
    memory.broken = False
    fold.close()
    total = sum(count for _, _, count in memory.taken)
    assert total == len(steps) and not memory.lost
    for start, _, _ in memory.taken:
        near = [one for one in memory.taken if start <= one[0] < start + WINDOW]
        # events, what was folded, and one of each kind of summary
        assert len(near) <= 2 * (2 * Memory.burst + 1) + len(breaks)


def test_what_is_folded_is_told_at_most_a_second_later() -> None:
    fold, memory, clock = folding()
    fold.write(kind(1))
    fold.write(kind(1))
    patience = fold.patience()
    assert patience is not None and patience <= 1001
    clock.now += patience / 1000
    fold.tick()
    assert len(memory.taken) == 2


def test_a_loss_that_one_sink_cannot_tell_is_told_to_the_others() -> None:
    clock = Clock()
    broken, sound = Memory(clock), Memory(clock)
    broken.broken = True
    broken.name = "the log file"
    fold = Folding([broken, sound], clock=clock)
    for number in range(3):
        fold.write(kind(number))
    fold.close()
    assert sound.lines()[-1] == (
        "3 events could not be written to the log file: No space left on device"
    )


def test_a_loss_that_no_sink_can_tell_is_told_to_the_last_resort() -> None:
    clock = Clock()
    broken, resort = Memory(clock), Memory(clock)
    broken.broken = True
    broken.name = "the log file"
    fold = Folding([broken], lambda: [resort], clock)
    fold.write(kind(1))
    fold.write(kind(1))
    fold.close()
    assert resort.lines() == [
        "2 events could not be written to the log file: No space left on device"
    ]


def test_what_a_sink_missed_is_told_before_the_next_that_it_takes() -> None:
    fold, memory, _ = folding(broken=True)
    fold.write(kind(1))
    fold.write(kind(2))
    memory.broken = False
    fold.write(kind(3))
    assert [type(record) for _, record, _ in memory.taken] == [Lost, Event]
    assert memory.taken[0][2] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the rights of others")
def test_a_thread_with_the_rights_of_another_leaves_its_records_to_one_with_ours() -> None:
    libc = ctypes.CDLL(None)
    fold, memory, _ = folding()
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        libc.syscall(117, -1, 65534, 0)  # setresuid of this thread alone
        fold.write(kind(1))
        fold.write(kind(1))
        done.release()

    _thread.start_new_thread(work, ())
    done.acquire()
    assert not memory.taken and fold.patience() == 0
    fold.tick()
    assert len(memory.taken) == 1
    patience = fold.patience()
    assert patience is not None and patience > 900
    fold.write(kind(1))
    fold.close()
    assert [count for _, _, count in memory.taken] == [1, 2]


def test_records_of_many_threads_are_all_counted() -> None:
    fold, memory, clock = folding()
    threads = [
        threading.Thread(target=lambda: [fold.write(kind(1)) for _ in range(2000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            clock.now += 0.01
            fold.tick()
            thread.join(0.001)
    fold.close()
    assert sum(count for _, _, count in memory.taken) == 16000


def test_without_a_sink_nothing_is_kept() -> None:
    fold = Folding([])
    for number in range(10):
        fold.write(kind(number))
        fold.write(kind(number))
    assert fold.patience() is None
    fold.close()


def test_the_narrowest_sink_sets_the_limit() -> None:
    clock = Clock()
    wide, narrow = Memory(clock), Memory(clock)
    wide.burst = 1000
    fold = Folding([wide, narrow], clock=clock)
    for number in range(100):
        fold.write(kind(number))
    assert len(wide.taken) == len(narrow.taken) == 5
    assert isinstance(Note(1.0, "x").key(), str)
