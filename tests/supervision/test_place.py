"""chdir and chroot by rules: where a program comes to stand is where it may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.execution.world import ALICE, SUPERVISED
from tests.supervision.conftest import Cage

GRANTS = [(), ("--setuid", "root"), ("--setuid", "service")]


def rules(*places: str, call: str = "chdir") -> tuple[str, ...]:
    return tuple(f'{call}: filename eq "{place}" then permit' for place in places)


@pytest.mark.parametrize("options", GRANTS)
def test_a_program_goes_where_it_may_and_stays_where_it_may_not(
    cage: Cage, place: Path, options: tuple[str, ...]
) -> None:
    (place / "good").mkdir()
    (place / "bad").mkdir()
    (place / "file").write_text("")
    (place / "link").symlink_to("good")
    place.chmod(0o755)
    code = f"""
os.fchdir(os.open({str(place)!r}, os.O_RDONLY))
print(why(os.chdir, "bad"), os.path.basename(os.getcwd()))
print(why(os.chdir, "missing"), why(os.chdir, "file"), why(os.chdir, ""), why(os.chdir, "link/."))
print(os.path.basename(os.getcwd()), why(os.chdir, ".."), why(os.chdir, "../bad"))
for bad in (0, 8, -1):
    print(why(call, 80, bad))
print(why(os.chdir, "/proc/self/cwd"), why(os.chdir, "/proc/self"))
pid = os.fork()
if pid == 0:
    os._exit(os.path.basename(os.getcwd()) != "good")
print(os.waitpid(pid, 0)[1])
"""
    permitted = rules(str(place / "good"), str(place / "file"), str(place / "missing"))
    said = cage.says(code, rules=permitted, options=options).splitlines()
    assert said == [
        f"EPERM {place.name}", "ENOENT ENOTDIR EPERM ok", "good EPERM EPERM",
        "EFAULT", "EFAULT", "EFAULT", "ok EPERM", "0",
    ]  # fmt: skip


def test_threads_move_together_and_no_other_process_with_them(cage: Cage, place: Path) -> None:
    code = f"""
go = _thread.allocate_lock()
go.acquire()
print(why(os.chdir, {str(place)!r}))
os.chdir("/")
_thread.start_new_thread(go.acquire, ())
time.sleep(0.05)
print(why(os.chdir, {str(place)!r}), os.getcwd() == {str(place)!r}, why(os.chdir, "/usr"))
fs, thread, signal = 0x200, 0x10000, 17
print(why(call, 56, fs | signal, 0, 0, 0, 0))
pid = call(56, signal, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""
    said = cage.says(code, rules=rules(str(place), "/"))
    assert said.split() == ["ok", "ok", "True", "EPERM", "EPERM", "0"]
    assert [line for line in cage.world.logged() if "chdir" in line]
    # where any directory will do, nobody is refused
    said = cage.says(code, rules=('mkdir: filename eq "/" then permit',)).split()
    assert said[:2] == ["ok", "ok"]


@pytest.mark.parametrize("options", GRANTS)
@pytest.mark.parametrize("kind", ["memory", "link"])
def test_nobody_looks_around_from_where_it_may_not_be(
    cage: Cage, place: Path, secret: Path, kind: str, options: tuple[str, ...]
) -> None:
    """Another process exchanges the name; who comes out elsewhere is dead before it knows."""
    public = place / "public"
    public.mkdir()
    for path in (place, public, secret.parent):
        os.chmod(path, 0o777)
        os.chown(path, ALICE, ALICE)
    code = f"""
import mmap
kind = sys.argv[1]
names = [{os.fsencode(public)!r}, {os.fsencode(secret.parent)!r}]
os.fchdir(os.open({str(place)!r}, os.O_RDONLY))
shared = mmap.mmap(-1, 4096)
shared[:200] = names[0].ljust(200, b"\\0")
address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
os.symlink(names[0], "way")
exchanger = os.fork()
if exchanger == 0:
    turn = 0
    while True:
        turn ^= 1
        if kind == "memory":
            shared[:200] = names[turn].ljust(200, b"\\0")
        else:
            os.symlink(names[turn], "new")
            os.rename("new", "way")
counts = dict(ok=0, denied=0, killed=0, fooled=0, other=0)  # other: half of each name
rounds = first = 0
while rounds < 300 or rounds < 3000 and not counts["killed"]:
    rounds += 1
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            call(80, address if kind == "memory" else b"way")
            code = 2 if os.getcwdb() == names[1] else 0
        except OSError as error:
            code = 1 if error.errno == errno.EPERM else 3
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        counts["killed"] += os.WTERMSIG(status) == 9
        first = first or pid
    else:
        counts[("ok", "denied", "fooled", "other")[os.WEXITSTATUS(status)]] += 1
os.kill(exchanger, 9)
print(counts["ok"] > 0, counts["denied"] > 0, counts["fooled"], counts["killed"] > 0, first)
"""
    *said, first = cage.says(code, kind, rules=rules(str(public)), options=options).split()
    assert said == ["True", "True", "0", "True"]
    assert [line for line in cage.world.logged() if "chdir" in line and f"pid: {first}(" in line]


def test_a_new_root_is_one_that_is_permitted(cage: Cage, place: Path) -> None:
    for name in ("good", "bad"):
        (place / name).mkdir()
    code = f"""
print(why(os.chroot, "{place}/bad"), why(os.chroot, "{place}/good"))
print(os.readlink("/proc/self/root") if os.path.exists("/proc") else "there")
"""
    permitted = rules(str(place / "good"), call="chroot")
    said = cage.says(code, rules=permitted, options=("--setuid", "root"))
    assert said.splitlines() == ["EPERM ok", "there"]


SETTINGS = """
names = ("/proc/sys/net/ipv4/conf", "/proc/sys/kernel/shmmni", "/proc/sysvipc/shm")
others = ("/proc/sys/kernel/ostype", "/proc/meminfo", "/proc/self/status", "/dev/null")
def opened():
    said = [why(os.open, name, os.O_RDONLY) for name in names]
    said += [why(os.open, name, os.O_WRONLY) for name in names[1:2]]  # nothing is written
    said += [why(os.open, name, os.O_RDONLY) for name in others]
    return ["ok" if isinstance(one, int) else one for one in said]
print(*opened())
print(why(call, 272, 0x40000000 | 0x08000000), *opened())  # unshare(CLONE_NEWNET | CLONE_NEWIPC)
"""


def test_in_namespaces_of_its_own_a_program_opens_no_settings_of_its_supervisors(
    cage: Cage,
) -> None:
    """Bare it gets its own; the kernel takes those of who opens, and that is the supervisor."""
    bare = cage.bare(SETTINGS, uid=0).split()
    assert bare == ["ok"] * 8 + ["0"] + ["ok"] * 8
    said = cage.says(SETTINGS, rules=SUPERVISED, uid=0).split()
    assert said == ["ok"] * 8 + ["0"] + ["EPERM"] * 4 + ["ok"] * 4
