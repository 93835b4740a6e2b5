"""Trees that a policy leaves to Landlock: the kernel opens what lies in them, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.kernel.landlock import abi
from tests.execution.people import PYTHON
from tests.execution.world import ALICE, World, policy, wait_for
from tests.isolation import skip_or_fail

PLAIN, GRANT, MIXED = "kernel alone", "with a grant", "beside a supervisor"
ALL = pytest.mark.parametrize("mode", [PLAIN, GRANT, MIXED])
MOUNTS = ("mount", "umount2", "move_mount", "pivot_root", "fsconfig", "mount_setattr")
RENAMES = ("rename", "renameat", "renameat2", "link", "linkat")
LOOKS = ("stat", "lstat", "access", "readlink")
SYSTEM = ("/usr", "/lib", "/etc", "/dev", "/proc")

WHY = """
import errno, os, sys
def why(call, *arguments):
    try:
        result = call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    if isinstance(result, int) and result > 2:
        os.close(result)
    return "ok"
"""


@pytest.fixture(autouse=True)
def _landlock() -> None:
    if abi() < 3:
        skip_or_fail("needs Landlock that governs truncation (Linux 6.2)")


@pytest.fixture
def home(world: World) -> Iterator[Path]:
    """A directory with trees to read, to write to, and to keep out of."""
    home = world.directory("landlocked", owner=ALICE)
    for name in ("read", "write", "other"):
        (home / name).mkdir()
        (home / name / "file").write_text(f"in {name}\n")
    (home / "read/link-out").symlink_to("../other/file")
    (home / "other/link-in").symlink_to("../read/file")
    for path in [home, *home.rglob("*")]:
        os.lchown(path, ALICE, ALICE)
    yield home
    shutil.rmtree(home)


def text_of(home: Path, mode: str, *more: str, writes: bool = True, renames: bool = False) -> str:
    trees = [*SYSTEM, *(str(home / name) for name in ("read", "write"))]
    rules = [f'fsread: filename match "{tree}" then permit' for tree in trees]
    if writes:
        rules.append(f'fswrite: filename match "{home}/write/*" then permit')
    rules += [f"{name}: permit" for name in LOOKS]
    if mode == MIXED:
        rules.append('connect: sockaddr match "inet-127.0.0.1:*" then permit')
    without = [*MOUNTS, "mknod", "mknodat", "truncate", "chmod", "fchmodat", "io_uring_setup"]
    if mode == GRANT:
        without += ["execve", "execveat"]  # else the supervisor watches every exec
    if not renames:
        without += RENAMES
    whole = policy(PYTHON, *rules, *more, without=without)
    head, _, rest = whole.partition("\n")
    return f"Language: certexec 1\n{head}\n\tlandlock\n{rest}"


def certificate(world: World, home: Path, mode: str, text: str | None = None) -> str:
    text = text or text_of(home, mode)
    name = f"landlocked-{mode.split()[0]}"
    if mode == GRANT:
        return world.install(
            name, PYTHON, "--setuid", "alice", "--allow-user", "bob", text=text
        )
    return world.sign(name, PYTHON, text=text)


def says(world: World, path: str, code: str, home: Path, *, supervised: bool, **options: object) -> list[str]:  # noqa: E501
    """Return the words that Python code prints; nobody may look on unless ``supervised``."""
    whole = WHY + f"os.chdir({str(home)!r})\n" + code + "\nsys.stdout.flush(); sys.stdin.read()\n"
    program = world.start(path, "-I", "-S", "-c", whole, **options)
    assert program.stdout is not None
    line = program.stdout.readline()

    def looks_on() -> bool:
        return any("serve.py" in each for each in world.processes().values())

    if not supervised:  # root's server keeps the plan before it ends
        wait_for(lambda: not looks_on())
    looked_on = looks_on()
    assert program.communicate(timeout=20)[1] == ""
    assert looked_on == supervised
    return line.split()


def run(world: World, home: Path, mode: str, code: str, text: str | None = None) -> list[str]:
    path = certificate(world, home, mode, text)
    uid = 61002 if mode == GRANT else ALICE
    return says(world, path, code, home, supervised=mode == MIXED, uid=uid)


@ALL
def test_what_lies_in_the_trees_is_opened_and_nothing_else(
    world: World, home: Path, mode: str
) -> None:
    code = """
R, W = os.O_RDONLY, os.O_WRONLY
print(why(os.open, "read/file", R), why(os.open, "write/file", os.O_RDWR),
      why(os.open, "other/file", R), why(os.open, "read/file", W), why(os.listdir, "read"),
      why(os.listdir, "other"), why(os.open, ".", R), why(os.open, "other/none", R))
"""
    wanted = ["ok", "ok", "EACCES", "EACCES", "ok", "EACCES", "EACCES"]
    assert run(world, home, mode, code) == [*wanted, "ENOENT"]


@ALL
def test_names_are_made_and_removed_in_the_trees_only(world: World, home: Path, mode: str) -> None:
    code = """
C = os.O_WRONLY | os.O_CREAT
for where in ("write", "read", "other"):
    print(why(os.open, where + "/new", C), why(os.mkdir, where + "/dir"),
          why(os.unlink, where + "/file"), why(os.rmdir, where), end=" ")
print()
"""
    denied = ["EACCES"] * 4
    assert run(world, home, mode, code) == ["ok", "ok", "ok", "EACCES", *denied, *denied]
    assert (home / "read/file").exists()
    assert not (home / "write/file").exists()


@ALL
def test_no_way_round_leads_out_of_the_trees(world: World, home: Path, mode: str) -> None:
    code = """
R = os.O_RDONLY
print(why(os.open, "read/link-out", R), why(os.open, "other/link-in", R),
      why(os.open, "read/../other/file", R), why(os.open, "/proc/self/cwd/other/file", R),
      why(os.open, "/proc/self/root" + os.getcwd() + "/other/file", R),
      why(lambda: os.open("../other/file", R, dir_fd=os.open("read", R))),
      why(os.open, "read/file", R | os.O_TRUNC), why(os.open, "other/file", R | os.O_CREAT),
      why(os.open, "other", os.O_RDWR | os.O_TMPFILE), why(os.open, "other/file", os.O_PATH))
"""
    out = run(world, home, mode, code)
    looked_up = "EPERM" if mode == MIXED else "EACCES"  # the rules' own word, by the supervisor
    assert out == ["EACCES", "ok", *["EACCES"] * 7, looked_up]
    assert (home / "read/file").read_text() == "in read\n"


@ALL
def test_renames_that_are_permitted_cross_directories_but_gain_nothing(
    world: World, home: Path, mode: str
) -> None:
    code = """
os.rename("read/file", "write/moved")
print(why(os.rename, "other/file", "read/gained"), why(os.link, "other/file", "read/gained"))
"""
    text = text_of(home, mode, writes=False, renames=True)
    assert run(world, home, mode, code, text) == ["EXDEV", "EXDEV"]
    assert (home / "write/moved").exists()


def test_children_and_what_they_execute_stay_in_the_trees(world: World, home: Path) -> None:
    code = """
import subprocess
one = subprocess.run(["/usr/bin/cat", "read/file"], capture_output=True, text=True)
two = subprocess.run(["/usr/bin/cat", "other/file"], capture_output=True, text=True)
print(one.returncode, two.returncode, "denied" in two.stderr)
"""
    assert run(world, home, PLAIN, code) == ["0", "1", "True"]


def test_macros_stand_for_the_invoker(world: World, home: Path) -> None:
    text = text_of(home, PLAIN, 'fsread: filename match "$CWD" then permit', writes=False)
    code = 'print(why(os.open, "other/file", os.O_RDONLY), why(os.open, "/tmp", os.O_RDONLY))'
    path = certificate(world, home, PLAIN, text)
    for cwd, wanted in ((home, "ok"), (Path("/usr"), "EACCES")):
        found = says(world, path, code, home, supervised=False, cwd=cwd)
        assert found[0] == wanted


def test_a_program_that_lies_outside_its_trees_is_supervised_instead(
    world: World, home: Path
) -> None:
    program = world.copy(PYTHON, "elsewhere-python", 0o755)
    text = text_of(home, PLAIN).replace(PYTHON, program)
    path = world.sign("elsewhere", program, text=text)
    code = 'print(why(os.open, "read/file", 0), why(os.open, "other/file", 0))'
    assert says(world, path, code, home, supervised=True) == ["ok", "EPERM"]


@pytest.mark.parametrize("option", [("--log", "full"), ("--log-all",)])
def test_where_every_denial_is_to_be_told_the_supervisor_looks(
    world: World, home: Path, option: tuple[str, ...]
) -> None:
    path = world.sign("told", PYTHON, *option, text=text_of(home, PLAIN))
    code = 'print(why(os.open, "read/file", 0), why(os.open, "other/file", 0))'
    assert says(world, path, code, home, supervised=True) == ["ok", "EPERM"]


def test_a_policy_that_does_not_accept_landlock_is_supervised(world: World, home: Path) -> None:
    text = text_of(home, PLAIN).replace("\tlandlock\n", "")
    path = world.sign("unaccepted", PYTHON, text=text)
    code = 'print(why(os.open, "read/file", 0), why(os.open, "other/file", 0))'
    assert says(world, path, code, home, supervised=True) == ["ok", "EPERM"]


def test_a_tree_that_is_a_link_grants_nothing(world: World, home: Path) -> None:
    (home / "linked").symlink_to("other")
    rule = f'fsread: filename match "{home}/linked" then permit'
    code = 'print(why(os.open, "other/file", 0), why(os.open, "linked/file", 0))'
    text = text_of(home, PLAIN, rule, writes=False)
    assert run(world, home, PLAIN, code, text) == ["EACCES", "EACCES"]


def test_a_capable_program_beside_a_supervisor_is_supervised(world: World, home: Path) -> None:
    path = world.sign("capable", PYTHON, text=text_of(home, MIXED))
    code = 'print(why(os.open, "read/file", 0), why(os.open, "other/file", 0))'
    assert says(world, path, code, home, supervised=True, uid=0) == ["ok", "EPERM"]
