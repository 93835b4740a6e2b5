"""Users take turns, whatever the others do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certexec.run.turns import (
    ALL_MAX,
    ROOT,
    RUNNING_MAX,
    WAITING_MAX,
    Turns,
    with_their_share,
)


def drained(turns: Turns[int]) -> list[tuple[int, int]]:
    found = []
    while (turn := turns.next()) is not None:
        found.append(turn)
    return found


def test_a_crowd_of_one_user_does_not_come_before_another() -> None:
    turns: Turns[int] = Turns()
    for number in range(50):
        assert turns.add(1, number)
    assert turns.add(2, 0)
    assert turns.next() == (1, 0)
    assert turns.next() == (2, 0)
    assert turns.next() == (1, 1)


def test_who_is_passed_over_keeps_its_place() -> None:
    turns: Turns[int] = Turns()
    for number in range(2):
        assert turns.add(1, number)
    assert turns.add(2, 0)
    assert turns.next({1}) == (2, 0)
    assert turns.next({1}) is None
    assert turns.waiting == 2
    assert drained(turns) == [(1, 0), (1, 1)]


def test_nobody_but_root_has_more_than_half_of_the_slots() -> None:
    assert with_their_share([1, 1, 1, 2, ROOT], 8) == set()
    assert with_their_share([1, 1, 1, 1, 2], 8) == {1}
    assert with_their_share([ROOT] * 8, 8) == set()
    assert with_their_share([1], 1) == {1}


@given(st.integers(1, 16), st.integers(1, 100))
def test_a_crowd_that_stops_whatever_it_starts_leaves_a_slot_to_others(
    slots: int, crowd: int
) -> None:
    turns: Turns[int] = Turns()
    assert all(turns.add(1, number) for number in range(crowd))
    starting: list[int] = []
    while len(starting) < slots:
        turn = turns.next(with_their_share(starting, slots))
        if turn is None:
            break
        starting.append(turn[0])
    assert len(starting) < slots or slots == 1
    assert turns.add(2, 0)
    assert turns.next(with_their_share(starting, slots)) == (2, 0)


@given(st.lists(st.integers(0, 4), max_size=80))
def test_nothing_is_lost_each_user_keeps_the_order_and_nobody_waits_two_rounds(
    uids: list[int],
) -> None:
    turns: Turns[int] = Turns()
    taken = [(uid, number) for number, uid in enumerate(uids) if turns.add(uid, number)]
    assert turns.waiting == len(taken)
    served = drained(turns)
    assert sorted(served) == sorted(taken)
    assert turns.waiting == 0
    for uid in set(uids):
        own = [number for who, number in served if who == uid]
        assert own == sorted(own)
    left = {uid: uids.count(uid) for uid in set(uids)}
    last: dict[int, int] = {}
    for place, (uid, _) in enumerate(served):
        waiting = [who for who, count in left.items() if count]
        assert place - last.get(uid, place) <= len(set(uids))
        last[uid] = place
        left[uid] -= 1
        assert uid in waiting


def test_a_user_with_enough_waiting_is_left_to_itself() -> None:
    turns: Turns[int] = Turns()
    assert all(turns.add(1, number) for number in range(WAITING_MAX))
    assert not turns.add(1, 0)
    assert turns.add(2, 0)
    turns.next()
    assert turns.add(1, 0)


def test_many_users_together_do_not_take_every_descriptor() -> None:
    turns: Turns[int] = Turns()
    taken = [turns.add(number // WAITING_MAX, 0) for number in range(ALL_MAX + 1)]
    assert taken.count(False) == 1
    assert not taken[-1]


def test_a_user_with_enough_running_is_left_to_itself_until_one_ends() -> None:
    turns: Turns[int] = Turns()
    for _ in range(RUNNING_MAX):
        turns.started(1)
        turns.started(ROOT)
    assert not turns.add(1, 0)
    assert turns.add(ROOT, 0)
    assert turns.add(2, 0)
    turns.ended(1)
    assert turns.add(1, 0)
