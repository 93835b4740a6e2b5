"""No exchange of names changes, or tells of, what was not judged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certexec.policy.calls import SUPERVISED as JUDGED
from tests.execution.world import ALICE, BY_NAMES, SERVICE
from tests.supervision.conftest import Cage

COUNT = 120
HERE = Path(__file__).parent
GRANTS: list[tuple[str, ...]] = [(), ("--setuid", "root"), ("--setuid", "service")]
TWO_NAMES = ("rename", "renameat", "renameat2", "link", "linkat")
FREE = ("chdir", "chroot", "execve", "execveat")
"""Judged as well, but other tests' matter."""


def within(directory: Path) -> tuple[str, ...]:
    """Permit every call that changes names or attributes, below one directory only."""
    here = f'filename match "{directory}"'
    return tuple(
        f'{name}: {here}{here.replace("filename", " and filename[1]") if name in TWO_NAMES else ""}'
        " then permit"
        for name in JUDGED if name not in (*BY_NAMES, *FREE)
    )  # fmt: skip


def state(directory: Path) -> list[tuple[object, ...]]:
    """Return all that a change would leave behind."""
    found = []
    for path in (directory, *sorted(directory.iterdir())):
        info = path.lstat()
        found.append((path, info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_size,
                      info.st_mtime_ns, info.st_ctime_ns, os.listxattr(path)))  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, GRANTS[0]) for kind in ("memory", "way", "leaf", "magic", "dirfd", "cwd")),
        *((kind, options) for kind in ("memory", "leaf") for options in GRANTS[1:]),
    ],
)
def test_no_exchange_reaches_what_was_not_judged(
    cage: Cage, place: Path, kind: str, options: tuple[str, ...]
) -> None:
    permitted, other = place / "permitted", place / "other"
    owner = {(): ALICE, GRANTS[1]: 0, GRANTS[2]: SERVICE}[options]
    for directory, word in ((permitted, "public"), (other, "secret")):
        directory.mkdir()
        file = directory / "file"
        file.write_text(word)
        os.setxattr(file, "user.which", word.encode())
        for path, mode in ((directory, 0o777), (file, 0o666)):
            path.chmod(mode)
            os.chown(path, owner, owner)
    place.chmod(0o755)
    program = cage.world.compile("path_races", (HERE / "path_races.c").read_text(), "-pthread")
    certificate = cage.certificate(within(permitted), options, program=program)
    passed, flags = (other / "file", os.O_RDWR) if kind == "magic" else (other, os.O_RDONLY)
    where = "exchange" if kind in ("way", "leaf") else "none"
    exchanger = cage.world.start(program, where, "0", str(permitted), str(other), uid=0)
    assert exchanger.stdout is not None
    try:
        assert exchanger.stdout.readline() == "ready\n"
        before = state(other)
        done = cage.world.run(
            certificate, kind, str(COUNT), str(permitted), str(other),
            before=f"os.dup2(os.open({str(passed)!r}, {flags}), 9)",
        )  # fmt: skip
    finally:
        exchanger.kill()
        exchanger.communicate()
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert state(other) == before
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) >= 5
    for call, *counts in lines:
        done_, denied, _, told = map(int, counts)
        assert told == 0, call
        assert denied > 0, f"{call}: nothing was exchanged"  # else this shows nothing
        assert done_ > 0 or call == "rename-old", call
