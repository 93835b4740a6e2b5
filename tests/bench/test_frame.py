"""What groups declare, how lines meet limits, and what becomes of peers that are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.frame import (
    BOTH,
    OURS,
    PINNED,
    UNPINNED,
    Bench,
    Group,
    Limit,
    Line,
    load_groups,
    missing_cases,
    ratio_line,
    run_group,
    spread_line,
)
from bench.peers import PEERS, Peer, absent

PROJECT = Path(__file__).resolve().parents[2]
GROUPS = load_groups()


class Pretended:
    """A group that measures nothing."""

    NAME, ABOUT = "pretended", "nothing at all"
    LIMITS = (Limit("quick", 2.0), Limit("slow", 3.0, (UNPINNED,)), Limit("never", 1.0))
    PEERS = ()
    PLACEMENTS = BOTH

    def __init__(self) -> None:
        self.processors: list[int] = []

    def measure(self, bench: Bench) -> list[Line]:
        self.processors.append(len(os.sched_getaffinity(0)))
        return [
            Line("quick", OURS, "bare", 1.5, 1.4, 1.6),
            Line("slow", OURS, "bare", 4.0, 3.5, 4.5),
            Line("quick", "env", "bare", 9.0, 9.0, 9.0),
        ]


def pretended() -> tuple[Pretended, list[Line]]:
    group = Pretended()
    return group, run_group(group, Bench(None, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.NAME)
def test_a_group_declares_what_the_frame_asks_for(group: Group) -> None:
    assert group.NAME.isidentifier() and group.ABOUT
    assert set(group.PEERS) <= set(PEERS)
    assert group.PLACEMENTS and set(group.PLACEMENTS) <= set(BOTH)
    cases = [limit.case for limit in group.LIMITS]
    assert len(cases) == len(set(cases))
    for limit in group.LIMITS:
        assert limit.most > 0 and set(limit.placements) & set(group.PLACEMENTS)


def test_groups_have_names_of_their_own() -> None:
    names = [group.NAME for group in GROUPS]
    assert len(names) == len(set(names)) and len(names) >= 5


def test_limits_are_put_to_our_lines_alone_and_where_they_are_judged() -> None:
    group, lines = pretended()
    found = {(one.case, one.subject, one.placement): (one.limit, one.held) for one in lines}
    assert found == {
        ("quick", OURS, UNPINNED): (2.0, True),
        ("quick", OURS, PINNED): (2.0, True),
        ("slow", OURS, UNPINNED): (3.0, False),
        ("slow", OURS, PINNED): (None, None),
        ("quick", "env", UNPINNED): (None, None),
        ("quick", "env", PINNED): (None, None),
    }
    assert missing_cases(group, lines) == ["never"]


def test_pinned_means_one_processor_and_is_taken_back() -> None:
    before = os.sched_getaffinity(0)
    group, _ = pretended()
    assert group.processors == [len(before), 1]
    assert os.sched_getaffinity(0) == before


def test_a_ratio_is_taken_round_by_round() -> None:
    line = ratio_line("case", OURS, "bare", [2.0, 30.0, 4.0], [1.0, 10.0, 2.0])
    assert (line.value, line.low, line.high) == (2.0, 2.0, 3.0)
    assert line.detail == {"milliseconds": 4000.0, "base_milliseconds": 2000.0}


def test_one_round_has_no_spread() -> None:
    line = spread_line("case", OURS, "", [5.0], unit="MB")
    assert (line.value, line.low, line.high, line.unit) == (5.0, 5.0, 5.0, "MB")


def test_what_is_made_once_is_made_once() -> None:
    bench, made = Bench(None, 5), []  # type: ignore[arg-type]
    for _ in range(2):
        assert bench.once("thing", lambda: made.append(1) or "thing") == "thing"  # type: ignore[func-returns-value]
    assert made == [1]


def test_a_missing_peer_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "sudo", Peer(("certexec-no-such-tool",), "it is not there"))
    monkeypatch.setitem(PEERS, "env", Peer(("env", "/bin/false"), "it fails"))
    gone = absent()
    assert gone["sudo"] == "is not installed"
    assert gone["env"] == "does not start a program here"
    assert Bench(None, 5).peers(["sudo", "env"]) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("failure", [RuntimeError("no server"), SystemExit("certexec sign: x")])
def test_a_group_that_cannot_be_measured_counts_as_missed(
    failure: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Pretended):
        def measure(self, bench: Bench) -> list[Line]:
            raise failure

    group = Failing()
    lines = command.try_group(group, Bench(None, 5))  # type: ignore[arg-type]
    assert lines == [] and missing_cases(group, lines) == ["quick", "slow", "never"]
    assert f"bench: pretended: {type(failure).__name__}: {failure}" in capsys.readouterr().err


def test_groups_are_listed_without_measuring_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.show_groups(GROUPS) == 0
    shown = capsys.readouterr().out
    for group in GROUPS:
        assert f"{group.NAME}: " in shown


@pytest.mark.parametrize(
    "argv",
    [
        ["--only", "nothing"], ["--rounds", "1"], ["extra"], ["--publish", "--only", "starts"],
        ["--publish", "--rounds", "3"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_refused_before_anything_is_set_up(argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *argv], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == "" and "usage: bench" in done.stderr


def test_a_peer_that_fails_at_one_command_is_named_and_left_out_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench(None, 2)  # type: ignore[arg-type]
    lines = bench.compare(
        {
            ("quick", OURS): ["/bin/true"],
            ("quick", "env"): ["/bin/true"],
            ("quick", "sudo"): ["/bin/false"],
            ("quick", "strace"): ["/certexec-no-such-tool"],
        },
        ("bare", ["/bin/true"]),
    )
    assert [line.subject for line in lines] == [OURS, "env"]
    told = capsys.readouterr().err
    assert told.count("left out: ") == 2 and "/bin/false ended with" in told
    with pytest.raises(RuntimeError, match="/bin/false"):
        bench.compare({("quick", OURS): ["/bin/false"]}, ("bare", ["/bin/true"]))


def test_a_long_measurement_shows_on_a_terminal_how_far_it_has_come() -> None:
    program = (
        "from bench.frame import Bench\n"
        "bench = Bench(None, 2)\n"
        "with bench.told('starts, pinned'):\n"
        "    bench._progress._next = 0\n"
        "    bench.step(3, 5)\n"
    )
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, stderr=theirs, env=environment
    )
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0 and "starts, pinned: [" in shown and "3 of 5" in shown
    assert shown.endswith("\r\x1b[K")
