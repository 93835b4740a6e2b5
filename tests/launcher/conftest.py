"""The rig, made once; every test here needs root, and skips (or fails) without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.launcher.rig")

from tests.launcher.rig import Rig, skip_or_fail  # noqa: E402


@pytest.fixture(scope="session")
def rig_of_session() -> Iterator[Rig]:
    if os.geteuid() != 0:
        skip_or_fail("the launcher's tests need root")
    if shutil.which("gcc") is None:
        skip_or_fail("the launcher's tests need gcc")
    rig = Rig()
    yield rig
    rig.remove()


@pytest.fixture
def rig(rig_of_session: Rig) -> Rig:
    """The rig with a server that runs the probe's interpreter unchanged."""
    rig_of_session.server("serve()")
    return rig_of_session

