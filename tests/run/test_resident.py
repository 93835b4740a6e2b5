"""Whom the resident server serves next, and who closes what came with a request."""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run import resident as resident_module
from certexec.run import undertaker as undertaker_module
from certexec.run import warm
from certexec.run.peer import Caller
from certexec.run.request import Request
from certexec.run.resident import (
    LOOK_EVERY,
    RESTING_MAX,
    RESTING_TIME,
    STARTING_TIME,
    SURPLUS_MAX,
    Resident,
)
from certexec.run.turns import ROOT, Turns
from certexec.run.undertaker import Undertaker
from certexec.run.warm import IDLE, RUNS, Child
from tests.run.test_undertaker import HELLO, full, is_over, pair, send

__all__ = ["full"]

SLOTS = 4


def server(since: float, *crowd: int) -> tuple[Any, list[int]]:
    """A server to which these users came, and whom it serves; none of the starts ever ends."""
    served: list[int] = []
    resident: Any = Resident.__new__(Resident)
    resident.starting, resident.starting_max, resident.turns = {}, SLOTS, Turns()

    def serve(uid: int, request: object) -> None:
        served.append(uid)
        resident.starting[len(served)] = SimpleNamespace(uid=uid, since=since)

    resident._serve = serve
    for uid in crowd:
        resident.turns.add(uid, SimpleNamespace(close=lambda undertaker: None))
    return resident, served


def test_who_stops_all_that_it_starts_does_not_keep_others_waiting() -> None:
    resident, served = server(time.monotonic() + 1000, *[1000] * 10)
    resident._serve_waiting()
    assert served == [1000] * (SLOTS // 2)
    resident.turns.add(1001, SimpleNamespace(close=lambda undertaker: None))
    resident._serve_waiting()
    assert served[SLOTS // 2 :] == [1001]
    assert resident.turns.waiting == 10 - SLOTS // 2


def test_a_start_that_takes_too_long_gives_its_slot_to_the_next() -> None:
    resident, served = server(time.monotonic() - 2 * STARTING_TIME, *[1000] * 3)
    for _ in range(2):
        resident._serve_waiting()
    assert served == [1000] * 3


def test_root_may_have_all_slots() -> None:
    resident, served = server(time.monotonic() + 1000, *[ROOT] * 10)
    resident._serve_waiting()
    assert served == [ROOT] * SLOTS


@pytest.fixture
def resident() -> Iterator[Any]:
    """A server that can serve, with nobody to serve; ends this process where it is kept."""
    one: Any = Resident.__new__(Resident)
    one.poll, one.undertaker, one.turns = select.epoll(), Undertaker(), Turns()
    one.children, one.leashes, one.idle, one.starting, one.silent = {}, {}, [], {}, {}
    one._warm_up = one._study = lambda what: None
    signal.alarm(60)  # seconds
    yield one
    signal.alarm(0)
    pid = one.undertaker._pid
    one.undertaker.end()
    if pid:
        os.waitpid(pid, 0)


class Start:
    """A request with a descriptor that nobody has taken, given to a child; ``theirs`` is its end.

    Attributes:
        launcher: the other end of the connection.
    """

    def __init__(self, resident: Any, fd: int) -> None:
        connection, self.launcher = pair()
        send(self.launcher, HELLO, fd)
        self.request = Request(connection, 0.0)
        facts: Any = SimpleNamespace(**dict.fromkeys(Caller.__slots__, 0), key=tuple)
        self.request.caller = facts
        leash, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child = Child(os.getpid(), leash, "", 0)
        resident.leashes[leash.fileno()] = resident.children[self.child.pid] = self.child
        resident.undertaker.heirs.add(self.child.pid)  # else who plays it here might close last
        resident.poll.register(leash.fileno(), select.EPOLLIN)
        resident._child_for = lambda key, groups: self.child
        self._undertaker = resident.undertaker
        resident._serve(1000, self.request)

    def end(self) -> None:
        """Let the child close all that it has."""
        self.theirs.close()
        self._undertaker.settled(self.child.pid)


def test_a_child_that_ends_at_once_leaves_the_last_close_to_nobody_who_serves(
    resident: Any, full: socket.socket
) -> None:
    start = Start(resident, full.fileno())
    full.close()
    start.theirs.close()  # with the connection, which it never took
    resident._listen_to(start.child)
    assert is_over(start.launcher)
    assert start.request.connection.fileno() == -1
    assert start.child.request is None


def test_a_child_that_speaks_out_of_turn_ends_its_request(
    resident: Any, full: socket.socket
) -> None:
    start = Start(resident, full.fileno())
    full.close()
    start.theirs.send(IDLE)
    resident._listen_to(start.child)
    assert is_over(start.launcher)
    start.end()


def test_a_child_teaches_once_for_each_request(resident: Any) -> None:
    taught: list[bytes] = []
    resident._study = taught.append
    reader, writer = os.pipe()
    start = Start(resident, writer)
    os.close(reader)
    os.close(writer)
    for message in (RUNS + b"first", IDLE + b"second", IDLE + b"third"):
        start.theirs.send(message)
    for _ in range(2):
        resident._listen_to(start.child)
    assert taught == [RUNS + b"first"]
    assert start.child.leash.fileno() == -1
    start.end()


def test_a_connection_is_kept_until_the_child_has_taken_all(resident: Any) -> None:
    reader, writer = os.pipe()
    start = Start(resident, writer)
    os.close(writer)
    assert start.request.connection.fileno() >= 0
    start.theirs.send(RUNS)
    resident._listen_to(start.child)
    assert start.child.request is None and start.request.connection.fileno() == -1
    start.end()
    assert os.read(reader, 1) == b""
    os.close(reader)


def answered(start: Start, *more: tuple[bytes, int]) -> None:
    """Take the request as a child does, and say that the program runs; ``more`` comes meanwhile."""
    _, ancillary, _, _ = start.theirs.recvmsg(65536, 1024)
    numbers = array.array("i")
    for _, _, content in ancillary:
        numbers.frombytes(content)
    theirs = socket.socket(fileno=numbers[0])
    _, ancillary, _, _ = theirs.recvmsg(1024, 1024)
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            os.close(int.from_bytes(content[:4], "little"))
    for data, fd in more:
        send(start.launcher, data, fd)
    start.theirs.send(RUNS)
    theirs.close()


@pytest.mark.parametrize("data", [b"L", b""])
def test_what_was_sent_after_the_child_took_all_is_not_closed_by_who_serves(
    resident: Any, full: socket.socket, data: bytes
) -> None:
    """By whoever has the launcher's end: who asks may trace it."""
    start = Start(resident, 0)
    answered(start, (data, full.fileno()))
    full.close()
    resident._listen_to(start.child)
    assert is_over(start.launcher)
    with pytest.raises(BrokenPipeError):
        start.launcher.send(b"L")
    assert start.request.connection.fileno() == -1 and resident.undertaker._pid
    start.end()


def test_a_launcher_that_read_nothing_harms_nobody_who_serves(resident: Any) -> None:
    start = Start(resident, 0)
    start.request.connection.send(b"a plan")
    answered(start)
    start.launcher.close()
    resident._listen_to(start.child)
    assert start.request.connection.fileno() == -1
    start.end()


def test_a_request_that_left_nothing_behind_is_closed_at_once(resident: Any) -> None:
    start = Start(resident, 0)
    answered(start)
    resident._listen_to(start.child)
    assert start.request.connection.fileno() == -1 and not resident.undertaker._pid
    start.end()


def test_a_server_that_ends_closes_nothing_last(resident: Any, full: socket.socket) -> None:
    start = Start(resident, full.fileno())
    full.close()
    start.end()
    resident._leave()
    start.request.connection.close()  # as its end does
    with pytest.raises(BlockingIOError):  # it is open still
        start.launcher.recv(1, socket.MSG_DONTWAIT)


def test_nobody_is_let_in_whose_connection_could_not_be_closed(
    resident: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        resident.listener, resident.listens, resident.wakeup = listener, True, -1
        resident.poll.register(listener.fileno(), select.EPOLLIN)
        monkeypatch.setattr(undertaker_module, "HELD_MAX", 1)
        monkeypatch.setattr(Undertaker, "keep", lambda self, one: False)  # no process takes it
        held, _ = pair()
        resident.undertaker.bury(held)
        resident._let_in()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.connect(address)
            assert resident.poll.poll(0) == []  # or the loop would never rest
            resident._accept()
            assert 0 < resident._patience() <= undertaker_module.RETRY
            monkeypatch.setattr(Undertaker, "keep", lambda self, one: True)
            resident._let_in()
            assert held.fileno() == -1 and not resident.undertaker.holds
            assert resident.poll.poll(0) == [(listener.fileno(), select.EPOLLIN)]
            accepted, _ = listener.accept()  # nobody else has
            accepted.close()


def test_whoever_has_said_nothing_when_looked_at_is_heard_when_it_does(resident: Any) -> None:
    connection, launcher = pair()
    fd = connection.fileno()
    resident.silent[fd] = Request(connection, time.monotonic() + 60)
    resident.poll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
    send(launcher, HELLO, launcher.fileno())
    assert [one for one, _ in resident.poll.poll(5)] == [fd]
    assert resident.poll.poll(0) == []  # told once
    hello = connection.recv(100)
    resident._hear(fd)
    assert fd in resident.silent
    send(launcher, hello, launcher.fileno())
    assert [one for one, _ in resident.poll.poll(5)] == [fd]
    resident._forget(fd)
    for one in (connection, launcher):
        one.close()


def test_after_a_start_that_is_never_said_to_run_it_is_looked_whether_another_version_counts(
    resident: Any,
) -> None:
    assert resident._patience() is None
    resident.starting[1] = SimpleNamespace(since=time.monotonic(), uid=0)
    resident.starting_max = 8
    assert 0 < resident._patience() <= STARTING_TIME
    resident.starting[1].since -= STARTING_TIME
    resident._serve_waiting()
    assert resident._patience() is None


@pytest.mark.parametrize("replaced", [True, False])
def test_a_new_version_is_looked_for_between_starts_and_among_them_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Where programs start all the time there is no moment between starts."""
    current = tmp_path / "current"
    current.symlink_to("versions/new" if replaced else "versions/old")
    now = 100.0
    monkeypatch.setattr(resident_module.time, "monotonic", lambda: now)
    one, _ = server(now)
    one.layout, one.version, one.looked = SimpleNamespace(current=str(current)), "versions/old", now
    assert one._is_replaced() is replaced
    one.starting[1] = SimpleNamespace(uid=1000, since=now)
    assert not one._is_replaced()
    now += LOOK_EVERY
    assert one._is_replaced() is replaced
    assert not one._is_replaced()


# -- who rests -------------------------------------------------------------------------------------


@pytest.fixture
def rested(resident: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server at whose children one can look: ``rest`` lets another one come to rest."""
    resident.now = 100.0
    monkeypatch.setattr(resident_module.time, "monotonic", lambda: resident.now)
    ends: list[socket.socket] = []

    def rest(key: tuple[object, ...] | None = ("kind",)) -> Child:
        leash, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends.append(theirs)
        child = Child(1000 + len(ends), leash, "", 0)
        child.key, child.uid = key, 1000
        resident.turns.started(1000)
        resident.leashes[leash.fileno()] = child
        resident.poll.register(leash.fileno(), select.EPOLLIN)
        if key is None:
            resident.idle.append(child)
        else:
            resident._rest(child)
        return child

    resident.rest = rest
    yield resident
    for one in [*ends, *(child.leash for child in resident.leashes.values())]:
        one.close()


def test_after_a_crowd_some_more_processes_rest_for_a_while_and_the_first_ones_go(
    rested: Any,
) -> None:
    crowd = [rested.rest() for _ in range(RESTING_MAX + SURPLUS_MAX + 2)]
    assert rested.idle == crowd[2:]
    assert rested._patience() == RESTING_TIME
    rested.now += RESTING_TIME - 0.5
    late = rested.rest()
    assert rested.idle == [*crowd[3:], late]
    rested._forget_late()
    assert rested.idle == [*crowd[3:], late]
    rested.now += 0.5
    rested._forget_late()
    assert rested.idle == [*crowd[-RESTING_MAX + 1 :], late]
    assert rested._patience() is None
    rested.now += 100 * RESTING_TIME
    rested._forget_late()
    assert len(rested.idle) == RESTING_MAX


def test_a_fresh_process_is_none_of_them(rested: Any) -> None:
    fresh = rested.rest(None)
    for _ in range(RESTING_MAX + 1):
        rested.rest()
    rested.now += RESTING_TIME
    rested._forget_late()
    assert fresh in rested.idle and len(rested.idle) == RESTING_MAX + 1


@pytest.mark.parametrize("why", ["executions", "memory"])
def test_a_process_that_will_serve_nobody_else_does_not_say_that_it_is_idle(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The next caller would be given to it, and find nobody."""
    execution = SimpleNamespace(serve=lambda fds: 0, grants=False, tell=lambda: None)
    monkeypatch.setattr(warm, "Execution", lambda *those: execution)
    monkeypatch.setattr(warm, "_caller", lambda facts: None)
    monkeypatch.setattr(warm, "_tidy", lambda: True)
    monkeypatch.setattr(warm, "EXECUTIONS_MAX" if why == "executions" else "LOOK_EVERY", 2)
    monkeypatch.setattr(warm, "own_memory", lambda: warm.OWN_MAX + (why == "memory"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(warm, "LEASH", theirs.detach())
    for _ in range(2):
        ours.sendmsg([warm.TASK], warm.rights_of([0]))
    known: Any = None
    assert warm.serve_by_turns(known, known) == 0
    assert [ours.recv(9) for _ in range(3)] == [warm.SETTLED, warm.IDLE, b""]
    ours.close()
