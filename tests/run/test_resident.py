"""Whom the resident server serves next, where all slots could be one user's."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from certexec.run.resident import STARTING_TIME, Resident
from certexec.run.turns import ROOT, Turns

SLOTS = 4


def server(since: float, *crowd: int) -> tuple[Any, list[int]]:
    """A server to which these users came, and whom it serves; none of the starts ever ends."""
    served: list[int] = []
    resident: Any = Resident.__new__(Resident)
    resident.starting, resident.starting_max, resident.turns = {}, SLOTS, Turns()

    def serve(uid: int, request: object) -> None:
        served.append(uid)
        resident.starting[len(served)] = SimpleNamespace(uid=uid, since=since)

    resident._serve = serve
    for uid in crowd:
        resident.turns.add(uid, SimpleNamespace(close=lambda undertaker: None))
    return resident, served


def test_who_stops_all_that_it_starts_does_not_keep_others_waiting() -> None:
    resident, served = server(time.monotonic() + 1000, *[1000] * 10)
    resident._serve_waiting()
    assert served == [1000] * (SLOTS // 2)
    resident.turns.add(1001, SimpleNamespace(close=lambda undertaker: None))
    resident._serve_waiting()
    assert served[SLOTS // 2 :] == [1001]
    assert resident.turns.waiting == 10 - SLOTS // 2


def test_a_start_that_takes_too_long_gives_its_slot_to_the_next() -> None:
    resident, served = server(time.monotonic() - 2 * STARTING_TIME, *[1000] * 3)
    for _ in range(2):
        resident._serve_waiting()
    assert served == [1000] * 3


def test_root_may_have_all_slots() -> None:
    resident, served = server(time.monotonic() + 1000, *[ROOT] * 10)
    resident._serve_waiting()
    assert served == [ROOT] * SLOTS
