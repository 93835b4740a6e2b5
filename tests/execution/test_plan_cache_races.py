"""While somebody exchanges the program again and again, what runs is what was signed, or nothing.

The exchanger is root: nobody else can reach a program whose plan is kept. Renames are tried against
every start. Writing in place is tried against a start with a grant, whose launcher leases the
program; where it may not, root as a writer is an accepted risk (SECURITY.md).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.execution.test_plan_cache import Kept
from tests.execution.world import ALICE, World

STARTS = 60
PAUSE = 0.002
"""seconds between two exchanges: about the time that a start takes."""


@pytest.fixture(scope="module")
def kept(world_of_session: World) -> Iterator[Kept]:
    made = Kept(world_of_session, "raced")
    yield made
    made.flush()
    world_of_session.machine.run("umount", made.home)


@contextmanager
def again_and_again(act: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread of its own until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(PAUSE):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def starts(kept: Kept) -> list[str]:
    return [kept.world.run(kept.certificate, uid=ALICE).stdout for _ in range(STARTS)]


def test_a_program_that_is_renamed_over_all_the_time_never_runs_unverified(
    kept: Kept, world: World
) -> None:
    kept.renew()
    target, aside = kept.place / "program", kept.place / "aside"
    shutil.copy(kept.evil, aside)
    aside.chmod(0o755)
    spare = kept.place / "spare"

    def exchange() -> None:
        target.rename(spare)
        aside.rename(target)
        spare.rename(aside)

    with again_and_again(exchange):
        said = starts(kept)
    assert set(said) <= {"fine\n", ""}
    assert kept.world.run(kept.certificate, uid=0).stdout in ("fine\n", "")


def test_a_program_that_is_written_to_all_the_time_never_runs_unverified_with_a_grant(
    kept: Kept, world: World
) -> None:
    kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "service")
    contents = [Path(kept.good).read_bytes(), Path(kept.evil).read_bytes()]
    size = max(map(len, contents))
    padded = [one.ljust(size, b"\0") for one in contents]
    source = kept.world.write("raced-source", padded[0], 0o755)
    turn = [0]

    def rewrite() -> None:
        turn[0] += 1
        try:
            fd = os.open(kept.place / "program", os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            return  # leased, or running
        try:
            os.pwrite(fd, padded[turn[0] % 2], 0)
        finally:
            os.close(fd)

    try:
        kept.renew("--setuid", "service", "--allow-user", "alice", source=source)
        with again_and_again(rewrite):
            said = starts(kept)
        assert set(said) <= {"fine\n", ""}
    finally:
        kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "root")
