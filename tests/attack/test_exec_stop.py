"""The exec stop kills whatever is not the judged file, and nobody can put that off."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certexec.errors import RunError
from certexec.kernel.ownership import PersonalOwners, root_owners
from certexec.run import front, server
from certexec.run.server import Settings
from tests.attack.victims import Workshop

TIME_LIMIT = 10.0
"""seconds within which a run must end."""
PIPE_SIZE = 4096


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    base = tmp_path_factory.mktemp("exec-stop")
    yield Workshop(str(base))
    shutil.rmtree(base)


def launch(
    workshop: Workshop, certificate: str, stderr: int, mutate: Callable[[], None]
) -> int:
    """Run a certificate; return its wait status."""
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(stderr, 2)
            mutate()
            owners = PersonalOwners(root_owners() | {os.getuid()})
            settings = Settings(store=workshop.trust, owners=owners, may_grant=False, sinks=[])
            front.execute(certificate, (), settings, [])
        finally:
            os._exit(99)
    while time.monotonic() - begin < TIME_LIMIT:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"it did not end within {TIME_LIMIT} seconds")


def refuse_at_exec_stop() -> None:
    def refuse(pid: int, judged: object) -> None:
        raise RunError("binary-mismatch", "as if the file had been changed")

    server.confirm_at_exec_stop = refuse


def test_what_the_exec_stop_refuses_is_killed_and_its_user_told(
    workshop: Workshop, tmp_path: Path
) -> None:
    victim = workshop.binary(str(tmp_path), "told", "auto")
    reader, writer = os.pipe()
    status = launch(workshop, victim.certificate, writer, refuse_at_exec_stop)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert b"(binary-mismatch)" in pipe.read()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_a_full_pipe_for_its_stderr_does_not_put_the_kill_off(
    workshop: Workshop, tmp_path: Path
) -> None:
    victim = workshop.binary(str(tmp_path), "full", "auto")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    os.write(writer, bytes(PIPE_SIZE))
    try:
        status = launch(workshop, victim.certificate, writer, refuse_at_exec_stop)
    finally:
        os.close(reader)
        os.close(writer)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
