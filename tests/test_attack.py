"""``make attack`` in small: not one run of unverified bytes, and every missing check is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.isolation import MUST_WORK, PROJECT, skip_or_fail

ROUNDS = 100
MUTATION_ROUNDS = 3000
TIME_LIMIT = 900
"""seconds; on an idle machine it is one minute."""
PLACES = ("ext4", "tmpfs", "overlayfs")
KINDS = ("rewrite", "rename", "mmap")


def attack(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack", "--json", *options],
        cwd=PROJECT, capture_output=True, text=True, timeout=TIME_LIMIT,
    )  # fmt: skip
    if done.returncode == 2:
        skip_or_fail(done.stderr.strip())
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    if report["left_out"]:
        print("left out:", report["left_out"])
        assert not MUST_WORK, report["left_out"]
    assert done.returncode == 0, [
        (one["name"], one["problems"])
        for one in (*report["attacks"], *report["mutations"]) if one["problems"]
    ]  # fmt: skip
    return report


@pytest.mark.timeout(TIME_LIMIT)
def test_whatever_changes_while_certificates_run_only_verified_bytes_run() -> None:
    report = attack("--rounds", str(ROUNDS), "--mutation-rounds", "0")
    played = {one["name"]: one for one in report["attacks"]}
    if os.geteuid() == 0:
        assert {f"binary/{place}/{kind}" for place in PLACES for kind in KINDS} <= set(played)
    for one in played.values():
        print(one)
        assert one["evil"] == one["strange"] == 0, one
        assert one["executed"] > 0 and one["refused"] > 0, one
        assert one["executed"] + one["refused"] + one["killed"] == one["rounds"] >= ROUNDS, one
        assert one["attacker"]["changes"] > 0, one
    for place in ("ext4", "tmpfs"):
        killed = sum(played[f"binary/{place}/{kind}"]["killed"] for kind in ("rewrite", "mmap"))
        assert killed > 0, "the exec stop had nothing to do"


@pytest.mark.timeout(TIME_LIMIT)
def test_without_its_check_every_attack_succeeds() -> None:
    report = attack("--rounds", "0", "--mutation-rounds", str(MUTATION_ROUNDS))
    assert report["mutations"]
    for one in report["mutations"]:
        print(one["name"], one["rounds"], one["without"])
        assert one["evil"] == 1, one
