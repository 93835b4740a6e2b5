"""The supervisor lends nobody its own rights: ids, groups, capabilities, signals, masks, limits."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, NETADMIN, SERVICE, SUPERVISED
from tests.supervision.conftest import Cage

CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE = 1 << 2, 1 << 19

WITH_AMBIENT = f"""
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([])
os.setresgid({ALICE}, {ALICE}, {ALICE})
os.setresuid({ALICE}, {ALICE}, {ALICE})
header = struct.pack("=Ii", 0x20080522, 0)
assert libc.capset(header, struct.pack("=6I", MASK, MASK, MASK, 0, 0, 0)) == 0
for bit in range(32):
    if MASK >> bit & 1:
        assert libc.prctl(47, 2, bit, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
"""
"""Become Alice with ambient capabilities."""


@pytest.fixture
def roots(place: Path) -> Path:
    """A file that only root may touch."""
    file = place / "roots"
    file.write_text("root's")
    file.chmod(0o600)
    os.chown(file, 0, 0)
    return file


@pytest.mark.parametrize("options", [("--setuid", "root"), ("--setuid", "service")])
def test_a_program_that_drops_its_rights_has_dropped_them_here_too(
    cage: Cage, place: Path, roots: Path, options: tuple[str, ...]
) -> None:
    place.chmod(0o777)
    code = f"""
os.chdir({str(place)!r})
server = socket.create_server(("127.0.0.1", 0))
def look():
    with socket.socket() as client:
        print(why(client.connect, server.getsockname()), end=" ")
    print(why(os.stat, ".") != "EPERM", why(os.listdir, "/proc/self/fd") != "EACCES", end=" ")
    print(isinstance(why(os.open, "/proc/self/maps", 0), int), end=" ")
    print(isinstance(why(os.open, "roots", os.O_RDONLY), int), end=" ")
    print(why(os.mkdir, f"made-{{os.geteuid()}}"))
look()
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({BOB}, {BOB}, {BOB})
    os.setresuid({BOB}, {BOB}, {BOB})
    look()
"""
    said = cage.says(code, options=options).splitlines()
    root = "root" in options
    assert said[0].split() == ["ok", "True", "True", "True", str(root), "ok"]
    assert said[1:] == (["ok True True True False ok"] if root else [])
    owner = 0 if root else SERVICE
    assert (place / f"made-{owner}").stat().st_uid == owner
    if root:
        info = (place / f"made-{BOB}").stat()
        assert (info.st_uid, info.st_gid) == (BOB, BOB)


def test_file_system_ids_are_taken_whatever_the_effective_ones_are(
    cage: Cage, place: Path
) -> None:
    """As a file server does: setfsuid(2) alone, and beside an effective id that is not root's."""
    place.chmod(0o777)
    (place / "his").write_text("x")
    (place / "his").chmod(0o600)
    os.chown(place / "his", SERVICE, SERVICE)
    code = f"""
os.chdir({str(place)!r})
def look(name):
    fd = why(os.open, "his", os.O_RDONLY)
    print(fd if isinstance(fd, str) else "open", why(os.mkdir, name))
libc.setfsgid({SERVICE}); libc.setfsuid({SERVICE}); look("a")
libc.setfsgid({BOB}); libc.setfsuid({BOB}); look("b")
libc.prctl(28, 1 << 2 | 1 << 4, 0, 0, 0)  # SECBIT_NO_SETUID_FIXUP, SECBIT_KEEP_CAPS
libc.setresuid(-1, {BOB}, -1)
libc.setfsuid({SERVICE}); libc.setfsgid({SERVICE})
# without CAP_DAC_OVERRIDE and its like, but with CAP_SETUID
caps = 1 << 6 | 1 << 7
header = struct.pack("=Ii", 0x20080522, 0)
print(libc.capset(header, struct.pack("=6I", caps, caps, 0, 0, 0, 0)))
libc.setfsuid({SERVICE}); libc.setfsgid({SERVICE})
look("c")
print(open("/proc/self/status").read().partition("Uid:")[2].split()[:4])
"""
    said = cage.says(code, options=("--setuid", "root")).splitlines()
    assert said[:2] == ["open ok", "EACCES ok"]
    assert said[2:] == [
        "0", "open ok", str([str(ALICE), str(BOB), "0", str(SERVICE)]),
    ]  # fmt: skip
    owners = {name: (place / name).stat().st_uid for name in "abc"}
    assert owners == {"a": SERVICE, "b": BOB, "c": SERVICE}


def test_capabilities_that_were_dropped_are_dropped_here_too(
    cage: Cage, roots: Path
) -> None:
    code = f"""
os.setresuid(0, 0, 0)
print(isinstance(why(os.open, {str(roots)!r}, 0), int), os.access({str(roots)!r}, os.R_OK))
os.chown({str(roots)!r}, {BOB}, {BOB})
header = struct.pack("=Ii", 0x20080522, 0)
print(libc.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)))
print(why(os.open, {str(roots)!r}, 0), os.access({str(roots)!r}, os.R_OK))
"""
    said = cage.says(code, options=("--setuid", "root")).split()
    assert said == ["True", "True", "0", "EACCES", "False"]


@pytest.mark.parametrize(
    "rules", [SUPERVISED, ('connect: sockaddr re "^" then permit',)], ids=["all", "connect"]
)
def test_an_invokers_capabilities_open_nothing_of_the_supervisor(
    cage: Cage, roots: Path, rules: tuple[str, ...]
) -> None:
    """Where opens are plainly permitted the kernel alone would judge them."""
    code = f"""
print(why(os.open, f"/proc/{{supervisor()}}/mem", os.O_RDWR))
print(isinstance(why(os.open, {str(roots)!r}, 0), int))
header = struct.pack("=Ii", 0x20080522, 0)
print(libc.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)))
print(why(os.open, {str(roots)!r}, 0))
"""
    before = WITH_AMBIENT.replace("MASK", str(CAP_DAC_READ_SEARCH | CAP_SYS_PTRACE))
    said = cage.says(code, rules=rules, uid=0, before=before)
    assert said.split() == ["EACCES", "True", "0", "EACCES"]


def test_a_capability_that_an_exec_took_away_is_gone_here_too_and_only_there(
    cage: Cage, roots: Path
) -> None:
    """Lowering the ambient set, which no rule can watch, shows at the next exec."""
    code = f"""
import subprocess
def cat():
    return subprocess.run(["/bin/cat", {str(roots)!r}], capture_output=True).stdout.decode()
print([cat(), cat()], libc.prctl(47, 4, 0, 0, 0))  # PR_CAP_AMBIENT_CLEAR_ALL
print([cat(), cat()], isinstance(why(os.open, {str(roots)!r}, 0), int))
"""
    before = WITH_AMBIENT.replace("MASK", str(CAP_DAC_READ_SEARCH))
    rules = (*SUPERVISED, 'execve: filename re "^" then permit')
    said = cage.says(code, rules=rules, uid=0, before=before)
    assert said.splitlines() == ["[\"root's\", \"root's\"] 0", "['', ''] True"]


@pytest.mark.parametrize("options", [(), ("--setuid", "service"), ("--setgid", "netadmin")])
def test_a_pidfd_signals_whom_the_program_itself_may_signal(
    cage: Cage, options: tuple[str, ...]
) -> None:
    """The supervisor of a grant has root's real uid, which kill(2) counts."""
    world = cage.world
    victims = [
        subprocess.Popen(world.machine.command("sleep", "60", uid=uid))
        for uid in (None, ALICE, SERVICE, BOB)
    ]
    code = """
for pid in map(int, sys.argv[1:]):
    fd = os.pidfd_open(pid)
    print(why(call, 424, fd, 0, 0, 0), why(os.kill, pid, 0), why(call, 424, fd, 0, 0, 4))
"""
    try:
        time.sleep(0.3)  # until each is who it will be
        pids = [str(victim.pid) for victim in victims]
        said = [line.split() for line in cage.says(code, *pids, options=options).splitlines()]
    finally:
        for victim in victims:
            victim.kill()
            victim.wait()
    mine = {SERVICE: "service" in options, ALICE: True}
    expected = ["ok" if mine.get(uid) else "EPERM" for uid in (0, ALICE, SERVICE, BOB)]
    assert [line[1] for line in said] == expected
    assert [line[0].replace("0", "ok") for line in said] == expected
    assert {line[2] for line in said} == {"EINVAL"}  # no process group


def test_groups_umask_and_limits_are_the_callers(cage: Cage, place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    os.chown(shared, 0, NETADMIN)
    code = f"""
import resource
os.chdir({str(shared)!r})
os.umask(0o027)
print(why(os.mkdir, "directory", 0o777))
os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o666))
socket.socket(socket.AF_UNIX).bind("socket")
resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
opened = []
while isinstance(fd := why(os.open, "/", os.O_RDONLY), int):
    opened.append(fd)
print(fd, max(opened))
"""
    options = ("--setuid", "service", "--add-group", "netadmin")
    assert cage.says(code, options=options).split() == ["ok", "EMFILE", "7"]
    for name, mode in (("directory", 0o750), ("file", 0o640), ("socket", 0o750)):
        info = (shared / name).stat()
        assert (info.st_uid, info.st_mode & 0o777) == (SERVICE, mode), name
