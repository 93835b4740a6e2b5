"""What the supervisor does about a moving thread it does with its own rights."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run.emulate_place import SHARED, Move
from certexec.run.resolve import Resolved
from certexec.run.task import Task


class Rights:
    """A mask that holds the caller's rights, and remembers when they are lifted."""

    def __init__(self) -> None:
        self.held = self.changed = True

    def lifted(self, function: Callable[..., object], *arguments: object) -> object:
        self.held = False
        try:
            return function(*arguments)
        finally:
            self.held = True


def moving(logged: list[tuple[str, bool]]) -> Any:
    """Return a chroot of this process itself; what it logs, and whether with whose rights."""
    rights = Rights()
    task = Task(os.getpid(), os.getpid())
    task.mask = rights  # type: ignore[assignment]
    move: Any = Move.__new__(Move)
    move.place = "root"
    move.call = SimpleNamespace(task=task, name="chroot", resume=lambda: None)
    move.judge = SimpleNamespace(log=lambda *facts: logged.append((facts[2], rights.held)))
    move.found = Resolved("/", os.open("/", os.O_PATH | os.O_DIRECTORY), -1, b"", 0)
    move.values = {"filename": ["/"]}
    return move


def test_a_refused_move_is_logged_with_our_own_rights() -> None:
    logged: list[tuple[str, bool]] = []
    move = moving(logged)
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        with pytest.raises(OSError) as caught:
            move.perform()
    finally:
        end.set()
        other.join()
        move.close()
    assert caught.value.errno == errno.EPERM
    assert logged == [(SHARED, False)]
