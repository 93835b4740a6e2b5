"""Which rights nobody can change, and how long they are taken for granted."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.kernel.procfs import Status
from certexec.policy.guards import PERMITTED, Clause, deny
from certexec.run import steady as steady_module
from certexec.run.call import Call
from certexec.run.steady import Steady

PLAIN = {
    b"Uid": b"1000 1000 1000 1000", b"Gid": b"100 100 100 100", b"Groups": b"100 27",
    b"Tgid": b"7", b"PPid": b"6", b"TracerPid": b"0", b"Umask": b"0022", b"NoNewPrivs": b"1",
    b"CapInh": b"0", b"CapPrm": b"0", b"CapEff": b"0", b"CapBnd": b"1ff", b"CapAmb": b"0",
}  # fmt: skip


BLIND: Any = SimpleNamespace(of=lambda number: [Clause((), PERMITTED)])
"""A table of a filter that lets every change pass."""
SHUT: Any = SimpleNamespace(of=lambda number: [Clause((), deny(1))])
"""And of one that lets none pass."""


def call(read: list[int], steady: Steady, **changes: bytes) -> Call:
    """A call whose caller's status is noted when it is read."""
    fields = {**PLAIN, **{name.encode(): value for name, value in changes.items()}}

    def look(tid: int) -> Status:
        read.append(tid)
        return Status(fields)

    listener: Any = SimpleNamespace(is_valid=lambda cookie: True)
    return Call(listener, Notification(1, os.getpid(), 0, 0, (0,) * 6), "stat", look, steady)


def test_what_nobody_can_change_is_read_once() -> None:
    read: list[int] = []
    steady = Steady(True, [BLIND])
    first = call(read, steady).rights
    assert call(read, steady).rights is first
    assert len(read) == 1
    assert first.uids == (1000, 1000, 1000, 1000) and first.groups == [100, 27]


def test_a_umask_and_a_process_are_never_taken_for_granted() -> None:
    read: list[int] = []
    steady = Steady(True, [BLIND])
    assert call(read, steady).rights.umask == 0o022
    later = call(read, steady, Umask=b"0077", Tgid=b"8")
    assert later.rights.umask == 0o022
    assert (later.status.umask, later.task.tgid) == (0o077, 8)
    assert len(read) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"NoNewPrivs": b"0"}, {"Uid": b"0 0 0 0"}, {"Uid": b"1000 1000 0 1000"},
        {"Uid": b"1000 1000 1000 1001"}, {"Gid": b"100 100 0 100"}, {"CapPrm": b"1"},
        {"CapEff": b"1"}, {"CapAmb": b"1"}, {"CapInh": b"1"},
    ],
)  # fmt: skip
def test_what_a_program_could_change_is_read_for_each_call(changes: dict[str, bytes]) -> None:
    read: list[int] = []
    steady = Steady(True, [BLIND])
    for _ in range(2):
        call(read, steady, **changes).rights  # noqa: B018 - it reads
    assert len(read) == 2


@pytest.mark.parametrize("ends", [False, True])
def test_nothing_is_taken_for_granted_beside_a_supervisors_own_rights_or_after_a_move(
    ends: bool,
) -> None:
    read: list[int] = []
    steady = Steady(ends, [BLIND])
    if ends:
        assert call(read, steady).rights is call(read, steady).rights
        read.clear()
        steady.end()
    for _ in range(2):
        call(read, steady).rights  # noqa: B018 - it reads
    assert len(read) == 2


@pytest.mark.parametrize(("tables", "reads"), [([SHUT], 1), ([SHUT, BLIND], 2)])
def test_whatever_the_rights_are_they_are_read_once_where_every_filter_tells_of_changes(
    tables: list[Any], reads: int
) -> None:
    read: list[int] = []
    steady = Steady(False, tables)
    for _ in range(2):
        call(read, steady, Uid=b"0 0 0 0", CapEff=b"1", NoNewPrivs=b"0").rights  # noqa: B018
    assert len(read) == reads


def test_a_table_is_asked_once_and_another_one_for_itself() -> None:
    asked: list[object] = []

    def table(decision: Any) -> Any:
        def of(number: int) -> list[Clause]:
            asked.append(decision)
            return [Clause((), decision)]

        return SimpleNamespace(of=of)

    shut, blind = table(deny(1)), table(PERMITTED)
    Steady(False, [shut])
    first = len(asked)
    Steady(False, [shut])
    assert len(asked) == first > 0
    told, untold = Steady(False, [shut]), Steady(False, [shut, blind])
    read: list[int] = []
    assert call(read, told).rights is call(read, told).rights
    assert call(read, untold).rights is not call(read, untold).rights


def test_few_tables_are_kept() -> None:
    for _ in range(3 * steady_module.KEPT_MAX):
        another: Any = SimpleNamespace(of=SHUT.of)
        Steady(False, [another])
    assert 0 < len(steady_module._known) <= steady_module.KEPT_MAX


# -- execs -----------------------------------------------------------------------------------------


def known() -> Steady:
    steady = Steady(True, [BLIND])
    steady.rights = Status({**PLAIN})
    return steady


def test_after_an_exec_that_changed_nobody_all_is_as_before() -> None:
    steady = known()
    rights = steady.rights
    steady.hold(7)
    assert steady.rights is None and steady.holds(7) and not steady.holds(8)
    steady.go_on(8)  # another one's
    assert steady.rights is None
    steady.go_on(7)
    assert steady.rights is rights and not steady.holds(7)


def test_while_an_exec_is_on_its_way_the_rights_of_each_call_are_read() -> None:
    steady, read = known(), list[int]()
    steady.hold(7)
    for _ in range(2):
        call(read, steady).rights  # noqa: B018 - it reads
    assert len(read) == 2
    steady.go_on(7)
    assert call(read, steady).rights is steady.rights and len(read) == 2


@pytest.mark.parametrize("other", ["exec", "change"])
def test_what_else_happens_during_an_exec_ends_it_for_good(other: str) -> None:
    steady, read = known(), list[int]()
    steady.hold(7)
    if other == "exec":
        steady.hold(8)
        steady.go_on(8)
    else:
        steady.end()
    steady.go_on(7)
    assert steady.rights is None
    for _ in range(2):
        call(read, steady).rights  # noqa: B018 - it reads
    assert len(read) == 2


def test_an_exec_brings_back_nothing_that_had_ended_before() -> None:
    steady, read = known(), list[int]()
    steady.end()
    steady.hold(7)
    steady.go_on(7)
    for _ in range(2):
        call(read, steady).rights  # noqa: B018 - it reads
    assert len(read) == 2
