"""Work in several processes: the order, the dead, the interrupted, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.run import parallel
from certexec.run.parallel import CHUNK, WINDOW, in_order

PROJECT = Path(__file__).resolve().parents[2]
MANY = 3 * WINDOW + 7


def square(number: int) -> int:
    return number * number


def lost(number: int, how: str) -> str:
    return f"{number}: {how}"


def children() -> list[str]:
    path = f"/proc/self/task/{os.getpid()}/children"
    return Path(path).read_text().split()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert (children(), len(os.listdir("/proc/self/fd"))) == before


@settings(max_examples=15, deadline=None)
@given(count=st.integers(0, 3 * CHUNK), jobs=st.integers(1, 5))
def test_results_are_those_of_a_loop(count: int, jobs: int) -> None:
    assert list(in_order(range(count), square, lost, jobs)) == [square(n) for n in range(count)]


def test_slow_items_do_not_change_the_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.05 if number % (4 * CHUNK) == 0 else 0)
        return number

    assert list(in_order(range(MANY), slow, lost, 4)) == list(range(MANY))


def test_no_more_than_a_window_is_under_way() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(MANY):
            taken += 1
            yield number

    results = in_order(items(), square, lost, 2)
    for done, _ in enumerate(results):
        assert taken <= done + WINDOW + CHUNK
    assert taken == MANY


def test_one_item_that_kills_its_process_is_lost_and_no_other() -> None:
    deadly = {5, CHUNK + 1, CHUNK + 2, MANY - 1}

    def work(number: int) -> int:
        if number in deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results = list(in_order(range(MANY), work, lost, 3))
    for number, result in enumerate(results):
        if number in deadly:
            assert result == f"{number}: the process that worked on it was killed by signal 9"
        else:
            assert result == number
    assert len(results) == MANY


def test_a_process_that_exits_is_told_with_its_code() -> None:
    assert list(in_order([1], lambda _: os._exit(3), lost, 2)) == [
        "1: the process that worked on it ended with 3"
    ]


def test_all_of_them_may_die() -> None:
    results = list(in_order(range(CHUNK + 2), lambda _: os._exit(1), lost, 2))
    assert len(results) == CHUNK + 2 and all(" ended with 1" in one for one in results)


def test_what_work_raises_is_raised_here() -> None:
    def work(number: int) -> int:
        if number == CHUNK + 3:
            raise LookupError("no such thing")
        return number

    with pytest.raises(RuntimeError, match="LookupError: no such thing"):
        list(in_order(range(2 * CHUNK), work, lost, 2))


def test_who_stops_reading_leaves_no_process_behind() -> None:
    results = in_order(iter(int, 1), square, lost, 3)
    assert [next(results) for _ in range(3)] == [0, 0, 0]
    results.close()  # type: ignore[attr-defined]


def test_without_any_process_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError

    monkeypatch.setattr(parallel.os, "fork", refused)
    here = os.getpid()
    assert set(in_order(range(CHUNK * 3), lambda _: os.getpid(), lost, 2)) == {here}


ENDLESS = """
    import os, sys, time
    from certexec.run.parallel import in_order
    def work(number):
        time.sleep(0.001)
        return os.getpid()
    print(" ".join({str(one) for _, one in zip(range(500), in_order(iter(int, 1), work, None, 3))}))
    for one in in_order(iter(int, 1), work, None, 3):
        print(one, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(number: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS)], cwd=PROJECT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.readline()
    workers = {int(program.stdout.readline()) for _ in range(400)}
    # as a terminal does it, to all of them; the other signals come to the first alone
    (os.killpg if number == signal.SIGINT else os.kill)(program.pid, number)
    error = program.communicate(timeout=20)[1]
    assert error.count("Traceback") == (1 if number == signal.SIGINT else 0)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in workers if _is_alive(pid)]


INTERRUPTED = """
    import os, signal
    from certexec.run import parallel
    real = os.fork
    def fork():
        pid = real()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return pid
    parallel.os.fork = fork
    try:
        print(list(parallel.in_order(range(3), abs, None, 2)), flush=True)
    finally:
        print("the end", flush=True)
"""


def test_a_process_that_is_interrupted_at_once_does_not_become_a_second_caller() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], cwd=PROJECT, text=True,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\nthe end\n", "")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
