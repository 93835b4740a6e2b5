"""A table of answers that processes share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.run.once import EMPTY, GROUPS, KEY_SIZE, SLOT, VALUE_SIZE, WAYS, Once


@pytest.fixture
def once() -> Iterator[Once]:
    made = Once()
    yield made
    made.close()


def key(number: int, group: int = 7) -> bytes:
    return group.to_bytes(4, "little") + number.to_bytes(KEY_SIZE - 4, "little")


def value(number: int) -> bytes:
    return number.to_bytes(VALUE_SIZE, "little")


def forbidden() -> bytes:
    raise AssertionError("this was known")


def test_an_answer_is_worked_out_once(once: Once) -> None:
    assert once.answer(key(1), lambda: value(5)) == value(5)
    assert once.answer(key(1), forbidden) == value(5)


def test_another_process_knows_it_too(once: Once) -> None:
    pid = os.fork()
    if pid == 0:
        once.answer(key(1), lambda: value(9))
        os._exit(0)
    os.waitpid(pid, 0)
    assert once.answer(key(1), forbidden) == value(9)


def test_who_comes_second_waits_for_the_first(once: Once) -> None:
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:

        def slow() -> bytes:
            os.write(told, b"x")
            time.sleep(0.3)
            return value(3)

        once.answer(key(1), slow)
        os._exit(0)
    os.read(ready, 1)
    assert once.answer(key(1), forbidden) == value(3)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(told)


def test_who_dies_over_the_work_leaves_it_to_the_next(once: Once) -> None:
    pid = os.fork()
    if pid == 0:
        once.answer(key(1), lambda: os.kill(os.getpid(), signal.SIGKILL) or b"")  # type: ignore[func-returns-value]
    os.waitpid(pid, 0)
    assert once.answer(key(1), lambda: value(2)) == value(2)


def test_who_fails_at_the_work_leaves_no_answer(once: Once) -> None:
    def fails() -> bytes:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        once.answer(key(1), fails)
    assert once.answer(key(1), lambda: value(4)) == value(4)


@settings(max_examples=20, deadline=None)
@given(numbers=st.lists(st.integers(1, 3 * WAYS), max_size=80))
def test_a_full_group_forgets_but_never_lies(numbers: list[int]) -> None:
    once = Once()
    for number in numbers:
        assert once.answer(key(number), lambda n=number: value(n)) == value(number)  # type: ignore[misc]
    once.close()


def test_groups_do_not_reach_into_each_other(once: Once) -> None:
    for group in (0, 1, GROUPS - 1):
        for number in range(1, WAYS + 1):
            once.answer(key(number, group), lambda g=group, n=number: value(100 * g + n))  # type: ignore[misc]
    for group in (0, 1, GROUPS - 1):
        for number in range(1, WAYS + 1):
            assert once.answer(key(number, group), forbidden) == value(100 * group + number)


def test_half_an_answer_counts_for_nothing(once: Once) -> None:
    """Who dies while it writes leaves the slot without a key."""
    once.answer(key(1), lambda: value(5))
    place = 7 * WAYS * SLOT
    once._table[place : place + KEY_SIZE] = EMPTY
    assert once.answer(key(1), lambda: value(6)) == value(6)
