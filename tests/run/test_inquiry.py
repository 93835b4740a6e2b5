"""Who may answer a question, by what the kernel says of who listens and of who sends."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certexec.run import agent_protocol as protocol
from certexec.run import inquiry
from certexec.run.inquiry import Inquiry, Place
from tests.run.test_agent_protocol import event

OWN = os.geteuid()
NUMBER = 7
SEQPACKET = socket.SOCK_SEQPACKET


class Reached(Inquiry):
    """A question whose agent is the other end of a pair of sockets."""

    def __init__(self, theirs: int = 0, uids: tuple[int, ...] = (OWN,)) -> None:
        super().__init__(NUMBER, event(), [])
        ours, self.agent = socket.socketpair(socket.AF_UNIX, SEQPACKET | socket.SOCK_NONBLOCK)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket, self._uids = ours, uids
        self._pid = theirs or os.getpid()
        self._pidfd = os.pidfd_open(self._pid)

    def said(self) -> str:
        """Take whatever has been sent; returns the outcome."""
        self.step()
        return self.outcome


@pytest.fixture
def asked() -> Iterator[Reached]:
    made = Reached()
    yield made
    made.end(inquiry.WITHDRAWN)
    made.agent.close()


def answer(agent: socket.socket) -> None:
    agent.send(protocol.answer(NUMBER, "permit"))


def in_child(action: Callable[[], None]) -> int:
    """Do something in another process, which has ended then, but is still there."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_the_right_words_of_the_right_process_permit(asked: Reached) -> None:
    asked.agent.send(protocol.accept())
    assert asked.said() == ""
    assert b"question" in asked.agent.recv(protocol.QUESTION_MAX)
    answer(asked.agent)
    assert asked.said() == protocol.PERMIT


def test_an_answer_before_the_question_is_none(asked: Reached) -> None:
    answer(asked.agent)
    answer(asked.agent)
    assert asked.said() == inquiry.BAD_AGENT


def accepted(asked: Reached) -> None:
    asked.agent.send(protocol.accept())
    assert asked.said() == ""
    asked.agent.recv(protocol.QUESTION_MAX)


def test_another_process_with_the_agent_s_socket_does_not_answer(asked: Reached) -> None:
    accepted(asked)
    os.waitpid(in_child(lambda: answer(asked.agent)), 0)
    assert asked.said() == inquiry.BAD_AGENT


def test_nor_does_another_user(asked: Reached) -> None:
    accepted(asked)
    asked._uids = (OWN + 1,)
    answer(asked.agent)
    assert asked.said() == inquiry.BAD_AGENT


def test_nor_who_has_ended_since(asked: Reached) -> None:
    accepted(asked)
    pid = in_child(lambda: answer(asked.agent))
    try:
        os.close(asked._pidfd)
        asked._pid, asked._pidfd = pid, os.pidfd_open(pid)
        assert asked.said() == inquiry.BAD_AGENT
    finally:
        os.waitpid(pid, 0)


def test_an_answer_with_descriptors_or_with_more_behind_it_is_none() -> None:
    word = protocol.answer(NUMBER, "permit")
    for send in (
        lambda agent: socket.send_fds(agent, [word], [0]),
        lambda agent: agent.send(word + bytes(protocol.ANSWER_MAX)),
        lambda agent: agent.send(word + b"\0"),
        lambda agent: agent.send(b""),
        lambda agent: agent.close(),
    ):  # fmt: skip
        made = Reached()
        accepted(made)
        before = len(os.listdir("/proc/self/fd"))
        send(made.agent)
        assert made.said() == inquiry.BAD_AGENT
        made.agent.close()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_time_denies_and_what_is_settled_stays(
    asked: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(asked)
    assert asked.said() == ""
    asked._end = time.monotonic()
    assert asked.said() == inquiry.TIMED_OUT
    asked.end(protocol.PERMIT)
    assert asked.said() == inquiry.TIMED_OUT


# ---- who listens ----


class Here(Place):
    """A place of an agent, whoever can write there."""

    def open(self) -> int:
        return os.open(self.directory, os.O_PATH)


def listens(place: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, SEQPACKET)
    made.bind(str(place / protocol.SOCKET))
    made.listen(4)
    return made


def outcome(place: Path, uid: int = OWN) -> str:
    """Return what comes of asking there once: "" for an agent that was asked."""
    made = Inquiry(NUMBER, event(), [Here(str(place), (uid,))])
    made.step()
    found = made.outcome
    made.end(inquiry.WITHDRAWN)
    return found


def test_whose_process_listens_and_how_confined_it_is_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listens(tmp_path):
        assert outcome(tmp_path) == ""
        assert outcome(tmp_path, uid=OWN + 1) == inquiry.NO_AGENT
        monkeypatch.setattr(inquiry, "_filters", lambda pid: 1 if pid == "self" else 2)
        assert outcome(tmp_path) == inquiry.NO_AGENT
        monkeypatch.setattr(inquiry, "_filters", lambda pid: 2)  # as many as we have
        assert outcome(tmp_path) == ""


def test_a_process_that_has_ended_is_no_agent_whoever_keeps_its_socket(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    pid = in_child(lambda: socket.send_fds(theirs, [b"x"], [listens(tmp_path).detach()]))
    _, (kept,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        assert outcome(tmp_path) == inquiry.NO_AGENT
    finally:
        for one in (ours, theirs):
            one.close()
        os.close(kept)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(("uid", "counts"), [(0, False), (1000, True)])
def test_before_linux_6_5_nobody_answers_root_s_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, counts: bool
) -> None:
    monkeypatch.setattr(inquiry, "_SO_PEERPIDFD", 999)  # no option that any kernel knows
    monkeypatch.setattr(inquiry.os, "geteuid", lambda: uid)
    with listens(tmp_path):
        assert outcome(tmp_path) == ("" if counts else inquiry.NO_AGENT)


def test_where_who_listens_cannot_be_told_for_another_reason_nobody_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strange(socket.socket):
        def getsockopt(self, level: int, option: int, *more: Any) -> Any:
            if option == inquiry._SO_PEERPIDFD:
                raise OSError(errno.ESRCH, "it has ended")
            return super().getsockopt(level, option, *more)

    monkeypatch.setattr(
        protocol, "new_socket", lambda: Strange(socket.AF_UNIX, SEQPACKET | socket.SOCK_NONBLOCK)
    )
    monkeypatch.setattr(inquiry.os, "geteuid", lambda: 1000)
    with listens(tmp_path):
        assert outcome(tmp_path) == inquiry.NO_AGENT
