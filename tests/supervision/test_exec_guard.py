"""In a tree with a grant nobody comes out of an exec with more, whoever calls it and however."""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path

import pytest

from tests.execution.world import BOB
from tests.supervision.conftest import Cage, wait_for

KILLED, SAID_NO = "9", str(9 << 8)
SHOW = """
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    char text[2048] = { 0 };
    int fd = open("/proc/self/status", O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
        write(1, strstr(text, "Uid:"), strchr(strstr(text, "Uid:"), 10) - strstr(text, "Uid:") + 1);
    return 0;
}
"""
EXECS = """
def executed(path):
    try:
        os.execv(path, [path])
    except OSError as error:
        os.write(1, f"{errno.errorcode[error.errno]}\\n".encode())
    os._exit(9)
def forked(path):
    pid = os.fork()
    if pid == 0:
        executed(path)
    return os.waitpid(pid, 0)[1]
def spawned(path):  # vfork(2)
    try:
        return os.waitpid(os.posix_spawn(path, [path], {}), 0)[1]
    except OSError as error:
        print(errno.errorcode[error.errno])
        return 9 << 8
def threaded(path):  # not the first thread, and several at once
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            _thread.start_new_thread(executed, (path,))
        time.sleep(20)
    return os.waitpid(pid, 0)[1]
def traced(path):
    pid = os.fork()
    if pid == 0:
        libc.ptrace(0, 0, 0, 0)
        executed(path)
    while True:
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSTOPPED(status):
            return status
        libc.ptrace(7, pid, 0, 0)
ways = {"fork": forked, "spawn": spawned, "thread": threaded, "traced": traced}
for name in sys.argv[1].split(","):
    for path in sys.argv[2:]:
        sys.stdout.flush()
        result = ways[name](path)
        print("->", name, os.path.basename(path), result, flush=True)
"""


@pytest.fixture
def files(cage: Cage, place: Path) -> dict[str, str]:
    """Programs that show their ids, with all the bits that give rights."""
    show = cage.world.compile("show", SHOW, "-Wno-unused-result")
    made = {}
    for name, mode, owner, capability in (
        ("plain", 0o755, 0, 0), ("suid", 0o4755, 0, 0), ("sgid", 0o2755, 0, 0),
        ("caps", 0o755, 0, 1 << 21), ("bobs", 0o4755, BOB, 0),
    ):  # fmt: skip
        path = place / name
        shutil.copy(show, path)
        os.chown(path, owner, owner)
        os.chmod(path, mode)
        if capability:
            value = struct.pack("<5I", 0x02000001, capability, 0, 0, 0)
            os.setxattr(path, "security.capability", value)
        made[name] = str(path)
    script = place / "script"
    script.write_text(f"#!{made['suid']}\n")
    script.chmod(0o755)
    return {**made, "script": str(script)}


def outcomes(said: str) -> dict[str, str]:
    """Return "WAY FILE" to the wait status."""
    lines = [line.split() for line in said.splitlines() if line.startswith("->")]
    return {f"{way} {name}": status for _, way, name, status in lines}


def told(text: str, lines: list[str]) -> int:
    """Return of how many events with this text the log tells."""
    found = [line for line in lines if text in line]
    return sum(int(many[1]) if (many := re.search(r": folded (\d+) more ", line)) else 1
               for line in found)  # fmt: skip


@pytest.mark.parametrize("way", ["fork", "spawn", "thread"])
def test_bits_that_give_rights_end_the_program(
    cage: Cage, files: dict[str, str], way: str
) -> None:
    cage.world.logged()
    said = cage.says(EXECS, way, *files.values(), options=("--setuid", "service"))
    assert outcomes(said) == {
        f"{way} plain": "0", f"{way} suid": KILLED, f"{way} sgid": KILLED, f"{way} bobs": KILLED,
        f"{way} script": KILLED, f"{way} caps": SAID_NO,  # the bounding set is empty
    }  # fmt: skip
    assert said.count("Uid:") == 1  # of the ended ones none ran
    cage.world.settle()  # those that are alike are told when the supervisor ends
    wait_for(lambda: told("because: exec gave", cage.world._log) == 4)


def test_a_program_with_uid_0_gains_no_other_id(cage: Cage, files: dict[str, str]) -> None:
    said = cage.says(EXECS, "fork", *files.values(), options=("--setuid", "root"))
    assert outcomes(said) == {
        "fork plain": "0", "fork suid": "0", "fork sgid": KILLED, "fork caps": "0",
        "fork bobs": KILLED, "fork script": "0",
    }  # fmt: skip


def test_certified_capabilities_stay_the_limit(cage: Cage, files: dict[str, str]) -> None:
    options = ("--setuid", "root", "--cap", "cap_net_raw")
    code = """
for path in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/grep", ["grep", "CapPrm", "/proc/self/status"])
    os.waitpid(pid, 0)
"""
    said = cage.says(code, *list(files.values())[:2], options=options)
    assert set(said.split()) == {"CapPrm:", f"{1 << 13:016x}"}


def test_a_traced_program_executes_nothing(cage: Cage, files: dict[str, str]) -> None:
    """Its tracer could change what is compared."""
    said = cage.says(EXECS, "traced", files["plain"], files["suid"],
                     options=("--setuid", "service"))  # fmt: skip
    assert outcomes(said) == {"traced plain": SAID_NO, "traced suid": SAID_NO}
    assert said.count("EPERM") == 2 and "Uid:" not in said


def test_many_execs_at_once_are_all_watched(cage: Cage, files: dict[str, str]) -> None:
    code = """
children = []
for number in range(40):
    pid = os.fork()
    if pid == 0:
        path = sys.argv[1 + number % 2]
        os.execv(path, [path])
    children.append(pid)
print(sorted(os.waitpid(pid, 0)[1] for pid in children))
"""
    said = cage.says(code, files["plain"], files["suid"], options=("--setuid", "service"))
    assert said.splitlines()[-1] == str([0] * 20 + [9] * 20)
    assert said.count("Uid:") == 20
