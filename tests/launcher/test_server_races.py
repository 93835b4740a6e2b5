"""Between the clone of the server and the plan: what the invoker can do to hold the launcher up."""

from __future__ import annotations

import array
import resource
import socket
import time

import pytest

from tests.launcher.rig import USER, Rig, assert_refused

pytestmark = pytest.mark.root

LIMIT = 64


def fill_the_air() -> None:
    """Leave more descriptors in flight than the limit on open files, as an ordinary user."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for _ in range(2):
        rights = array.array("i", [0] * (LIMIT - 4))
        ends[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    for end in ends:
        end.set_inheritable(True)
        end.detach()
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def test_a_launcher_that_cannot_introduce_itself_does_not_wait_for_an_answer(rig: Rig) -> None:
    rig.server("serve(NOOP)")
    started = time.monotonic()
    done = rig.run(uid=USER, after=fill_the_air, close_fds=False, timeout=10)
    assert time.monotonic() - started < 5
    assert_refused(done, 125, "errno")
