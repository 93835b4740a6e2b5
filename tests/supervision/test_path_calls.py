"""Calls that change names and attributes: what they give and do is what the bare kernel does."""

from __future__ import annotations

import difflib
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SERVICE, World
from tests.isolation import PROJECT
from tests.supervision.conftest import CHANGES, Cage

HERE = Path(__file__).parent
PARTS = [
    "renames", "links", "symlinks", "modes", "owners", "truncations", "utimes", "nodes", "pointers",
    "directories",
    "xattrs", "attributes", "watches", "bind mounts", "v for new mounts", "computer",
    "fspick", "quotas",
]  # fmt: skip
PASSED = """
os.dup2(os.open(".", os.O_PATH), 8)
os.dup2(os.open("link", os.O_PATH | os.O_NOFOLLOW), 10)
"""
"""Descriptors that nobody can open under a supervisor."""
SHOWN = 60
"""lines of a difference that are worth reading"""
LIKE_SET_USER_ID = (
    f"os.setgroups([]); os.setresgid({ALICE}, {ALICE}, {ALICE});"
    f"os.setresuid({ALICE}, {SERVICE}, {SERVICE})\n"
)
WHO = {
    "user": ((), ALICE, ALICE),
    "root": ((), 0, 0),
    "grant": (("--setuid", "service"), SERVICE, ALICE),
}
"""How the certificate is signed, who owns the files, who runs it."""


def grow(world: World, owner: int) -> Path:
    """Make a directory with one of everything that a name can lead to, always in one place."""
    home = world.directory("path-calls-home", owner=owner)
    for directory in ("dir", "dir/sub", "closed", "hidden", "theirs-dir", "sticky", "empty"):
        (home / directory).mkdir()
    for file in ("file", "dir/inner", "noperm", "closed/x", "hidden/x", "readonly", "theirs",
                 "sticky/theirs", "sticky/mine", "two words"):  # fmt: skip
        (home / file).write_text(f"content of {file}\n")
    Path(os.fsdecode(bytes(home) + b"/\xff\xfe")).write_text("bytes\n")
    for link, target in (
        ("link", "file"), ("dlink", "dir"), ("loop", "loop"), ("dangling", "nothing"),
        ("chain", "link"), ("absolute", f"{home}/file"), ("dir-to-self", "/proc/self"),
        ("sticky/link", "../file"),
    ):  # fmt: skip
        (home / link).symlink_to(target)
    os.mkfifo(home / "fifo")
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(home / "sock"))
    for path in [home, *home.rglob("*")]:
        os.lchown(path, owner, owner)
    for path in ("theirs", "theirs-dir", "sticky", "sticky/theirs", "sticky/link"):
        os.lchown(home / path, BOB, BOB)
    for path, mode in (("noperm", 0), ("closed", 0), ("hidden", 0o600), ("readonly", 0o444),
                       ("sticky", 0o1777)):  # fmt: skip
        (home / path).chmod(mode)
    return home


@pytest.fixture(scope="module")
def program(world_of_session: World) -> str:
    world = world_of_session
    flags = ["-pthread", "-Wno-format-truncation", f"-I{PROJECT}/tests/execution", f"-I{HERE}"]
    others = [str(HERE / f"{name}_calls.c") for name in ("attribute", "xattr", "mount")]
    return world.compile("path_calls", (HERE / "path_calls.c").read_text(), *others, *flags)


def outcome(
    world: World, path: str, part: str, owner: int, uid: int, before: str = ""
) -> list[str]:
    home = grow(world, owner)
    try:
        before += PASSED
        done = world.run(path, part, uid=uid, before=before, cwd=home, errors="backslashreplace")
    finally:
        shutil.rmtree(home)
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stdout[-300:])
    return done.stdout.splitlines()


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("part", PARTS)
def test_they_give_and_do_the_same_with_and_without_supervision(
    cage: Cage, program: str, part: str, who: str
) -> None:
    options, owner, uid = WHO[who]
    certificate = cage.certificate(CHANGES, options, program=program)
    if who == "grant":
        bare = outcome(cage.world, program, part, owner, 0, LIKE_SET_USER_ID)
    else:
        bare = outcome(cage.world, program, part, owner, uid)
    confined = outcome(cage.world, certificate, part, owner, uid)
    assert len(bare) > 5
    other = list(difflib.unified_diff(bare, confined, "bare", "confined", n=1, lineterm=""))
    if other:
        pytest.fail("\n".join(other[:SHOWN]), pytrace=False)
