"""A program's calls bare and confined, in the same directory: what they give and do is the same."""

from __future__ import annotations

import difflib
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SERVICE, World
from tests.supervision.conftest import Cage

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


def compare(cage: Cage, rules: Sequence[str], program: str, part: str, who: str) -> None:
    """Run one part of a program, as one of WHO, bare and under these rules; both say the same."""
    options, owner, uid = WHO[who]
    certificate = cage.certificate(rules, options, program=program)
    if who == "grant":
        bare = outcome(cage.world, program, part, owner, 0, LIKE_SET_USER_ID)
    else:
        bare = outcome(cage.world, program, part, owner, uid)
    confined = outcome(cage.world, certificate, part, owner, uid)
    assert len(bare) > 5
    other = list(difflib.unified_diff(bare, confined, "bare", "confined", n=2, lineterm=""))
    if other:
        pytest.fail("\n".join(other[:SHOWN]), pytrace=False)
