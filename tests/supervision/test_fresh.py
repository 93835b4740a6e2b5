"""What the supervisor keeps from one call to the next is never out of date."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SUPERVISED
from tests.supervision.conftest import PYTHON, Cage, only

NAMESPACES = """
def look(): return why(lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)))
def child(work):
    pid = os.fork()
    if pid == 0:
        os.write(1, f"{work()}\\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)
def thread(work):
    said = []
    def run():
        said.append(work())
        done.release()
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(run, ())
    done.acquire()
    print(*said, flush=True)
print(look(), look(), flush=True)
"""
MOVES = {
    "unshare": "call(272, 0x20000)",
    "unshare a user namespace": "call(272, 0x10000000)",
    "chroot": "os.chroot('/usr')",
    "setns": """
ready, go = os.pipe(), os.pipe()
other = os.fork()
if other == 0:
    call(272, 0x20000)
    os.write(ready[1], b".")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
fd = os.open(f"/proc/{other}/ns/mnt", os.O_RDONLY)
call(308, fd, 0x20000)
os.write(go[1], b".")
""",
}


@pytest.mark.parametrize("move", MOVES)
def test_whoever_moves_is_judged_no_more_from_its_next_call_on(cage: Cage, move: str) -> None:
    code = NAMESPACES + MOVES[move] + """
print(look(), flush=True)
child(look)
"""
    said = cage.says(code, options=("--setuid", "root")).split()
    assert said == ["ok", "ok", "EPERM", "EPERM"]
    assert [line for line in cage.world.logged() if "openat" in line]


def test_a_child_that_is_made_elsewhere_is_judged_no_more(cage: Cage) -> None:
    code = NAMESPACES + """
for flags in (0x20000, 0x10000000):
    pid = call(56, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os.write(1, f"{look()}\\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    print(look(), flush=True)
child(look)
"""
    said = cage.says(code, options=("--setuid", "root")).split()
    assert said == ["ok", "ok", "EPERM", "ok", "EPERM", "ok", "ok"]


def test_a_thread_that_moves_moves_alone(cage: Cage) -> None:
    code = NAMESPACES + """
def move():
    call(272, 0x20000)
    return look()
thread(move)
print(look(), flush=True)
thread(look)
child(look)
"""
    said = cage.says(code, options=("--setuid", "root")).split()
    assert said == ["ok", "ok", "EPERM", "ok", "ok", "ok"]


def test_a_verdict_is_that_on_whoever_asks_now(cage: Cage, place: Path) -> None:
    """One thread becomes somebody else, by the raw call; the other remains who it was."""
    place.chmod(0o777)
    file = place / "file"
    file.write_text("")
    rules = (
        *(rule for rule in only() if "connect" not in rule and "bind" not in rule),
        f'fsread: filename eq "{file}" then permit, if user = {ALICE}',
    )
    code = f"""
def look(): return why(lambda: os.close(os.open({str(file)!r}, os.O_RDONLY)))
go, come = _thread.allocate_lock(), _thread.allocate_lock()
go.acquire(), come.acquire()
def other():
    for uid in ({BOB}, 0, {ALICE}):
        call(117, uid, -1, -1)
        print(uid, look(), flush=True)
        come.release()
        go.acquire()
print(look())
_thread.start_new_thread(other, ())
for _ in range(3):
    come.acquire()
    print("here", look(), look(), flush=True)
    go.release()
"""
    said = cage.says(code, rules=rules, options=("--setuid", "root")).splitlines()
    assert said == [
        "ok", f"{BOB} EPERM", "here ok ok", "0 EPERM", "here ok ok", f"{ALICE} ok", "here ok ok",
    ]  # fmt: skip


@pytest.mark.parametrize(("uid", "options"), [(ALICE, ("--setuid", "root")), (0, ())])
def test_rights_and_masks_are_those_of_the_moment(
    cage: Cage, place: Path, uid: int, options: tuple[str, ...]
) -> None:
    """Between two calls of the same thread, and between calls of two threads."""
    place.chmod(0o777)
    (place / "private").write_text("")
    (place / "private").chmod(0o600)
    os.chown(place / "private", 0, 0)
    (place / "groups").write_text("")
    (place / "groups").chmod(0o040)
    os.chown(place / "groups", 0, BOB)
    code = f"""
os.chdir({str(place)!r})
def look(name): return why(lambda: os.close(os.open(name, os.O_RDONLY)))
count = 0
def make():
    global count
    count += 1
    os.close(os.open(f"made{{count}}", os.O_CREAT | os.O_WRONLY, 0o777))
    return oct(os.stat(f"made{{count}}").st_mode & 0o777)
for mask in (0o077, 0o022, 0o077):
    os.umask(mask)
    print(make(), end=" ")
def masked(): os.umask(0o007); lock.release()
lock = _thread.allocate_lock(); lock.acquire()
_thread.start_new_thread(masked, ())
lock.acquire()
print(make())
header = struct.pack("=Ii", 0x20080522, 0)
caps = lambda effective: struct.pack("=6I", effective, 0xFFFFFFFF, 0, 0, 0, 0)
call(117, {ALICE}, {ALICE}, 0)
print(look("private"), look("groups"), end=" ")
for effective in (1 << 1, 0, 1 << 2 | 1 << 6 | 1 << 7, 0):
    print(libc.capset(header, caps(effective)), look("private"), end=" ")
print()
call(117, -1, 0, -1)
call(116, 1, struct.pack("=I", {BOB}))
call(117, -1, {ALICE}, -1)
print(look("groups"), look("private"))
"""
    said = cage.says(code, rules=SUPERVISED, options=options, uid=uid).splitlines()
    assert said[0] == "0o700 0o755 0o700 0o770"
    assert said[1].split() == [
        "EACCES", "EACCES", "0", "ok", "0", "EACCES", "0", "ok", "0", "EACCES",
    ]  # fmt: skip
    assert said[2] == "ok EACCES"


WITHOUT_ROOTS_WAY = """
import ctypes, struct
libc = ctypes.CDLL(None)
everything = (1 << 41) - 1
low, high = everything & 0xFFFFFFFF, everything >> 32
header = struct.pack("=Ii", 0x20080522, 0)
assert libc.capset(header, struct.pack("=6I", low, low, low, high, high, high)) == 0
for bit in range(41):
    assert libc.prctl(47, 2, bit, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
assert libc.prctl(28, 1, 0, 0, 0) == 0  # SECBIT_NOROOT: uid 0 alone gives nothing at exec
"""


def test_rights_that_an_exec_takes_away_are_gone(cage: Cage, place: Path) -> None:
    """Nothing but the exec tells of it: that it would take them was settled before the start."""
    (place / "his").write_text("")
    (place / "his").chmod(0o600)
    os.chown(place / "his", BOB, BOB)
    look = f"print(why(lambda: os.close(os.open({str(place / 'his')!r}, 0))), flush=True)\n"
    again = f"import os, sys\\ntry: os.open({str(place / 'his')!r}, 0); print('ok')"
    again += "\\nexcept OSError as error: print(error.errno)"
    code = look + f"""
assert libc.prctl(47, 4, 0, 0, 0) == 0  # PR_CAP_AMBIENT_CLEAR_ALL
{look}
os.execv({PYTHON!r}, [{PYTHON!r}, "-I", "-S", "-c", "{again}"])
"""
    said = cage.says(code, uid=0, before=WITHOUT_ROOTS_WAY)
    assert said.split() == ["ok", "ok", "13"]
