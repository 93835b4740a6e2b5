from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import RunError
from certexec.run.channel import CHUNK, Channel

HELLO = struct.Struct("<4s9I")
REPLY = struct.Struct("<4s4I")
IDS = (1000, 0, 0, 100, 100, 100)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    channel = Channel(ours.detach())
    yield channel, theirs
    channel.close()
    theirs.close()


def hello(
    theirs: socket.socket, *, magic: bytes = b"CXH1", version: int = 1, flags: int = 0,
    extra: bytes = b"", fds: tuple[int, ...] = (0,),
) -> None:  # fmt: skip
    send(theirs, HELLO.pack(magic, version, flags, 3, *IDS) + extra, *fds)


def send(end: socket.socket, data: bytes, *fds: int) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    end.sendmsg([data], rights)


def test_the_peer_is_the_one_whom_the_kernel_names(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    assert channel.peer_pid == os.getpid()
    assert (channel.peer_uid, channel.peer_gid) == (os.geteuid(), os.getegid())


def test_the_socket_is_not_inherited(ends: tuple[Channel, socket.socket]) -> None:
    assert not os.get_inheritable(ends[0].fileno())


def test_another_kind_of_descriptor_is_no_launcher(tmp_path: object) -> None:
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    for fd in (reader, 9999, one.detach()):
        with pytest.raises(RunError, match="there is no launcher"):
            Channel(fd)
    os.close(writer)
    other.close()


def test_ready_carries_the_own_pid(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    channel.send_ready()
    assert theirs.recv(100) == b"CXS1" + struct.pack("<I", os.getpid())


def test_a_hello_is_read(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    fd = os.open("/dev/zero", os.O_RDONLY)
    hello(theirs, flags=1, fds=(fd,))
    found = channel.recv_hello()
    assert (found.secure, found.run_form, found.argc) == (True, False, 3)
    ids = (found.ruid, found.euid, found.suid, found.rgid, found.egid, found.sgid)
    assert ids == IDS
    assert os.fstat(found.cert_fd).st_rdev == os.fstat(fd).st_rdev
    assert not os.get_inheritable(found.cert_fd)
    os.close(found.cert_fd)
    os.close(fd)
    hello(theirs, flags=2, fds=())
    found = channel.recv_hello()
    assert (found.run_form, found.cert_fd) == (True, -1)


@pytest.mark.parametrize(
    "change",
    [
        {"magic": b"CXH2"}, {"version": 2}, {"flags": 4}, {"extra": b"x"}, {"fds": ()},
        {"fds": (0, 1)}, {"flags": 2}, {"extra": bytes(100)},
    ],
)  # fmt: skip
def test_a_malformed_hello_is_refused_and_its_descriptors_closed(
    ends: tuple[Channel, socket.socket], change: dict[str, object]
) -> None:
    channel, theirs = ends
    before = len(os.listdir("/proc/self/fd"))
    hello(theirs, **change)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="malformed") as caught:
        channel.recv_hello()
    assert caught.value.reason == "internal"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_short_hello_is_refused(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    send(theirs, HELLO.pack(b"CXH1", 1, 0, 3, *IDS)[:-1], 0)
    with pytest.raises(RunError, match="malformed"):
        channel.recv_hello()


def test_a_launcher_that_ends_is_noticed(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.close()
    with pytest.raises(RunError, match="the launcher ended"):
        channel.recv_hello()
    with pytest.raises(RunError, match="cannot be reached"):
        channel.send_ready()
    with pytest.raises(RunError, match="cannot be reached"):
        channel.send_plan(b"x" * 300, 0)
    channel.send_refusal(126, "nobody hears it")
    assert channel.recv_listener(5) == -1


def refusal(theirs: socket.socket) -> tuple[int, bytes]:
    data = theirs.recv(4096)
    magic, version, kind, code, length = REPLY.unpack_from(data)
    assert (magic, version, kind) == (b"CXR1", 1, 0)
    text = data[REPLY.size :]
    assert len(text) == length
    assert 0 < length < 1024
    return code, text


def test_a_refusal_has_message_and_hint(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    channel.send_refusal(126, 'the binary "/bin/x" is not signed (binary-mismatch)', "sign it")
    assert refusal(theirs) == (
        126,
        b'the binary "/bin/x" is not signed (binary-mismatch)\ncertexec: hint: sign it',
    )


def test_an_unknown_exit_code_is_certexecs_own_fault(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    for code in (0, 1, 128, -1, 1 << 40):
        channel.send_refusal(code, "x")
        assert refusal(theirs)[0] == 125


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_no_text_breaks_a_refusal_or_moves_the_cursor(message: str, hint: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        channel = Channel(ours.detach())
        channel.send_refusal(126, message, hint)
        text = refusal(theirs)[1].decode()
        channel.close()
    lines = text.split("\n")
    assert len(lines) <= 2
    assert all(line.isprintable() for line in lines)
    if len(lines) == 2:
        assert lines[1].startswith("certexec: hint: ")


@pytest.mark.parametrize("size", [224, CHUNK, CHUNK + 1, 3 * CHUNK, 1_000_000])
def test_a_plan_travels_in_packets_with_the_programs_descriptor(
    ends: tuple[Channel, socket.socket], size: int
) -> None:
    channel, theirs = ends
    plan = os.urandom(size)
    fd = os.open("/dev/zero", os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        channel.send_plan(plan, fd)
        os._exit(0)
    os.close(fd)
    data, ancillary, _, _ = theirs.recvmsg(4096, socket.CMSG_SPACE(8))
    assert REPLY.unpack(data) == (b"CXR1", 1, 1, 0, size)
    (passed,) = array.array("i", ancillary[0][2])
    assert os.fstat(passed).st_rdev == os.stat("/dev/zero").st_rdev
    os.close(passed)
    got = b""
    while len(got) < size:
        packet = theirs.recv(1 << 20)
        assert 0 < len(packet) <= CHUNK
        got += packet
    assert got == plan
    assert os.waitpid(pid, 0)[1] == 0


def test_the_listener_is_received(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    send(theirs, b"L", 0)
    fd = channel.recv_listener(5)
    assert not os.get_inheritable(fd)
    os.close(fd)
    theirs.close()
    assert channel.recv_listener(5) == -1


@pytest.mark.parametrize(("data", "fds"), [(b"L", ()), (b"M", (0,)), (b"LL", (0,)), (b"L", (0, 1))])
def test_a_malformed_listener_message_is_refused(
    ends: tuple[Channel, socket.socket], data: bytes, fds: tuple[int, ...]
) -> None:
    channel, theirs = ends
    send(theirs, data, *fds)
    with pytest.raises(RunError, match="malformed"):
        channel.recv_listener(5)


def test_waiting_for_the_listener_ends(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    with pytest.raises(RunError, match="timed out"):
        channel.recv_listener(0.05)
    send(theirs, b"L", 0)
    os.close(channel.recv_listener(5))


def test_a_launcher_that_ends_with_something_unread_is_no_error(
    ends: tuple[Channel, socket.socket]
) -> None:
    channel, theirs = ends
    channel.send_ready()
    theirs.close()  # the kernel reports ECONNRESET then
    assert channel.recv_listener(5) == -1
