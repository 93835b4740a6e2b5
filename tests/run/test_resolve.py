"""Names lead to the program's objects, never to the supervisor's."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.run.resolve import AT_FDCWD, NON_EXISTENT, Resolved, Resolver, split_last
from certexec.run.task import Task

SLEEPER = "import os, sys; os.chdir(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Task]:
    """Another process, whose working directory is ``tmp_path``."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "ready\n"
    yield Task(child.pid, child.pid)
    child.stdin.close()
    child.wait()
    child.stdout.close()


@pytest.fixture
def resolver() -> Resolver:
    return Resolver(os.getpid())


def found(resolved: Resolved) -> str:
    text = resolved.text
    resolved.close()
    return text


def test_a_name_becomes_the_real_path_of_what_it_leads_to(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert found(resolver.object(program, AT_FDCWD, b"link", True)) == f"{tmp_path}/file"
    assert found(resolver.object(program, AT_FDCWD, b"link", False)) == f"{tmp_path}/link"
    assert found(resolver.object(program, AT_FDCWD, b"./x/../file", True)).startswith(NON_EXISTENT)
    absolute = os.fsencode(tmp_path / "link")
    assert found(resolver.object(program, AT_FDCWD, absolute, True)) == f"{tmp_path}/file"


def test_a_missing_last_component_is_named_in_its_real_directory(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "way").symlink_to("dir")
    resolved = resolver.object(program, AT_FDCWD, b"way/new", True)
    assert (resolved.fd, resolved.error, resolved.last) == (-1, errno.ENOENT, b"new")
    assert os.path.samestat(os.fstat(resolved.parent), os.stat(tmp_path / "dir"))
    assert found(resolved) == f"{tmp_path}/dir/new"


def test_a_dangling_link_stands_for_the_file_that_it_would_make(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dangling").symlink_to("dir/target")
    resolved = resolver.object(program, AT_FDCWD, b"dangling", True)
    assert (resolved.fd, resolved.last) == (-1, b"target")
    assert found(resolved) == f"{tmp_path}/dir/target"


def test_a_name_below_a_missing_directory_leads_nowhere(
    resolver: Resolver, program: Task
) -> None:
    resolved = resolver.object(program, AT_FDCWD, b"/no/such/file", True)
    assert (resolved.fd, resolved.parent, resolved.error) == (-1, -1, errno.ENOENT)
    assert found(resolved) == NON_EXISTENT + "/no/such/file"


def test_the_empty_name_stays_empty(resolver: Resolver, program: Task) -> None:
    assert found(resolver.object(program, AT_FDCWD, b"", True)) == ""
    assert found(resolver.parent(program, AT_FDCWD, b"")) == ""


@pytest.mark.parametrize("name", [b"/proc/self/status", b"/proc/thread-self/../../status"])
def test_proc_self_is_the_programs(resolver: Resolver, program: Task, name: bytes) -> None:
    resolved = resolver.object(program, AT_FDCWD, name, True)
    with open(f"/proc/self/fd/{resolved.fd}") as status:
        assert f"\nPid:\t{program.tgid}\n" in status.read()
    assert found(resolved) == "/proc/self/status"


def test_a_descriptor_named_through_dev_fd_is_the_programs(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    ours = [os.open(tmp_path, os.O_PATH) for _ in range(64)]  # whatever number: ours would exist
    try:
        resolved = resolver.object(program, AT_FDCWD, b"/dev/fd/0", True)
        assert os.path.samestat(os.fstat(resolved.fd), os.stat(f"/proc/{program.tgid}/fd/0"))
        assert found(resolved).startswith("pipe:[")
        assert found(resolver.object(program, AT_FDCWD, b"/dev/fd/40", True)).startswith("/<non")
    finally:
        for fd in ours:
            os.close(fd)


def test_proc_self_cwd_leads_to_the_programs_directory(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    (tmp_path / "here").write_text("")
    name = b"/proc/self/cwd/here"
    assert found(resolver.object(program, AT_FDCWD, name, True)) == f"{tmp_path}/here"


@pytest.mark.parametrize(
    "template",
    [
        "/proc/{pid}/maps",
        "/proc/{pid}/task/{pid}/mem",
        "/proc/{pid}/fd",
        "/proc/{pid}/cwd/x",
        "/proc/{pid}/root/etc/passwd",
        "/proc/self/../{pid}/environ",
        "/proc/self/root/proc/{pid}/maps",
        "{tmp}/link/maps",
        "/dev/../proc/{pid}",
    ],
)
def test_the_supervisors_own_directory_cannot_be_reached(
    resolver: Resolver, program: Task, tmp_path: Path, template: str
) -> None:
    (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}")
    name = template.format(pid=os.getpid(), tmp=tmp_path)
    resolved = resolver.object(program, AT_FDCWD, name.encode(), True)
    assert (resolved.fd, resolved.error) == (-1, errno.EACCES)
    assert found(resolved).startswith(NON_EXISTENT)


def test_relative_names_start_at_the_programs_descriptors(
    resolver: Resolver, program: Task, tmp_path: Path
) -> None:
    resolved = resolver.object(program, 99, b"x", True)
    assert resolved.error == errno.EBADF
    resolved.close()


def test_last_components_are_split_with_their_slashes() -> None:
    assert split_last(b"a/b") == (b"a/", b"b")
    assert split_last(b"a/b//") == (b"a/", b"b//")
    assert split_last(b"x") == (b"", b"x")
    assert split_last(b"/") == (b"/", b"")
    assert split_last(b"/x") == (b"/", b"x")


def test_link_loops_end(resolver: Resolver, program: Task, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    resolved = resolver.object(program, AT_FDCWD, b"a", True)
    assert resolved.error == errno.ELOOP
    resolved.close()


def test_no_descriptor_is_left_behind(resolver: Resolver, program: Task, tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("/proc/self/fd")
    before = set(os.listdir("/proc/self/fd"))
    names = (b"l/0", b"/etc/passwd", b"/nope/x", b"..", b"l", b"/dev/stdin", b"x/", b"/proc/self/x")
    for name in names:
        resolver.object(program, AT_FDCWD, name, True).close()
        resolver.parent(program, AT_FDCWD, name).close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_unix_socket_file_resolves(resolver: Resolver, program: Task, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert found(resolver.object(program, AT_FDCWD, b"s", True)) == f"{tmp_path}/s"
