"""``python -m tests.escapes`` in small: nothing escapes, and every missing defence is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.escapes.attacks import ATTACKS
from tests.harness import TIME_LIMIT, play
from tests.isolation import PROJECT

ROUNDS = 100
ENOUGH = 40
"""attacks that there must be at least."""


@pytest.mark.timeout(TIME_LIMIT)
def test_nothing_escapes_and_without_its_defence_every_attack_succeeds() -> None:
    report = play("tests.escapes", "--rounds", str(ROUNDS))
    assert len(report["attacks"]) == len(report["mutations"]) == len(ATTACKS) - len(
        report["left_out"]
    )
    for one in report["attacks"]:
        print(one)
        assert one["escaped"] == 0 and one["blocked"] > 0, one
        assert one["passed"] + one["blocked"] + one["odd"] == one["tries"], one
    for one in report["mutations"]:
        print(one)
        assert one["escaped"] > 0, one


def test_there_are_enough_attacks_and_each_has_a_name_of_its_own() -> None:
    names = [one.name for one in ATTACKS]
    assert len(set(names)) == len(names) >= ENOUGH


def test_every_defence_that_an_attack_names_can_be_taken_out() -> None:
    from tests.escapes import mutations

    for one in ATTACKS:
        if one.defence:
            assert getattr(mutations, one.defence).__doc__, one.name


def test_the_runner_tells_what_an_attack_wants_and_what_stops_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.escapes", "--list"], cwd=PROJECT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n    wants ") == len(ATTACKS)
    assert done.stdout.count("\n    succeeds ") == len(ATTACKS)


def test_results_are_not_kept_in_the_repository() -> None:
    ignored = Path(PROJECT, ".gitignore").read_text().splitlines()
    assert "tests/escapes/results/" in ignored
