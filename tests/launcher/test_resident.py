"""Step 4, first: a resident server is asked where there is one, and is never needed."""

from __future__ import annotations

import array
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from certexec.run.channel import READY_MAGIC, parse_hello, plan_head, ready, refusal
from certexec.run.plan import Plan
from tests.launcher.filters import ALLOW, RET, gate
from tests.launcher.rig import STRANGER, USER, Rig, assert_refused, become

pytestmark = pytest.mark.root
ONE_SHOT = 42
"""What the rig's own server lets run: a program that ends so."""
RESIDENT = 43


def answers(connection: socket.socket, *packets: bytes, hello: bool = True, fd: int = -1) -> None:
    """Take the introduction, then send these packets, the descriptor with the last but one."""
    if hello:
        data, fds, _, _ = socket.recv_fds(connection, 100, 4)
        said = parse_hello(data, fds[0])
        assert said is not None
        assert os.pread(fds[0], 3, 0) == b"CXT"
    for index, packet in enumerate(packets):
        rights = []
        if fd >= 0 and index == len(packets) - 2:
            content = array.array("i", [fd]).tobytes()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, content)]
        try:
            connection.sendmsg([packet], rights)
        except BrokenPipeError:
            return  # the launcher has heard enough


@contextmanager
def resident(
    rig: Rig, behave: Callable[[socket.socket], None], uid: int = 0
) -> Iterator[None]:
    """Let a child be the resident server for one connection."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(rig.socket))
    os.chmod(rig.socket, 0o666)
    ready_to_go, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if uid:
                become(uid)
            listener.listen(4)  # SO_PEERCRED tells who called it
            os.write(go, b"1")
            listener.settimeout(10)
            connection, _ = listener.accept()
            behave(connection)
            code = 0
        finally:
            os._exit(code)
    os.read(ready_to_go, 1)
    listener.close()
    try:
        yield
    finally:
        os.close(ready_to_go)
        os.close(go)
        _, status = os.waitpid(pid, 0)
        rig.socket.unlink()
    assert status == 0


def plan_for(uid: int) -> bytes:
    plan = Plan()
    plan.ruid = plan.euid = plan.rgid = plan.egid = uid
    plan.bpf, plan.patches = gate([RET(ALLOW)])
    return plan.encode()


@pytest.fixture
def shot(rig: Rig) -> Rig:
    rig.server("serve(NOOP)")
    return rig


@pytest.fixture(scope="session")
def other(rig_of_session: Rig) -> str:
    """A program that ends otherwise than the one-shot server's."""
    target = rig_of_session.home / "other"
    data = (rig_of_session.home / "noop").read_bytes()
    assert data.count(b"\xbf\x2a\x00\x00\x00") == 1  # mov $42, %edi
    target.write_bytes(data.replace(b"\xbf\x2a\x00\x00\x00", b"\xbf\x2b\x00\x00\x00"))
    target.chmod(0o755)
    return str(target)


def gives_plan(uid: int, path: str) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        plan = plan_for(uid)
        answers(connection, ready(), plan_head(plan), plan, fd=os.open(path, os.O_RDONLY))

    return behave


def test_its_plan_is_carried_out(shot: Rig, other: str) -> None:
    with resident(shot, gives_plan(USER, other)):
        assert shot.run(uid=USER).returncode == RESIDENT


def test_without_one_the_launcher_starts_its_own(shot: Rig) -> None:
    assert shot.run(uid=USER).returncode == ONE_SHOT


def test_a_refusal_is_carried_out(shot: Rig) -> None:
    def behave(connection: socket.socket) -> None:
        answers(connection, ready(), refusal(126, "not you (acl-denied)"))

    with resident(shot, behave):
        assert_refused(shot.run(uid=USER), 126, "not you (acl-denied)")


@pytest.mark.parametrize("uid", [USER, STRANGER])
def test_somebody_elses_server_is_not_believed(shot: Rig, other: str, uid: int) -> None:
    """Not even the invoker's own: nothing is sent to it."""

    def behave(connection: socket.socket) -> None:
        assert connection.recv(100) == b""

    with resident(shot, behave, uid=uid):
        assert shot.run(uid=USER).returncode == ONE_SHOT


def falls_silent(connection: socket.socket) -> None:
    connection.recv(100)
    time.sleep(2.5)


DOUBTS: dict[str, Callable[[socket.socket], None]] = {
    "closes at once": lambda connection: connection.close(),
    "closes after the introduction": lambda connection: answers(connection),
    "closes after it said that it is at work": lambda connection: answers(connection, ready()),
    "another version": lambda connection: answers(connection, b"CXS2" + ready()[4:]),
    "too short": lambda connection: answers(connection, READY_MAGIC),
    "too long": lambda connection: answers(connection, ready() + b"x"),
    "with a descriptor": lambda connection: answers(connection, ready(), b"x", fd=0),
    "a refusal first": lambda connection: answers(connection, refusal(126, "no")),
    "silent": falls_silent,
}


@pytest.mark.parametrize("setuid", [False, True])
@pytest.mark.parametrize("doubt", DOUBTS)
def test_whatever_is_not_as_it_must_be_leads_to_a_server_of_ones_own(
    shot: Rig, doubt: str, setuid: bool
) -> None:
    if setuid:
        shot.server("serve(NOOP, flags=plans.PLAN_PRIVILEGED)")
    with resident(shot, DOUBTS[doubt]):
        done = shot.run(uid=USER, setuid=setuid)
    assert (done.returncode, done.stderr) == (ONE_SHOT, "")


def test_a_plan_that_breaks_off_is_refused(shot: Rig, other: str) -> None:
    def behave(connection: socket.socket) -> None:
        plan = plan_for(USER)
        half = plan[: len(plan) // 2]
        answers(connection, ready(), plan_head(plan), half, fd=os.open(other, os.O_RDONLY))

    with resident(shot, behave):
        assert_refused(shot.run(uid=USER), 125, "policy server ended")


def test_its_plan_is_validated_like_every_other(shot: Rig, other: str) -> None:
    with resident(shot, gives_plan(STRANGER, other)):
        assert_refused(shot.run(uid=USER), 126, "another invoker")


def test_the_program_inherits_nothing_of_the_conversation(rig: Rig) -> None:
    python = os.path.realpath("/proc/self/exe")

    rig.server("serve()")
    usual = rig.probe(uid=USER)
    with resident(rig, gives_plan(USER, python)):
        found = rig.probe(uid=USER)
    assert sorted(found["fds"]) == sorted(usual["fds"])  # type: ignore[call-overload]
    assert not found["child"]


