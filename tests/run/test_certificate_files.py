"""Which files a directory stands for, in which order, and what cannot be looked into."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from certexec.certificate.envelope import MAX_SIZE, PREFIX
from certexec.run.certificate_files import CLOSED, FOUND, NAMED, Item, expand, read_named


def shown(*paths: object) -> list[tuple[str, str]]:
    return [(item.path, item.how) for item in expand([str(path) for path in paths])]


def test_files_come_in_the_order_of_names_before_the_directories(tmp_path: Path) -> None:
    for name in ("b/x", "b/a/y", "c", "a", "d/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    wanted = [f"{tmp_path}/{name}" for name in ("a", "c", "b/x", "b/a/y", "d/z")]
    assert shown(tmp_path) == [(name, FOUND) for name in wanted]


def test_what_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    paths = [f"{tmp_path}/x", f"{tmp_path}/missing", "-"]
    assert shown(*paths) == [(path, NAMED) for path in paths]


def test_links_are_not_followed_and_make_no_loop(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/up").symlink_to("..")
    (tmp_path / "sub/self").symlink_to("self")
    (tmp_path / "sub/file").touch()
    (tmp_path / "link").symlink_to("sub/file")
    assert shown(tmp_path) == [(f"{tmp_path}/sub/file", FOUND)]
    assert shown(tmp_path / "sub/up") == [(f"{tmp_path}/sub/up/sub/file", FOUND)]


def test_deep_directories_are_no_deep_recursion(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(sys.getrecursionlimit() + 50):
        deep = Path(f"{deep}/d")
        if len(str(deep)) > os.pathconf("/", "PC_PATH_MAX") - 10:
            break
        os.mkdir(deep)
    Path(f"{deep.parent}/f").touch()
    try:
        assert [path for path, how in shown(tmp_path) if how == FOUND] == [f"{deep.parent}/f"]
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # Python's own way recurses


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    items = expand([str(tmp_path)])
    next(items)
    (tmp_path / "a").rmdir()
    (closed,) = items
    assert (closed.path, closed.how, closed.number) == (f"{tmp_path}/a", CLOSED, errno.ENOENT)
    with pytest.raises(FileNotFoundError):
        closed.read()


def test_only_what_begins_like_a_certificate_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PREFIX + b"x")
    (tmp_path / "b").write_bytes(b"x" + PREFIX)
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / "d").write_bytes(PREFIX + bytes(2 * MAX_SIZE))
    (tmp_path / "e").write_bytes(bytes(2 * MAX_SIZE))
    os.mkfifo(tmp_path / "f")
    found = [item.read() for item in expand([str(tmp_path)])]
    assert found == [PREFIX + b"x", None, None, PREFIX + bytes(MAX_SIZE + 1 - len(PREFIX)), None]


def test_a_file_that_became_something_else_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x"
    item = Item(str(path), FOUND)
    assert item.read() is None
    (tmp_path / "y").write_bytes(PREFIX)
    path.symlink_to("y")
    assert item.read() is None
    path.unlink()
    os.mkfifo(path)
    assert item.read() is None
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        assert item.read() is None
    path.unlink()
    path.mkdir()
    assert item.read() is None


@pytest.mark.parametrize("size", [0, 1, MAX_SIZE, MAX_SIZE + 1, 3 * MAX_SIZE])
def test_a_named_file_is_read_to_one_byte_too_many(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    assert read_named(str(tmp_path / "x")) == content[: MAX_SIZE + 1]


def test_what_grows_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    real = os.read

    def read(fd: int, count: int) -> bytes:
        data = real(fd, count)
        if data == b"one":
            with open(path, "ab") as file:
                file.write(b"two")
        return data

    monkeypatch.setattr(os, "read", read)
    assert read_named(str(path)) == b"onetwo"


def test_a_named_directory_or_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(OSError, match="regular"):
            read_named(str(tmp_path / name))
