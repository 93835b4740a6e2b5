"""Whether an open file is in this process's mount namespace: by a walk of ours, or by the table."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certexec.run import mounts
from certexec.run.mounts import Mounts
from tests.isolation import skip_or_fail

CLONE_NEWNS = 0x20000
MS_PRIVATE, MS_REC, MS_BIND = 1 << 18, 1 << 14, 1 << 12
OPEN_PATH = os.O_PATH | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


def do(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Opens names in another mount namespace, in which a directory stands on another one, too."""
    if os.geteuid() != 0:
        skip_or_fail("only root makes mount namespaces")
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "file").write_text("there")
    (tmp_path / "here" / "file").write_text("here")
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do(_LIBC.unshare(CLONE_NEWNS))
            do(_LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
            source, target = os.fsencode(tmp_path / "there"), os.fsencode(tmp_path / "here")
            do(_LIBC.mount(source, target, None, MS_BIND, None))
            os.write(ready[1], b"r")
            os.close(done[1])
            os.read(done[0], 1)
            code = 0
        finally:
            os._exit(code)
    os.close(done[0])
    assert os.read(ready[0], 1) == b"r"
    opened: list[int] = []

    def look(name: str) -> int:
        opened.append(os.open(f"/proc/{pid}/root{tmp_path}/{name}", OPEN_PATH))
        return opened[-1]

    yield look
    os.close(done[1])
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (*opened, *ready):
        os.close(fd)


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Mounts) -> dict[int, bytes]:
        raise AssertionError("the table was read")

    monkeypatch.setattr(Mounts, "_read", refuse)


def test_a_file_of_ours_is_known_without_the_table(no_table: None, tmp_path: Path) -> None:
    fd = os.open(tmp_path, OPEN_PATH)
    assert Mounts().stay_home(fd) == os.fstat(fd).st_mode
    os.close(fd)


def test_after_a_few_the_table_is_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, OPEN_PATH)
    ours = Mounts()
    for _ in range(mounts._WALKS + 1):
        assert ours._table is None
        ours.stay_home(fd)
    assert ours._table is not None
    os.close(fd)


@pytest.mark.parametrize("name", ["here", "here/file", "there", "there/file", "."])
@pytest.mark.parametrize("known", [False, True])
def test_what_is_open_in_another_namespace_is_refused(
    elsewhere: Callable[[str], int], name: str, known: bool
) -> None:
    """Under a name that leads to something here, too, be it to the very same inode."""
    ours = Mounts()
    if known:
        ours._walks = mounts._WALKS
    fd = elsewhere(name)
    with pytest.raises(PermissionError):
        ours.stay_home(fd)


def test_what_has_no_name_here_is_told_by_the_table(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    fd = os.open(path, os.O_RDONLY)
    path.unlink()
    assert Mounts().stay_home(fd) == os.fstat(fd).st_mode
    os.close(fd)


def test_a_name_with_a_carriage_return_is_one_line_of_the_table(tmp_path: Path) -> None:
    """Whoever may mount somewhere chooses such names, and no supervisor would start."""
    if os.geteuid() != 0:
        skip_or_fail("only root mounts")
    place = tmp_path / "a\r4242 1 0:1 x y rw"
    place.mkdir()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do(_LIBC.unshare(CLONE_NEWNS))
            do(_LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
            do(_LIBC.mount(os.fsencode(tmp_path), os.fsencode(place), None, MS_BIND, None))
            fd = os.open(place, OPEN_PATH)
            found = Mounts().of(fd)
            code = 0 if found is not None and found.point == os.fsencode(place) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
