"""Where callers are, and what is known of a tree until somebody may leave."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.kernel.procfs import read_status
from certexec.kernel.syscalls import NUMBERS
from certexec.run import home as home_module
from certexec.run.call import Call, Fault, GoneError
from certexec.run.home import Home
from certexec.run.steady import Steady

UNSHARE_USER = 0x10000000


def call_of(name: str, first: int = 0, waits: bool = True) -> Call:
    listener: Any = SimpleNamespace(is_valid=lambda cookie: waits)
    registers = (first, 0, 0, 0, 0, 0)
    return Call(listener, Notification(1, os.getpid(), NUMBERS[name], 0, registers), name)


def home(log: list[str] | None = None) -> Home:
    judge: Any = SimpleNamespace(
        log=lambda call, verdict, reason, code: (log if log is not None else []).append(reason)
    )
    return Home(judge, Steady(False, []))


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError, PermissionError])
@pytest.mark.parametrize("waits", [True, False])
def test_a_caller_that_died_meanwhile_is_gone_and_one_that_waits_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], waits: bool
) -> None:
    here = home()

    def nothing_there(path: str) -> None:
        raise error(path)

    monkeypatch.setattr(home_module, "_namespaces", nothing_there)
    with pytest.raises(error if waits else GoneError):
        here.check(call_of("stat", waits=waits))


def test_once_one_was_at_home_all_are_until_one_may_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    here = home(logged)
    here.check(call_of("stat"))
    monkeypatch.setattr(home_module, "_namespaces", lambda pid: ())
    here.check(call_of("stat"))
    here.watch(call_of("unshare", 0x200))  # CLONE_FS: to no other place
    here.check(call_of("stat"))
    here.watch(call_of("unshare", UNSHARE_USER))
    with pytest.raises(Fault):
        here.check(call_of("stat"))
    assert logged == [home_module.FOREIGN]
    monkeypatch.undo()
    here.check(call_of("stat"))
    monkeypatch.setattr(home_module, "_namespaces", lambda pid: ())
    with pytest.raises(Fault):
        here.check(call_of("stat"))


class Reader:
    """Status files that can be read on, or not."""

    def __init__(self, reads: bool) -> None:
        self.reads = reads

    def reads_on(self, tid: int) -> bool:
        return self.reads and tid == os.getpid()


def test_a_first_thread_that_is_expected_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader: Any = Reader(True)
    here = home()
    here.expect(os.getpid(), reader)
    monkeypatch.setattr(home_module, "_namespaces", lambda pid: ())
    here.check(call_of("stat"))


@pytest.mark.parametrize("why", ["another place", "an ended thread", "somebody may leave"])
def test_what_cannot_be_expected_is_looked_at_when_it_calls(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    reader: Any = Reader(why != "an ended thread")
    here = home()
    if why == "somebody may leave":
        here.watch(call_of("unshare", UNSHARE_USER))
    with monkeypatch.context() as patched:
        if why == "another place":
            patched.setattr(home_module, "_namespaces", lambda pid: ())
        here.expect(os.getpid(), reader)
    monkeypatch.setattr(home_module, "_namespaces", lambda pid: ())
    with pytest.raises(Fault):
        here.check(call_of("stat"))


def test_a_thread_that_has_died_is_not_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_there(pid: str) -> None:
        raise ProcessLookupError(pid)

    reader: Any = Reader(True)
    here = home()
    monkeypatch.setattr(home_module, "_namespaces", nothing_there)
    here.expect(os.getpid(), reader)
    assert not here._all_are_here


def test_whoever_asks_to_leave_ends_what_was_known_of_rights() -> None:
    judge: Any = SimpleNamespace()
    steady = Steady(True, [])
    steady.rights = read_status(os.getpid())
    here = Home(judge, steady)
    here.watch(call_of("unshare", 0x200))
    assert steady.rights is not None
    here.watch(call_of("unshare", UNSHARE_USER))
    assert steady.rights is None


@pytest.mark.parametrize(
    ("name", "first"), [("setresuid", 5), ("setgroups", 0), ("capset", 1), ("prctl", 28),
                        ("prctl", 24)],
)  # fmt: skip
def test_whoever_asks_for_other_rights_ends_what_was_known_of_them(name: str, first: int) -> None:
    judge: Any = SimpleNamespace()
    steady = Steady(True, [])
    steady.rights = read_status(os.getpid())
    here = Home(judge, steady)
    here.watch(call_of("prctl", 15))  # PR_SET_NAME
    assert steady.rights is not None
    here.watch(call_of(name, first))
    assert steady.rights is None


@pytest.mark.parametrize("name", ["execve", "execveat"])
def test_an_exec_puts_off_what_was_known_of_rights_until_it_was_seen_and_keeps_its_callers(
    name: str,
) -> None:
    judge: Any = SimpleNamespace()
    steady = Steady(True, [])
    rights = steady.rights = read_status(os.getpid())
    call = call_of(name)
    call._steady = steady
    Home(judge, steady).watch(call)
    assert steady.rights is None and call.rights is rights
    steady.go_on(call.notification.cookie)
    assert steady.rights is rights


@pytest.mark.parametrize("left", [True, False])
def test_an_exec_that_the_kernel_has_not_made_leaves_all_as_it_was(left: bool) -> None:
    judge: Any = SimpleNamespace()
    steady = Steady(True, [])
    steady.rights = read_status(os.getpid())
    here, call = Home(judge, steady), call_of("execve")
    call._steady = steady
    here.watch(call)
    call.answer = (0, 0, left)
    here.answered(call)
    assert (steady.rights is None) is left


def test_the_place_of_who_has_a_dead_caller_s_number_says_nothing_about_the_tree() -> None:
    here = home()
    with pytest.raises(GoneError):
        here.check(call_of("open", waits=False))
    assert not here._all_are_here
    here.check(call_of("open"))
    assert here._all_are_here
