"""One machine for all tests of whole executions; every test leaves it without a process more."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.execution.people import Programs
from tests.execution.world import World
from tests.isolation import need, skip_or_fail


@pytest.fixture(scope="session")
def world_of_session() -> Iterator[World]:
    need("nsenter", "setpriv", "mount", "gcc")
    if os.geteuid() != 0:
        skip_or_fail("whole executions are tested as root, who plays all users")
    world = World()
    yield world
    world.close()


@pytest.fixture
def world(world_of_session: World) -> Iterator[World]:
    """The machine; afterwards no process may be left on it: no supervisor, no server, no child."""
    yield world_of_session
    left = world_of_session.settle()
    world_of_session.sweep()
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def programs_of_session(world_of_session: World) -> Programs:
    return Programs(world_of_session)


@pytest.fixture
def programs(world: World, programs_of_session: Programs) -> Programs:
    """Python behind certificates, in each way that certificates run a program."""
    return programs_of_session
