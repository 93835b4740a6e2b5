"""A caller dies while its call is carried out: whoever has its number by then is left alone."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.credentials import Mask
from certexec.kernel.notify import Notification
from certexec.kernel.procfs import read_status
from certexec.run import agent_protocol as protocol
from certexec.run.asking import Waiting
from certexec.run.call import Call, GoneError
from certexec.run.control import checked_credentials
from certexec.run.emulate_send import Send
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.emulate_truncate import Truncate
from certexec.run.emulate_xattr import _give
from certexec.run.foreign_call import ForeignCall
from certexec.run.kill import kill_caller
from certexec.run.protection import send_signal
from certexec.run.steady import Steady
from certexec.run.target import Target

ROOM = ctypes.create_string_buffer(b"untouched")
AT = ctypes.addressof(ROOM)


def dead(tid: int = 0, registers: tuple[int, ...] = (AT, AT, AT)) -> Call:
    """Return the call of somebody whose number a living process has, this one or another."""
    tid = tid or os.getpid()
    listener: Any = SimpleNamespace(is_valid=lambda cookie: False, answer=lambda *_, **__: False)
    given = Notification(1, tid, 0, 0, (*registers, *[0] * (6 - len(registers))))
    made = Call(listener, given, "read")
    made._status = read_status(tid)  # known since it lived
    return made


def operation(kind: type, **known: object) -> Any:
    made = kind.__new__(kind)
    made.__dict__.update({"call": dead(), **known})
    return made


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def send() -> Any:
    return operation(Send, stride=64, header=SimpleNamespace(size=0))


@pytest.mark.parametrize(
    "writes",
    [
        lambda: dead().write(0, b"written"),
        lambda: _give(dead(), AT, b"written"),
        lambda: send()._tell(0, 5),
    ],
    ids=["Call.write", "xattr", "sendmmsg"],
)
def test_nothing_is_written_to_another_s_memory(writes: Callable[[], None]) -> None:
    with pytest.raises(GoneError):
        writes()
    assert ROOM.value == b"untouched"


def test_no_descriptor_of_another_is_taken_or_kept() -> None:
    with open(os.devnull) as file:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(GoneError):
            copy_descriptor(dead(), file.fileno())
        assert os.listdir("/proc/self/fd") == before


def test_a_file_is_not_cut_by_the_limits_of_another(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    made = operation(Truncate, length=1, link=lambda: os.fsencode(file))
    with pytest.raises(GoneError):
        made.perform()
    assert file.read_bytes() == b"content"


def test_a_file_that_would_be_too_long_ends_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = iter([True, False])
    made = operation(Truncate, length=100, link=lambda: os.fsencode(tmp_path / "file"))
    (tmp_path / "file").touch()
    made.call.listener.is_valid = lambda cookie: next(lives)
    monkeypatch.setattr("certexec.run.emulate_truncate.file_size_limit", lambda tid: 10)
    with pytest.raises(GoneError):  # instead of SIGXFSZ
        made.perform()


def test_nobody_else_is_signalled(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Mask(False)
    made = dead(registers=(sleeper.pid, signal.SIGKILL))
    target = Target.__new__(Target)
    target._group, target._tgid, target._pidfd = False, sleeper.pid, os.pidfd_open(sleeper.pid)
    with pytest.raises(GoneError):
        target.signal(made, mask)
    target.close()
    pidfd = os.pidfd_open(sleeper.pid)
    monkeypatch.setattr("certexec.run.protection.copy_descriptor", lambda *_: os.dup(pidfd))
    with pytest.raises(GoneError):
        send_signal(dead(registers=(pidfd, signal.SIGKILL)), own_tgid=1)
    os.close(pidfd)
    with pytest.raises(GoneError):
        kill_caller(dead(sleeper.pid))
    sent: list[object] = []
    made = send()
    monkeypatch.setattr("certexec.run.emulate_send.syscall", lambda *words: sent.append(words))
    with pytest.raises(GoneError):
        made._signal_caller()
    assert sleeper.poll() is None and not sent


def test_no_socket_is_made_with_the_rights_of_another() -> None:
    listener: Any = SimpleNamespace(is_valid=lambda cookie: False)
    given = Notification(1, os.getpid(), 359, 0, (socket.AF_UNIX, socket.SOCK_STREAM, 0, 0, 0, 0))
    made = ForeignCall(listener, given, read_status, Steady(False, []), Mask(False))
    made._status = read_status(os.getpid())
    before = os.listdir("/proc/self/fd")
    with pytest.raises(GoneError):
        made._make_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
    assert os.listdir("/proc/self/fd") == before


def test_the_numbers_of_another_say_nothing_about_who_sends() -> None:
    own = read_status(os.getpid())
    data = b"".join(one.to_bytes(4, "little") for one in (os.getpid(), own.uids[0], own.gids[0]))
    with pytest.raises(GoneError):
        checked_credentials(dead(), data)


def test_a_permission_that_comes_too_late_permits_nothing() -> None:
    happened: list[bool] = []
    made: Any = Waiting.__new__(Waiting)
    made.operation = SimpleNamespace(call=dead())
    made.supervisor = SimpleNamespace(judge=None)
    made.go_on = lambda: happened.append(True)
    for outcome in (protocol.PERMIT, protocol.ALWAYS):
        with pytest.raises(GoneError):
            made._follow(outcome)
    assert not happened
