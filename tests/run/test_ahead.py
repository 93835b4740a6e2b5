"""A process may begin before it is known who asks, and then neither answers nor touches anybody."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.errors import RunError
from certexec.run import server
from certexec.run.ahead import Habit
from certexec.run.channel import Channel
from certexec.run.peer import ElsewhereError
from certexec.run.request import Request
from certexec.run.resident import Resident
from certexec.run.server import Settings, attend
from certexec.run.turns import RUNNING_MAX, Turns
from certexec.run.undertaker import Undertaker
from certexec.run.warm import EARLY, GO, Child, Execution
from tests.run.test_undertaker import HELLO, pair, send

KIND: tuple[object, ...] = (os.getuid(), 0, (), False, "the rest")
OTHER: tuple[object, ...] = (os.getuid(), 0, (), False, "something else")
ELSEWHERE: Any = ElsewhereError("not a launcher")


def caller(kind: tuple[object, ...]) -> Any:
    return SimpleNamespace(key=lambda: kind)


@pytest.mark.parametrize("came", [[], [KIND], [OTHER, KIND], [KIND, KIND, OTHER], [OTHER, OTHER]])
def test_nothing_is_expected_before_two_of_a_kind(came: list[tuple[object, ...]]) -> None:
    habit, child = Habit(), SimpleNamespace(key=KIND)
    for one in came:
        habit.note(caller(one))
    assert habit.expects(os.getuid(), False, [child]) is None  # type: ignore[list-item]


def test_a_process_is_expected_to_do_only_for_the_same_ids() -> None:
    habit, child = Habit(), SimpleNamespace(key=KIND)
    for _ in range(2):
        habit.note(caller(KIND))
    idle: Any = [SimpleNamespace(key=None), SimpleNamespace(key=OTHER), child]
    assert habit.expects(os.getuid(), False, idle) is child  # type: ignore[comparison-overlap]
    assert habit.expects(os.getuid() + 1, False, idle) is None
    assert habit.expects(os.getuid(), True, idle) is None
    assert habit.expects(os.getuid(), False, idle[:2]) is None


class Scene:
    """A server that expects a caller, a process that is used to it, and a connection.

    Attributes:
        examined: what the examination comes to: a kind, or an error.
        seen: what had been said to the process by the time of the examination.
    """

    def __init__(self) -> None:
        self.resident: Any = Resident.__new__(Resident)
        one = self.resident
        one.poll, one.undertaker, one.turns = select.epoll(), Undertaker(), Turns()
        one.children, one.leashes, one.starting, one.starting_max = {}, {}, {}, 8
        one.habit = Habit()
        for _ in range(2):
            one.habit.note(caller(KIND))
        self.process = subprocess.Popen(["sleep", "60"])
        leash, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.settimeout(10)
        self.child = Child(self.process.pid, leash, "", 0)
        self.child.key = KIND
        one.idle, one.leashes[leash.fileno()] = [self.child], self.child
        one.children[self.child.pid] = self.child
        one.poll.register(leash.fileno(), select.EPOLLIN)
        one._examine = self._examine
        connection, self.launcher = pair()
        send(self.launcher, HELLO, 0)
        self.request = Request(connection, 0.0)
        self.examined: Any = KIND
        self.seen: list[bytes] = []
        self.connection: socket.socket | None = None

    def _examine(self, request: Request) -> None:
        if select.select([self.theirs], [], [], 0)[0]:
            data, fds, _, _ = socket.recv_fds(self.theirs, 100, 4)
            self.seen.append(data)
            self.connection = socket.socket(fileno=fds[0])
            os.close(fds[1])
        if isinstance(self.examined, Exception):
            raise self.examined
        request.caller = caller(self.examined)

    def was_killed(self) -> bool:
        return self.process.wait(10) == -signal.SIGKILL

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        pid = self.resident.undertaker._pid
        self.resident.undertaker.end()
        if pid:
            os.waitpid(pid, 0)


@pytest.fixture
def scene() -> Iterator[Scene]:
    one = Scene()
    yield one
    one.end()


def test_the_expected_caller_is_gone_on_with(scene: Scene) -> None:
    assert scene.resident._take_hello(scene.request)
    assert scene.seen == [EARLY] and scene.theirs.recv(100) == GO
    assert not scene.resident.turns.waiting and not scene.resident.idle
    assert scene.child.uid == os.getuid() and scene.child.request is scene.request
    assert scene.process.poll() is None


def test_another_caller_is_served_as_if_nobody_had_begun(scene: Scene) -> None:
    scene.examined = OTHER
    assert scene.resident._take_hello(scene.request)
    assert scene.seen == [EARLY] and scene.was_killed()
    with scene.theirs:
        assert scene.theirs.recv(100) == b""
    assert scene.resident.turns.waiting == 1 and not scene.resident.idle
    assert scene.request.connection.recv(100) == HELLO


def test_who_is_no_launcher_hears_of_nobody(scene: Scene) -> None:
    scene.examined = ELSEWHERE
    assert scene.resident._take_hello(scene.request)
    assert scene.seen == [EARLY] and scene.was_killed()
    assert scene.theirs.recv(100) == b""
    assert scene.launcher.recv(100) == b"" and not scene.resident.turns.waiting


def _waits(scene: Scene) -> None:
    scene.resident.turns.add(1, "somebody")


def _is_full(scene: Scene) -> None:
    scene.resident.starting_max = 0


def _has_enough(scene: Scene) -> None:
    scene.resident.turns.may_run = lambda uid: False


def _has_no_pidfd(scene: Scene) -> None:
    from certexec.run import ahead

    ahead.peer_pidfd = lambda connection: -1


@pytest.mark.parametrize("why", [_waits, _is_full, _has_enough, _has_no_pidfd])
def test_nobody_begins_early_where_others_have_to_wait(
    scene: Scene, why: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from certexec.run import ahead

    monkeypatch.setattr(ahead, "peer_pidfd", ahead.peer_pidfd)
    why(scene)
    scene.resident._take_hello(scene.request)
    assert scene.seen == [] and scene.resident.idle == [scene.child]
    assert scene.process.poll() is None


def test_who_has_enough_programs_has_no_process_that_begins() -> None:
    turns: Turns[int] = Turns()
    for _ in range(RUNNING_MAX):
        turns.started(1)
    assert not turns.may_run(1) and turns.may_run(2)


# -- in the process -----------------------------------------------------------------------------


class Begun:
    """An execution that has begun early, and both its ends."""

    def __init__(self, early: bool = True) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server = theirs
        self.execution = Execution(ours, None, Any, Any, early)  # type: ignore[arg-type]
        connection, self.launcher = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send(self.launcher, HELLO, 0)
        self.channel = Channel(connection.detach())
        self.settings = Settings()
        self.settings.admit = self.execution.admit

    def answers(self) -> bool:
        return bool(select.select([self.launcher], [], [], 0)[0])


def test_what_is_looked_at_can_be_received_again() -> None:
    begun = Begun()
    first = begun.channel.recv_hello(stays=True)
    second = begun.channel.recv_hello()
    assert first.ruid == second.ruid and first.cert_fd != second.cert_fd
    os.close(first.cert_fd)
    os.close(second.cert_fd)


def test_it_goes_on_once_it_hears_so_and_keeps_one_descriptor() -> None:
    begun = Begun()
    before = os.listdir("/proc/self/fd")
    kept = begun.channel.recv_hello(stays=True).cert_fd
    begun.server.send(GO)
    begun.execution.admit(begun.channel)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    os.close(kept)
    begun.execution.admit(begun.channel)  # a second time there is nothing to wait for


@pytest.mark.parametrize("word", [b"", EARLY])
def test_it_does_not_go_on_without_that_word(word: bytes) -> None:
    begun = Begun()
    if word:
        begun.server.send(word)
    begun.server.close()
    with pytest.raises(ElsewhereError):
        begun.execution.admit(begun.channel)


REFUSED = RunError("invoker-denied", "you may not")


@pytest.mark.parametrize("verdict", [REFUSED, OSError("broken"), None])
def test_before_that_word_nobody_is_answered_or_traced(
    monkeypatch: pytest.MonkeyPatch, verdict: Exception | None
) -> None:
    begun = Begun()
    begun.server.close()

    def decide(*_: object, **__: object) -> object:
        if verdict is not None:
            raise verdict
        return object()

    traced: list[int] = []
    monkeypatch.setattr(server, "decide", decide)
    monkeypatch.setattr(server, "Invoker", lambda pid: SimpleNamespace(pid=pid))
    monkeypatch.setattr(server.ptrace, "seize", traced.append)
    with pytest.raises(ElsewhereError):
        attend(begun.channel, begun.settings, lambda channel, settings: None)
    assert not begun.answers() and not traced
