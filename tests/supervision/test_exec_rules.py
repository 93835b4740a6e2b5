"""Rules on the file and the arguments of an exec, judged before it and on what came of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.supervision.conftest import Cage

RUN = """
def ran(path, *argv):
    "What a child that executes this says, or the errno."
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        try:
            os.execv(path, [path, *argv])
        except OSError as error:
            os.write(writer, errno.errorcode[error.errno].encode())
        os._exit(9)
    os.close(writer)
    with open(reader) as file:
        said = file.read().strip()
    status = os.waitpid(pid, 0)[1]
    return said or str(status)
"""
ECHO = os.path.realpath("/bin/echo")
CAT = os.path.realpath("/bin/cat")


def exec_rules(*conditions: str) -> list[str]:
    """Return rules that permit these execs only, besides the first one, which is the launcher's."""
    return [f"execve: {one} then permit" for one in conditions]


def test_a_file_is_judged_by_its_real_path(cage: Cage, place: Path) -> None:
    link = place / "link"
    link.symlink_to(ECHO)
    code = RUN + "for path in sys.argv[1:]: print(ran(path, 'heard'))"
    rules = exec_rules(f'filename eq "{ECHO}"')
    said = cage.says(code, ECHO, str(link), CAT, str(place / "missing"), rules=rules)
    assert said.split() == ["heard", "heard", "EPERM", "EPERM"]


def test_a_denied_exec_answers_with_the_rules_errno_and_a_missing_file_with_the_kernels(
    cage: Cage, place: Path
) -> None:
    rules = [
        'execve: filename sub "<non-existent filename>" then permit',
        'execve: filename match "/usr/*" then deny[enoexec]',
    ]
    code = RUN + "for path in sys.argv[1:]: print(ran(path))"
    said = cage.says(code, str(place / "no/such"), ECHO, rules=rules)
    assert said.split() == ["ENOENT", "ENOEXEC"]


def test_arguments_are_judged_joined_by_spaces(cage: Cage) -> None:
    rules = exec_rules(f'filename eq "{ECHO}" and argv eq "{ECHO} one two"')
    code = RUN + f"print(ran({ECHO!r}, 'one', 'two')); print(ran({ECHO!r}, 'one', 'three'))"
    assert cage.says(code, rules=rules).splitlines() == ["one two", "EPERM"]


def test_execveat_is_judged_by_what_its_descriptor_stands_for(cage: Cage) -> None:
    code = (
        RUN
        + """
def at(fd, name, flags):
    pid = os.fork()
    if pid == 0:
        argv = (ctypes.c_char_p * 3)(b"echo", b"at", None)
        try:
            call(322, fd, name, argv, None, flags)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
at(os.open(sys.argv[1], os.O_RDONLY), b"", 0x1000)
at(os.open(sys.argv[2], os.O_RDONLY), b"", 0x1000)
at(os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY), os.path.basename(sys.argv[1]).encode(), 0)
at(os.open("/", os.O_RDONLY), b"nothing", 0x40)
"""
    )
    rules = exec_rules(f'filename eq "{ECHO}"')
    said = cage.says(code, ECHO, CAT, rules=rules, without=["execveat"])
    assert said.split() == ["at", "EPERM", "at", "EINVAL"]


def test_a_script_is_judged_by_its_own_path_and_arguments(cage: Cage, place: Path) -> None:
    script, other = place / "script", place / "other"
    for file in (script, other):
        file.write_text('#! /bin/sh -e\necho "$0 $1"\n')
        file.chmod(0o755)
    rules = exec_rules(f'filename eq "{script}" and argv eq "{script} word"')
    code = RUN + "for path in sys.argv[1:]: print(ran(path, 'word'))"
    said = cage.says(code, str(script), str(other), "/bin/sh", rules=rules)
    assert said.splitlines() == [f"{script} word", "EPERM", "EPERM"]


def test_bad_arguments_get_the_kernels_answer(cage: Cage) -> None:
    code = f"""
path = {ECHO!r}.encode()
def tell(*args):
    pid = os.fork()
    if pid == 0:
        try:
            call(59, *args)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
tell(8, 0, 0)
tell(path, 8, 0)
vector = (ctypes.c_ulong * 2)(8, 0)
tell(path, vector, 0)
tell(path, 0, 0)
"""
    said = cage.says(code, rules=exec_rules(f'filename eq "{ECHO}"'))
    assert said.split() == ["EFAULT", "EFAULT", "EFAULT"]  # the last one runs and echoes nothing


SWAP = """
import mmap
good, bad = (os.fsencode(one) for one in sys.argv[1:3])
size = len(good)
assert size == len(bad) and good[:-1] == bad[:-1]
shared = mmap.mmap(-1, 4096)
shared[:size] = good
def forever():
    one, other = good[-1], bad[-1]
    while True:
        shared[size - 1] = other
        shared[size - 1] = one
swapper = os.fork()
if swapper == 0:
    forever()
counts = {}
address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
def is_enough(number):
    # on a busy machine one of the outcomes may be long in coming
    least = int(sys.argv[3])
    return number >= least and ({"GOOD", "EPERM", "killed"} <= set(counts) or number >= 10 * least)
number = 0
while not is_enough(number):
    number += 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        argv = (ctypes.c_char_p * 3)(b"x", b"GOOD", None)
        try:
            call(59, ctypes.c_void_p(address), argv, None)
        except OSError as error:
            os.write(writer, errno.errorcode[error.errno].encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read().strip()
    status = os.waitpid(pid, 0)[1]
    key = said or ("killed" if status == 9 else str(status))
    counts[key] = counts.get(key, 0) + 1
os.kill(swapper, 9)
print(counts)
"""


@pytest.mark.timeout(180)
def test_a_path_that_changes_after_the_verdict_ends_at_the_exec_stop(
    cage: Cage, place: Path
) -> None:
    good, evil = place / "a", place / "b"
    shutil.copy(ECHO, good)
    shutil.copy(CAT, evil)  # cat GOOD fails and says so on stderr, never GOOD on stdout
    rules = exec_rules(f'filename eq "{good}"')
    done = cage.run(SWAP, str(good), str(evil), "300", rules=rules)
    assert done.returncode == 0, done.stderr
    counts = eval(done.stdout)
    assert set(counts) <= {"GOOD", "EPERM", "killed"}, counts
    assert "No such file" not in done.stderr  # what another program would have said
    assert counts["GOOD"] > 0 and counts["EPERM"] > 0 and counts.get("killed", 0) > 0, counts
    assert any("another file or other arguments" in line for line in cage.world.logged())
