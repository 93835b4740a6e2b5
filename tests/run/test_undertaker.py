"""What strangers sent is looked at without being taken, and closed by who may wait for it."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from certexec.run import undertaker as module
from certexec.run.server_socket import SO_PASSCRED
from certexec.run.undertaker import Undertaker
from certexec.run.warm import peek_hello

HELLO = struct.pack("<4s9I", b"CXH1", 1, 0, 1, *[0] * 6)
HOUR = 3600
MANY = 2000
"""connections; a process that waits has room for some 300."""


def send(to: socket.socket, data: bytes, *fds: int) -> None:
    to.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
    ours.setblocking(False)
    return ours, theirs


def is_over(end: socket.socket) -> bool:
    """Tell whether the other end is gone; what it never read makes that an error, once it is."""
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A connection whose last close waits for its other end, which takes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, HOUR))
        one.setblocking(False)
        try:
            while True:
                one.send(bytes(65536))
        except BlockingIOError:
            one.setblocking(True)
        yield one


@pytest.mark.parametrize("good", [True, False])
def test_no_descriptor_is_taken_from_who_only_asks(good: bool) -> None:
    ours, theirs = pair()
    send(theirs, HELLO if good else b"x", 0)
    before = os.listdir("/proc/self/fd")
    assert peek_hello(ours) == (os.getuid() if good else None)
    assert os.listdir("/proc/self/fd") == before
    data, ancillary, _, _ = ours.recvmsg(100, 100)  # it is still there for who will take it
    assert data == (HELLO if good else b"x")
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            os.close(int.from_bytes(content[:4], "little"))


def test_an_introduction_without_a_certificate_is_none() -> None:
    ours, theirs = pair()
    theirs.send(HELLO)
    assert peek_hello(ours) is None


def test_the_other_end_sees_the_end_although_the_closing_takes_long(full: socket.socket) -> None:
    undertaker = Undertaker()
    signal.alarm(60)  # seconds; ends this process where it is kept
    try:
        ours, theirs = pair()
        send(theirs, HELLO, full.fileno())
        full.close()
        undertaker.bury(ours)
        for _ in range(MANY):  # more than the process that waits can take
            one, other = pair()
            undertaker.bury(one)
            assert is_over(other)
            other.close()
    finally:
        signal.alarm(0)
        undertaker.end()
        os.waitpid(-1, os.WNOHANG)


def test_processes_that_do_not_end_are_few_and_connections_are_held_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file system in user space keeps a process as long as it likes, whatever that is told."""
    monkeypatch.setattr(module, "ENDING_MAX", 2)
    monkeypatch.setattr(module, "HELD_MAX", 3)
    started: list[int] = []
    real = os.fork

    def fork() -> int:
        started.append(real())
        return started[-1]

    undertaker, others = Undertaker(), []
    try:
        with monkeypatch.context() as stuck:
            stuck.setattr(module, "SIGKILL", 0)  # is of no use
            stuck.setattr(module, "_work", lambda leash: time.sleep(HOUR))
            stuck.setattr(os, "fork", fork)
            for _ in range(MANY):
                ours, theirs = pair()
                undertaker.bury(ours)
                others.append(theirs)
                if undertaker.is_full:
                    break
            assert undertaker.is_full and len(started) == 3
            assert all(map(is_over, others))  # they see the end all the same
        undertaker.catch_up()
        assert ours.fileno() >= 0  # there are two still, and a third that takes nothing
        os.kill(started[0], signal.SIGKILL)
        os.waitpid(started[0], 0)
        undertaker.has_ended(started[0])
        undertaker.catch_up()
        assert not undertaker.holds and ours.fileno() == -1
    finally:
        undertaker.end()
        for pid in started[1:]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.waitpid(-1, os.WNOHANG)


class Slow(socket.socket):
    """A socket whose owner is kept from closing it for a while, as on a busy machine."""

    def close(self) -> None:
        time.sleep(0.3)  # seconds
        super().close()


def test_who_closes_late_is_not_the_last(full: socket.socket) -> None:
    undertaker = Undertaker()
    signal.alarm(60)  # seconds; ends this process where it is kept
    try:
        ours, theirs = pair()
        slow = Slow(fileno=ours.detach())
        send(theirs, HELLO, full.fileno())
        full.close()
        undertaker.bury(slow)
    finally:
        signal.alarm(0)
        undertaker.end()
        os.waitpid(-1, os.WNOHANG)


def test_nothing_is_closed_while_a_child_may_hold_it() -> None:
    undertaker = Undertaker()
    try:
        ours, theirs = pair()
        reader, writer = os.pipe2(os.O_NONBLOCK)
        send(theirs, HELLO, writer)
        os.close(writer)
        undertaker.heirs |= {1, 2}
        undertaker.bury(ours)
        undertaker.settled(1)
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        undertaker.settled(2)
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
        os.close(reader)
    finally:
        undertaker.end()
        os.waitpid(-1, os.WNOHANG)
