"""``make attack`` in small: not one run of unverified bytes, and every missing check is noticed."""

from __future__ import annotations

import os

import pytest

from tests.harness import TIME_LIMIT, play

ROUNDS = 100
MUTATION_ROUNDS = 3000
PLACES = ("ext4", "tmpfs", "overlayfs")
KINDS = ("rewrite", "rename", "mmap")


@pytest.mark.timeout(TIME_LIMIT)
def test_whatever_changes_while_certificates_run_only_verified_bytes_run() -> None:
    report = play("tests.attack", "--rounds", str(ROUNDS), "--mutation-rounds", "0")
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
    report = play("tests.attack", "--rounds", "0", "--mutation-rounds", str(MUTATION_ROUNDS))
    assert report["mutations"]
    for one in report["mutations"]:
        print(one["name"], one["rounds"], one["without"])
        assert one["evil"] == 1, one
