"""The events of a monitor: what is kept, counted, shown and marked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import CliError
from certexec.observe.history import OTHERS, PROGRAMS_MAX, History
from certexec.observe.reading import Seen, read_line


def seen(number: int = 0, **members: object) -> Seen:
    made = {"event": "call", "verdict": "deny", "program": "/bin/x", "pid": number, **members}
    found = read_line(json.dumps(made))
    assert found is not None
    return found


def pids(history: History) -> list[int]:
    return [int(entry.seen.text("pid")) for entry in history.shown]


def test_the_last_so_many_are_kept_and_the_others_counted() -> None:
    history = History(kept=3)
    history.add(map(seen, range(5)))
    history.add(map(seen, range(5, 7)))
    assert pids(history) == [4, 5, 6]
    assert (history.taken, history.dropped) == (7, 4)
    assert history.verdicts == {"deny": 7}  # what is gone stays counted


def test_few_large_ones_are_dropped_as_many_small_ones_are() -> None:
    history = History(characters=10_000)
    history.add(seen(number, text="x" * 4000) for number in range(5))
    assert pids(history) == [3, 4] and history.dropped == 3
    history.add([seen(9, text="x" * 20_000)])
    assert pids(history) == [] and history.dropped == 6
    history.add([seen(10)])
    assert pids(history) == [10]


def test_calls_are_counted_by_verdict_and_program_with_those_that_were_folded() -> None:
    history = History()
    history.add([
        seen(count=5), seen(verdict="permit"), seen(program="/bin/y", verdict="kill"),
        seen(verdict="\x1b[2J"), seen(event="lost", count=7), seen(event="note"),
        seen(event="overflow", calls={"deny open": 10, "ask x": "y", "odd": 2, "kill z": -1}),
    ])  # fmt: skip
    assert history.verdicts == {"deny": 15, "permit": 1, "kill": 1, OTHERS: 3}
    assert history.programs["/bin/x"] == {"deny": 5, "permit": 1, OTHERS: 1}
    assert history.programs["/bin/y"] == {"kill": 1}
    assert history.lost == 7


def test_made_up_programs_do_not_fill_the_memory() -> None:
    history = History(kept=10)
    history.add(seen(program=f"/tmp/{number}") for number in range(PROGRAMS_MAX + 50))
    assert len(history.programs) == PROGRAMS_MAX + 1
    assert history.programs[OTHERS] == {"deny": 50}


def test_a_filter_chooses_among_all_that_are_kept_and_what_comes() -> None:
    history = History()
    history.add([seen(1, user="alice"), seen(2, user="bob")])
    history.choose("user=bob")
    assert pids(history) == [2]
    history.add([seen(3, user="bob"), seen(4, user="alice")])
    assert pids(history) == [2, 3]
    with pytest.raises(CliError):
        history.choose("verdict=maybe")
    assert pids(history) == [2, 3]
    history.choose("")
    assert pids(history) == [1, 2, 3, 4]


def test_a_pause_holds_what_is_shown_while_more_is_kept_and_counted() -> None:
    history = History(kept=3)
    history.add(map(seen, range(3)))
    history.pause()
    history.add([seen(3), seen(4, verdict="kill")])
    assert pids(history) == [0, 1, 2] and history.waiting == 2
    assert history.verdicts == {"deny": 4, "kill": 1}
    history.choose("verdict=deny")  # of what had come by then and is still kept
    assert pids(history) == [2]
    history.resume()
    assert pids(history) == [2, 3] and history.waiting == 0


def test_the_newest_is_marked_until_somebody_goes_elsewhere() -> None:
    history = History(kept=4)
    assert history.marked is None and history.at == 0
    history.go(3)
    history.add(map(seen, range(3)))
    assert history.at == 2
    history.go(1)
    history.add([seen(3)])
    assert history.marked is not None and history.marked.text("pid") == "1"
    history.add([seen(4)])  # the first is gone, the mark stays at its event
    assert history.marked.text("pid") == "1" and history.at == 0
    history.add([seen(5), seen(6)])
    assert history.marked is not None and history.marked.text("pid") == "3"  # the next that is left
    history.go(99)
    history.add([seen(7)])
    assert history.marked.text("pid") == "7"


def test_a_search_goes_round_both_ways_and_says_where_nothing_is() -> None:
    history = History()
    names = ("/etc/a", "/etc/b", "/tmp/a", "/tmp/b")
    history.add(seen(at, arguments={"filename": name}) for at, name in enumerate(names))
    places = []
    for _ in range(3):
        assert history.find("/ETC")
        places.append(history.at)
    assert places == [0, 1, 0]
    assert history.find("tmp", -1) and history.at == 3
    assert history.find("a TMP") and history.at == 2
    assert not history.find("nowhere") and history.at == 2
    assert not History().find("x")


@given(st.lists(st.tuples(
    st.sampled_from(("add", "go", "pause", "resume", "filter", "find")), st.integers(0, 9)
), max_size=40))  # fmt: skip
def test_whatever_is_done_it_stays_within_its_limits_and_the_mark_is_on_what_is_shown(
    steps: list[tuple[str, int]]
) -> None:
    history = History(kept=5)
    for what, number in steps:
        if what == "add":
            history.add(seen(at, user="ab"[at % 2]) for at in range(number))
        elif what == "go":
            history.go(number)
        elif what == "pause":
            history.pause()
        elif what == "resume":
            history.resume()
        elif what == "filter":
            history.choose(("", "user=a", "user=b", "x")[number % 4])
        else:
            history.find("deny", 1 if number % 2 else -1)
        assert len(history.shown) <= 5
        assert (history.marked is None) == (not history.shown)
        assert history.taken - history.dropped <= 5
        assert all(history.filter.wants(entry.seen) for entry in history.shown)
        numbers = [entry.number for entry in history.shown]
        assert numbers == sorted(set(numbers))
        if not history.paused:
            assert all(number > history.dropped for number in numbers)
