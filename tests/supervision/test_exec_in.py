"""exec-in: what is executed lies below the directories that are named, at both looks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.execution.world import ALICE
from tests.supervision.conftest import Cage
from tests.supervision.test_exec_rules import CAT, ECHO, RUN

BELOW = "exec-in /usr/bin"


@pytest.fixture
def outside(place: Path) -> Path:
    copy = place / "echo"
    shutil.copy(ECHO, copy)
    os.chown(copy, ALICE, ALICE)
    return copy


def test_only_files_below_it_run_by_whatever_name(cage: Cage, place: Path, outside: Path) -> None:
    (place / "in").symlink_to(ECHO)
    (place / "script").write_text("#!/bin/sh\necho script\n")
    (place / "script").chmod(0o755)
    code = RUN + "for path in sys.argv[1:]: print(ran(path, 'heard'))"
    names = [ECHO, str(place / "in"), str(outside), f"/usr/bin/../..{outside}",
             str(place / "script"), str(place / "missing")]  # fmt: skip
    said = cage.beyond(BELOW).says(code, *names).split()
    assert said == ["heard", "heard", "EACCES", "EACCES", "EACCES", "EACCES"]


def test_a_search_of_the_path_goes_on(cage: Cage, outside: Path) -> None:
    code = RUN + """
pid = os.fork()
if pid == 0:
    libc.setenv(b"PATH", sys.argv[1].encode(), 1)
    libc.execvp(b"echo", (ctypes.c_char_p * 3)(b"echo", b"found", None))
    os._exit(9)
os.waitpid(pid, 0)
"""
    assert cage.beyond(BELOW).says(code, f"{outside.parent}:/usr/bin") == "found"


def test_a_denial_of_the_rules_stays(cage: Cage) -> None:
    code = RUN + "for path in sys.argv[1:]: print(ran(path, '/dev/null'))"
    rules = [f'execve: filename eq "{CAT}" then deny[eperm]', 'execve: filename re "^" then permit']
    said = cage.beyond(BELOW).says(code, CAT, ECHO, rules=rules).split()
    assert said == ["EPERM", "/dev/null"]


def test_who_exchanges_the_file_after_the_first_look_is_killed(
    cage: Cage, place: Path, outside: Path
) -> None:
    """The link leads below /usr/bin when it is judged and elsewhere when it is executed."""
    code = """
import threading
link, inside, outside = sys.argv[1:]
def swap():
    while True:
        for target in (inside, outside):
            os.symlink(target, link + ".new")
            os.rename(link + ".new", link)
os.symlink(inside, link)
threading.Thread(target=swap, daemon=True).start()
ends = set()
end = time.monotonic() + 30
while time.monotonic() < end and not {-9, "EACCES", "ran inside"} <= ends:
    reader, writer = os.pipe()
    pid = os.posix_spawn("/usr/bin/env", ["env", "-i", link, "x"], {}, file_actions=[
        (os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
    os.close(writer)
    said = os.read(reader, 100)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ends.add({b"x\\n": "ran inside"}.get(said, said or {126: "EACCES"}.get(code, code)))
print(sorted(map(str, ends)), flush=True)
os._exit(0)
"""
    shutil.copy("/usr/bin/id", outside)
    os.chown(outside, ALICE, ALICE)
    said = cage.beyond(BELOW).says(code, str(place / "swapped"), ECHO, str(outside))
    assert "'-9'" in said and "uid=" not in said, said

