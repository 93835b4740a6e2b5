"""A policy is given to who asked for it, and to no later process of that number."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.kernel.procfs import read_status
from certexec.run.adopt import Adoption
from certexec.run.call import Call, GoneError

NAME = ctypes.create_string_buffer(b"/other")
PLACE = 3


@pytest.mark.parametrize("dies", [True, False])
def test_who_dies_while_it_is_written_down_gets_nothing(dies: bool) -> None:
    events: list[str] = []
    given: dict[int, int] = {}
    listener: Any = SimpleNamespace(
        is_valid=lambda cookie: not (dies and events), answer=lambda cookie, **said: True
    )
    judge: Any = SimpleNamespace(
        policies=[SimpleNamespace(adopts=["/other"])],
        narrowing=SimpleNamespace(has_begun=lambda place: False),
        log=lambda call, verdict, *more: events.append(verdict),
    )
    transitions: Any = SimpleNamespace(
        has_given_up=lambda process: False, executed=given.__setitem__,
        reach=SimpleNamespace(named=lambda name: PLACE),
    )

    def root(tid: int) -> Any:
        status = read_status(tid)
        status.uids = (0, 0, 0, 0)
        return status

    registers = (0, ctypes.addressof(NAME), 0, 0, 0, 0)
    call = Call(listener, Notification(1, os.getpid(), 157, 0, registers), "prctl", root)
    if dies:
        with pytest.raises(GoneError):
            Adoption(judge, transitions).answer(call)
    else:
        Adoption(judge, transitions).answer(call)
    assert events == ["permit"]
    assert given == ({} if dies else {os.getpid(): PLACE})
