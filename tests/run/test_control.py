"""Control messages: walked along as the kernel does, and true about who sends them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.credentials import Mask
from certexec.kernel.procfs import in_initial_user_namespace, read_status
from certexec.run.call import Fault
from certexec.run.control import Control, checked_credentials, pack, parse
from certexec.run.emulate_send import Message, Send
from certexec.run.emulate_sockets import taken_family
from certexec.run.payload import Copy, Payload
from certexec.run.resolve import Task
from tests.isolation import skip_or_fail

NOBODY = 61009
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
UCRED = struct.Struct("=3i")


def header(length: int, level: int = 1, kind: int = 1) -> bytes:
    return struct.pack("=Qii", length, level, kind)


@pytest.mark.parametrize(
    ("data", "items", "rest"),
    [
        (b"", [], b""),
        (bytes(15), [], b""),
        (header(16), [(1, 1, b"")], b""),
        (header(20) + b"abcd", [(1, 1, b"abcd")], b""),
        (header(20) + b"abcdpad!" + header(17, 2, 3) + b"x", [(1, 1, b"abcd"), (2, 3, b"x")], b""),
        (header(20) + b"abcdpad!" + bytes(9), [(1, 1, b"abcd")], b""),
        (header(15), [], header(15)),
        (header(17), [], header(17)),
        (header(1 << 63), [], header(1 << 63)),
        (header(16) + header(33) + bytes(16), [(1, 1, b"")], header(33)),
    ],
)
def test_they_are_found_where_the_kernel_finds_them(
    data: bytes, items: list[tuple[int, int, bytes]], rest: bytes
) -> None:
    assert parse(data) == (items, rest)
    assert parse(pack(items, rest)) == (items, rest)


def call(status: Any, mask: Mask | None = None) -> Any:
    """Return a call of this process itself, or of the one that ``status`` is about."""
    task = Task(status.tgid, status.tgid)
    task.mask = mask
    return SimpleNamespace(task=task, status=status, still_waits=lambda: None)


def test_a_number_that_is_no_copy_is_never_passed_on() -> None:
    own = read_status(os.getpid())
    data = pack([(*RIGHTS, struct.pack("=2i", 1, 2))], b"")
    for domain in (socket.AF_INET, socket.AF_NETLINK):
        control = Control(call(own), domain, data)
        assert parse(control.packed(None)) == ([(*RIGHTS, struct.pack("=2i", -1, -1))], b"")
    control = Control(call(own), socket.AF_UNIX, data)
    try:
        ((_, _, numbers),), _ = parse(control.packed(None))
        assert list(struct.unpack("=2i", numbers)) == control.fds
        assert not {1, 2} & set(control.fds)
    finally:
        control.close()
    again = Control(call(own), socket.AF_UNIX, data, rights=False)
    assert (again.packed(None), again.fds) == (b"", [])
    with pytest.raises(Fault) as caught:
        Control(call(own), socket.AF_UNIX, pack([(*RIGHTS, struct.pack("=i", 1023))], b""))
    assert caught.value.code == errno.EBADF


@pytest.mark.parametrize("item", [(0, 7), (41, 57), (41, 5), (132, 7), (132, 8)])
def test_no_message_says_by_way_of_whom_it_goes(item: tuple[int, int]) -> None:
    own, data = call(read_status(os.getpid())), pack([(*item, bytes(8))], b"")
    for domain in (socket.AF_INET, socket.AF_INET6):
        with pytest.raises(Fault) as caught:
            Control(own, domain, data)
        assert caught.value.code == errno.EPERM
    assert Control(own, socket.AF_UNIX, data).packed(None) == data  # there it means nothing


def test_credentials_are_those_that_the_caller_may_claim() -> None:
    status = read_status(os.getpid())
    own = os.getpid()
    status.uids, status.gids = (1000, 1001, 1002, 0), (2000, 2001, 2002, 0)
    status.caps["eff"] = 0

    def said(pid: int, uid: int, gid: int) -> int:
        try:
            return UCRED.unpack(checked_credentials(call(status), UCRED.pack(pid, uid, gid)))[0]
        except Fault as fault:
            return -fault.code

    for uid in (1000, 1001, 1002):
        for gid in (2000, 2001, 2002):
            assert said(own, uid, gid) == own
    assert said(own, 0, 2000) == said(own, 1000, 0) == said(1, 1000, 2000) == -errno.EPERM
    assert said(own, -1, 2000) == said(own, 1000, -1) == -errno.EINVAL
    status.caps["eff"] = 1 << 7
    assert said(own, 0, 2000) == own and said(own, 1000, 0) == -errno.EPERM
    status.caps["eff"] = 1 << 6
    assert said(own, 1000, 0) == own and said(own, 0, 2000) == -errno.EPERM


def test_a_supervisor_that_may_names_the_callers_process() -> None:
    if os.geteuid() != 0 or not in_initial_user_namespace():
        skip_or_fail("needs root of the initial user namespace")
    caller = subprocess.Popen(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sleep", "60"]
    )
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        name = Path(f"/proc/{caller.pid}/comm")
        while name.read_text() != "sleep\n":  # setpriv changes one identity after the other
            time.sleep(0.001)
        status = read_status(caller.pid)
        assert status.uids[0] == status.gids[0] == NOBODY
        mask = Mask(True)
        send: Any = Send.__new__(Send)
        send.call, send.fd, send.domain = call(status, mask), one.fileno(), socket.AF_UNIX
        for data in (b"", pack([(1, 2, UCRED.pack(caller.pid, NOBODY, NOBODY))], b"")):
            message = Message(None, Payload(send.call, []), b"", 0)
            mask.assume(status)
            try:
                control = Control(send.call, socket.AF_UNIX, data)
                assert send._as_caller(message, Copy(b"x", 0), control, 0) == 1
            finally:
                mask.restore()
            ((_, _, told),) = other.recvmsg(9, 99)[1]
            assert UCRED.unpack(told) == (caller.pid, NOBODY, NOBODY)
    finally:
        caller.kill()
        caller.wait()
        one.close()
        other.close()


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "said", "sends", "binds"),
    [
        ("AF_INET", "SOCK_DGRAM", 0, 0, 2, 2),
        ("AF_INET", "SOCK_STREAM", 0, 0, 2, 2),
        ("AF_INET", "SOCK_RAW", 17, 0, 2, 2),
        ("AF_INET", "SOCK_DGRAM", 0, 2, None, None),
        ("AF_INET6", "SOCK_DGRAM", 0, 0, None, None),
        ("AF_INET6", "SOCK_RAW", 17, 0, 10, None),
        ("AF_UNIX", "SOCK_DGRAM", 0, 0, None, None),
        ("AF_NETLINK", "SOCK_RAW", 0, 0, None, None),
        ("AF_PACKET", "SOCK_RAW", 0, 2, 17, 17),
        ("AF_PACKET", "SOCK_DGRAM", 0, 0, 17, 17),
    ],
)
def test_an_address_is_one_of_the_family_that_the_kernel_takes_it_for(
    family: str, kind: str, protocol: int, said: int, sends: int | None, binds: int | None
) -> None:
    """AF_PACKET does not look: "inet-[1.0.0.0]:..." would be a frame to the first interface."""
    try:
        made = socket.socket(getattr(socket, family), getattr(socket, kind), protocol)
    except PermissionError:
        skip_or_fail("raw sockets are root's")
    with made:
        address = struct.pack("=H", said) + bytes(26)
        assert taken_family("sendto", made.fileno(), address) == sends
        assert taken_family("bind", made.fileno(), address) == binds
        if family != "AF_PACKET":
            assert taken_family("connect", made.fileno(), address) is None
