"""Emulated calls give what the bare kernel gives, and do what it does."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SERVICE, SUPERVISED
from tests.supervision.conftest import CHANGES, Cage

TREES, CALLS, SEED = 60, 40, 7
HERE = Path(__file__).parent
BARE_WITH_GRANT = """
import os, sys
os.setgroups([])
os.setresgid({gid}, {gid}, {gid})
os.setresuid({uid}, {euid}, {euid})
os.chdir({place!r})
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What a set-user-ID program would be."""

FILES = ("f", "d/f", "d/e", "sub/sub2/x", "noexec/f", "ro/f", "st/mine", "name with space")
LINKS = (
    ("l_f", "f"), ("l_d", "d"), ("l_dang", "n1"), ("l_loop", "l_loop"), ("st/l", "../f"),
    ("l_noexec", "noexec"), ("l_secret", "secret"), ("l_slash", "d/"), ("l_dangd", "d/n1/"),
)  # fmt: skip
PRECEDENCE = 0.02
"""How many calls may fail with another error than bare where two of them apply at once."""


def grow(top: Path) -> None:
    """Make a tree with one of everything."""
    top.mkdir()
    for name in ("d", "sub", "sub/sub2", "noexec", "ro", "st", "deep"):
        (top / name).mkdir()
    for name in FILES:
        (top / name).write_text(f"content of {name}")
    (top / "secret").write_text("secret")
    (top / "st" / "his").write_text("his")
    os.link(top / "f", top / "hard")
    for name, to in (*LINKS, ("l_abs", f"{top}/d/f"), ("l_up", f"../{top.name}/d")):
        os.symlink(to, top / name)
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "sock"))
    for directory, directories, files in os.walk(top):
        for name in (".", *directories, *files):
            os.lchown(os.path.join(directory, name), ALICE, ALICE)
    for name, owner, mode in (("secret", 0, 0o600), ("st/his", BOB, 0o644), ("st", 0, 0o1777)):
        os.chown(top / name, owner, owner)
        os.chmod(top / name, mode)
    os.chmod(top / "noexec", 0o644)
    os.chmod(top / "ro", 0o555)


def state(top: Path) -> list[tuple[object, ...]]:
    """Return what a tree looks like now."""
    found = []
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            size = 0 if os.path.isdir(path) else info.st_size
            found.append((os.path.relpath(path, top), oct(info.st_mode), info.st_uid, info.st_gid,
                          size))  # fmt: skip
    return sorted(found)


def differs(bare: str, caged: str) -> bool:
    """Tell whether two lines say that something else happened; other errors are counted apart."""
    failed = " -> -1 "
    return bare != caged and not (failed in bare and failed in caged)


@pytest.mark.parametrize(
    ("options", "euid"),
    [((), ALICE), (("--setuid", "root"), 0), (("--setuid", "service"), SERVICE)],
)
def test_calls_do_the_same_with_and_without_supervision(
    cage: Cage, place: Path, options: tuple[str, ...], euid: int
) -> None:
    world = cage.world
    program = world.compile("same_calls", (HERE / "same_calls.c").read_text())
    certificate = cage.certificate((*SUPERVISED, *CHANGES), options, program=program)
    arguments = (str(SEED), str(TREES), str(CALLS))
    results = []
    for how in ("bare", "caged"):
        shutil.rmtree(place)
        place.mkdir()
        os.chown(place, ALICE, ALICE)
        for number in range(TREES):
            grow(place / f"t{number}")
        if how == "bare" and options:
            code = BARE_WITH_GRANT.format(uid=ALICE, gid=ALICE, euid=euid, place=str(place))
            done = world.run(sys.executable, "-I", "-S", "-c", code, program, *arguments, uid=0)
        else:
            path = program if how == "bare" else certificate
            done = world.run(path, *arguments, before=f"os.chdir({str(place)!r})")
        assert done.returncode == 0, (how, done.returncode, done.stderr)
        trees = done.stdout.split("tree ")[1:]
        results.append([
            (text.splitlines()[1:], state(place / f"t{number}"))
            for number, text in enumerate(trees)
        ])  # fmt: skip
    calls = other_errors = 0
    for number, ((bare, before), (caged, after)) in enumerate(zip(*results, strict=True)):
        assert len(bare) == len(caged) == CALLS
        for expected, got in zip(bare, caged, strict=True):
            calls += 1
            other_errors += expected != got
            assert not differs(expected, got), f"tree {number}\nbare  {expected}\ncaged {got}"
        assert before == after, f"tree {number}"
    assert other_errors <= PRECEDENCE * calls
