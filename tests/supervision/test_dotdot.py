"""no-dotdot: names with ".." are denied as they are written, whatever they lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.execution.world import ALICE
from tests.supervision.conftest import Cage


@pytest.fixture
def tree(place: Path) -> Path:
    (place / "a").mkdir()
    (place / "b").mkdir()
    (place / "b" / "file").write_text("x")
    (place / "link").symlink_to("a/../b/file")
    for path in (place / "a", place / "b", place / "b" / "file"):
        os.chown(path, ALICE, ALICE)
    return place


def test_a_name_is_denied_by_how_it_is_written(cage: Cage, tree: Path) -> None:
    code = """
os.chdir(sys.argv[1])
for name in ("b/file", "a/../b/file", "b/../b/file", "..", "../x", "b/..", "link", "b/..x"):
    opened = why(lambda: os.close(os.open(name, os.O_RDONLY)))
    print(opened, why(lambda: os.stat(name) and None))
"""
    said = cage.beyond("no-dotdot").says(code, str(tree)).splitlines()
    assert said == [
        "ok ok", *["EPERM EPERM"] * 5, "ok ok", "ENOENT ENOENT",
    ]  # fmt: skip


def test_without_it_they_are_names_like_others(cage: Cage, tree: Path) -> None:
    code = "os.chdir(sys.argv[1]); print(why(lambda: os.close(os.open('a/../b/file', 0))))"
    assert cage.beyond().says(code, str(tree)) == "ok"


def test_every_kind_of_call_with_a_name_is_looked_at(cage: Cage, tree: Path) -> None:
    code = """
os.chdir(sys.argv[1])
bad, good = "a/../b/new", "b/new"
for one in (
    lambda: os.mkdir(bad), lambda: os.rename("b/file", bad), lambda: os.rename(bad, good),
    lambda: os.link("b/file", bad), lambda: os.symlink("x", bad), lambda: os.chmod("b/../b", 0o700),
    lambda: os.truncate("b/../b/file", 0), lambda: os.utime("b/../b/file"),
    lambda: os.unlink("b/../b/file"), lambda: os.rmdir("b/../a"), lambda: os.chdir(".."),
    lambda: os.statvfs("..") and None,
    lambda: os.getxattr("b/../b/file", "user.x"), lambda: os.readlink("b/../link"),
    lambda: os.mkfifo(bad), lambda: os.execv("/usr/bin/../bin/true", ["true"]),
):
    print(why(one))
print(why(os.symlink, "../text/is/no/name", good), os.readlink(good))
"""
    said = cage.beyond("no-dotdot").says(code, str(tree)).splitlines()
    assert said[-1] == "ok ../text/is/no/name"
    assert set(said[:-1]) == {"EPERM"}


def test_the_log_holds_the_name_and_the_reason(cage: Cage, tree: Path) -> None:
    cage.world.logged()
    cage.beyond("no-dotdot").says("why(os.stat, '/etc/../etc/passwd')")
    lines = [line for line in cage.world.logged() if "filename: /etc/../etc/passwd" in line]
    assert len(lines) == 1 and "deny user: alice" in lines[0]
