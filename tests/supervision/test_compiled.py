"""Supervision on the compiled doors, as ``pip install`` makes them: one of each kind, once more.

What is tested here is tested elsewhere in this directory on Python alone, with the same words.
CERTEXEC_TEST_COMPILED=1 lets every test of supervision run on the compiled doors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import World, load_hook
from tests.supervision import test_races
from tests.supervision.conftest import CHANGES, Cage
from tests.supervision.same import compare
from tests.supervision.test_exec_rules import (
    test_a_file_is_judged_by_its_real_path,
    test_arguments_are_judged_joined_by_spaces,
    test_bad_arguments_get_the_kernels_answer,
)
from tests.supervision.test_path_calls import program
from tests.supervision.test_protection import (
    test_no_call_that_names_a_process_reaches_the_supervisor,
)
from tests.supervision.test_registers import (
    test_a_signal_can_be_what_takes_rights_away,
    test_memory_is_writable_or_executable,
    test_who_calls_can_be_a_condition_of_every_call,
)
from tests.supervision.test_rights import test_groups_umask_and_limits_are_the_callers
from tests.supervision.test_same_calls import (
    test_calls_do_the_same_with_and_without_supervision,
)
from tests.supervision.test_sends import (
    test_a_broken_stream_ends_who_writes_to_it_and_nobody_else,
    test_an_address_is_judged_by_where_the_kernel_would_send,
    test_descriptors_go_both_ways,
)

__all__ = [
    "program",
    "test_a_broken_stream_ends_who_writes_to_it_and_nobody_else",
    "test_a_file_is_judged_by_its_real_path",
    "test_a_signal_can_be_what_takes_rights_away",
    "test_an_address_is_judged_by_where_the_kernel_would_send",
    "test_arguments_are_judged_joined_by_spaces",
    "test_bad_arguments_get_the_kernels_answer",
    "test_calls_do_the_same_with_and_without_supervision",
    "test_descriptors_go_both_ways",
    "test_groups_umask_and_limits_are_the_callers",
    "test_memory_is_writable_or_executable",
    "test_no_call_that_names_a_process_reaches_the_supervisor",
    "test_who_calls_can_be_a_condition_of_every_call",
]
PARTS = ["renames", "links", "symlinks", "modes", "xattrs", "pointers", "watches"]
WAIT = "print('there', flush=True)\nsys.stdin.read()"


@pytest.fixture(scope="module")
def world_of_session() -> Iterator[World]:
    """A machine of its own, whose certexec is compiled."""
    world = World(compiled=True)
    yield world
    world.close()


@pytest.fixture(scope="module")
def cage_of_session(world_of_session: World) -> Cage:
    return Cage(world_of_session)


def _maps(cage: Cage) -> str:
    """Return what the supervisor of a waiting program has mapped."""
    running = cage.start(f"print(supervisor(), flush=True)\n{WAIT}")
    assert running.stdout is not None
    try:
        pid = running.stdout.readline().strip()
        with open(f"/proc/{pid}/maps") as file:
            return file.read()
    finally:
        running.communicate()


def test_this_supervisor_is_compiled(cage: Cage) -> None:
    assert f"/lib/{load_hook().DOORS_WHEEL_PATH}" in _maps(cage)
    rows = [line.split() for line in cage.world.verb("doctor").splitlines()]
    assert ["ok", "doors", "compiled"] in [row[:3] for row in rows]


@pytest.mark.parametrize("part", PARTS)
def test_they_give_and_do_the_same_with_and_without_supervision(
    cage: Cage, program: str, part: str
) -> None:
    compare(cage, CHANGES, program, part, "user")


@pytest.mark.parametrize("kind", ["memory", "symlink", "create"])
def test_no_exchange_opens_what_was_not_judged(
    cage: Cage, place: Path, secret: Path, kind: str
) -> None:
    test_races.test_no_exchange_opens_what_was_not_judged(cage, place, secret, kind, ())
