"""Calls that change names and attributes: what they give and do is what the bare kernel does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.execution.world import World
from tests.isolation import PROJECT
from tests.supervision.conftest import CHANGES, Cage
from tests.supervision.same import WHO, compare

HERE = Path(__file__).parent
PARTS = [
    "renames", "links", "symlinks", "modes", "owners", "truncations", "utimes", "nodes", "pointers",
    "directories",
    "xattrs", "attributes", "watches", "bind mounts", "v for new mounts", "computer",
    "fspick", "quotas",
]  # fmt: skip


@pytest.fixture(scope="module")
def program(world_of_session: World) -> str:
    world = world_of_session
    flags = ["-pthread", "-Wno-format-truncation", f"-I{PROJECT}/tests/execution", f"-I{HERE}"]
    others = [str(HERE / f"{name}_calls.c") for name in ("attribute", "xattr", "mount")]
    return world.compile("path_calls", (HERE / "path_calls.c").read_text(), *others, *flags)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("part", PARTS)
def test_they_give_and_do_the_same_with_and_without_supervision(
    cage: Cage, program: str, part: str, who: str
) -> None:
    compare(cage, CHANGES, program, part, who)
