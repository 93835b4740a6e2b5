"""What the kernel is given for a judged quotactl, and what the caller gets of its answer."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.run import emulate_quota
from certexec.run.call import Call, Fault
from certexec.run.emulate_quota import Quota
from certexec.run.resolve import Resolver

GET, SET, ON, OFF, STATE = 0x800007, 0x800008, 0x800002, 0x800003, 0x5808


class Listener:
    """Somebody waits for ever, and is told this."""

    said: tuple[int, int] | None = None

    def is_valid(self, cookie: int) -> bool:
        return True

    def answer(self, cookie: int, value: int = 0, error: int = 0) -> bool:
        self.said = value, error
        return True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the kernel was asked: command, real path of the device, number, what came with it."""
    seen: list[Any] = []

    def quotactl(number: int, command: int, device: bytes, who: int, data: Any) -> int:
        if isinstance(data, bytes):
            given: Any = os.fsdecode(os.path.realpath(data))
            if not os.path.exists(data):
                raise FileNotFoundError(errno.ENOENT, "missing")
        elif isinstance(data, int):
            given = data
        else:
            given = bytes(data.raw)
            data.raw = b"answer" + bytes(len(data.raw) - 6)
        where = os.fsdecode(os.path.realpath(device))
        seen.append((number, command >> 8, where, who, given))
        return 0

    monkeypatch.setattr(emulate_quota, "syscall", quotactl)
    yield seen


def ask(command: int, device: Path, who: int, data: Any) -> tuple[int, int]:
    """Make the call for this very process; returns (result, errno)."""
    name = ctypes.create_string_buffer(os.fsencode(device))
    address = data if isinstance(data, int) else ctypes.addressof(data)
    registers = (command << 8, ctypes.addressof(name), who, address, 0, 0)
    listener: Any = Listener()
    call = Call(listener, Notification(1, os.getpid(), 179, 0, registers), "quotactl")
    quota = Quota(call, Resolver(0))
    try:
        quota.perform()
    except OSError as error:
        return -1, error.errno or 0
    except Fault as fault:
        return -1, fault.code
    finally:
        quota.close()
    assert listener.said is not None
    return listener.said


def test_structures_go_in_and_come_out(tmp_path: Path, asked: list[Any]) -> None:
    device = tmp_path / "link"
    (tmp_path / "device").touch()
    device.symlink_to("device")
    room = ctypes.create_string_buffer(b"x" * 200, 200)
    assert ask(GET, device, 7, room) == (0, 0)
    assert room.raw == b"answer" + bytes(66) + b"x" * 128
    room.raw = b"y" * 200
    assert ask(SET, device, 8, room) == ask(STATE, device, 9, room) == (0, 0)
    assert ask(OFF, device, 0, room) == (0, 0)
    real = str(tmp_path / "device")
    assert asked == [
        (179, GET, real, 7, bytes(72)),
        (179, SET, real, 8, b"y" * 72),
        (179, STATE, real, 9, b"y" * 160),
        (179, OFF, real, 0, 8),
    ]
    assert room.raw == b"answer" + bytes(154) + b"y" * 40


def test_the_file_that_holds_quotas_is_the_one_that_was_judged(
    tmp_path: Path, asked: list[Any]
) -> None:
    for name in ("device", "file"):
        (tmp_path / name).touch()
    name = ctypes.create_string_buffer(os.fsencode(tmp_path / "file"))
    assert ask(ON, tmp_path / "device", 2, name) == (0, 0)
    assert asked == [(179, ON, str(tmp_path / "device"), 2, str(tmp_path / "file"))]
    (tmp_path / "loop").symlink_to("loop")
    name = ctypes.create_string_buffer(os.fsencode(tmp_path / "loop"))
    assert ask(ON, tmp_path / "device", 2, name) == (-1, errno.ELOOP)
    assert ask(ON, tmp_path / "device", 2, 8) == (-1, errno.EFAULT)
    assert ask(ON, tmp_path / "missing", 2, 8) == (-1, errno.ENOENT)


def test_bad_addresses_are_bad_for_the_kernel_too(tmp_path: Path, asked: list[Any]) -> None:
    (tmp_path / "device").touch()
    assert ask(SET, tmp_path / "device", 1, 8) == (0, 0)
    assert asked[0][4] == 8
    assert ask(GET, tmp_path / "device", 1, 8) == (-1, errno.EFAULT)
