"""Names on a proc file system, where the kernel would take the supervisor for the program."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from certexec.run import resolve as resolve_module
from certexec.run.resolve import AT_FDCWD, Resolver
from certexec.run.step import OPEN_PATH
from certexec.run.task import Task

NO_SYMLINKS = 0x04


@pytest.fixture
def program() -> Iterator[Task]:
    """Somebody whose calls are carried out with other rights than ours."""
    process = subprocess.Popen(["sleep", "60"])
    task = Task(process.pid, process.pid)
    mask: Any = object()
    task.mask = mask
    yield task
    process.kill()
    process.wait()


@pytest.fixture
def resolver() -> Resolver:
    return Resolver(os.getpid())


def is_own(resolver: Resolver, task: Task, path: str) -> bool:
    fd = os.open(path, OPEN_PATH)
    try:
        return resolver._is_own_place(task, fd)
    finally:
        os.close(fd)


def test_our_rights_help_only_to_what_tells_a_program_about_itself(
    resolver: Resolver, program: Task
) -> None:
    own = f"/proc/{program.tgid}"
    assert is_own(resolver, program, own) and is_own(resolver, program, f"{own}/fd")
    assert is_own(resolver, program, f"{own}/task/{program.tid}/ns")
    # of what it may only see with a right, that right counts
    assert not is_own(resolver, program, f"{own}/map_files")
    for other in ("/proc/1", "/proc", "/proc/sys", "/", "/dev"):
        assert not is_own(resolver, program, other), other
    program.mask = None
    assert not is_own(resolver, program, own)


@pytest.mark.parametrize("name", ["self/status", "1/comm", "1", "sys", "."])
def test_nothing_there_is_reached_by_the_kernel_s_own_walk(
    resolver: Resolver, program: Task, name: str
) -> None:
    found = resolver.object(program, AT_FDCWD, f"/proc/{name}".encode(), True, NO_SYMLINKS)
    assert (found.fd, found.parent) == (-1, -1)
    assert found.error == (errno.ELOOP if name.startswith("self") else errno.EXDEV)


def test_nor_is_anything_made_there(resolver: Resolver, program: Task) -> None:
    found = resolver.object(program, AT_FDCWD, b"/proc/1/none", True, NO_SYMLINKS)
    assert (found.fd, found.parent, found.error) == (-1, -1, errno.ENOENT)


def test_the_inside_of_a_process_under_another_policy_is_closed(
    resolver: Resolver, program: Task
) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        resolver.foreign = lambda one, another: one != another
        for task_of, closed in ((program.tgid, False), (other.pid, True)):
            for name in ("mem", "fd", "map_files"):
                path = f"/proc/{task_of}/{name}".encode()
                program.mask = None
                found = resolver.object(program, AT_FDCWD, path, True)
                assert (found.error == errno.EACCES) == closed, path
                assert (found.fd >= 0) != closed
                found.close()
            found = resolver.object(program, AT_FDCWD, f"/proc/{task_of}/status".encode(), True)
            assert found.fd >= 0
            found.close()
    finally:
        other.kill()
        other.wait()


def test_another_numbering_of_processes_has_no_self(
    resolver: Resolver, program: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = os.open("/proc", OPEN_PATH)
    try:
        assert resolver._own_name(program, root, b"self") == str(program.tgid).encode()
        monkeypatch.setattr(resolve_module, "own_number", lambda root: b"1")
        with pytest.raises(PermissionError):
            resolver._own_name(program, root, b"self")
    finally:
        os.close(root)
