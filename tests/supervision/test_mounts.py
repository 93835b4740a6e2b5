"""Mounts by rules: what is mounted where, and what nobody could judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation import skip_or_fail
from tests.supervision.conftest import Cage

ROOT = ("--setuid", "root")
HELPERS = """
import atexit
def mount(source, target, kind=None, flags=0, data=None):
    return why(call, 165, *(part if part is None else part.encode() for part in (source, target, kind)), flags, data)
def umount(target, flags=0):
    return why(call, 166, target.encode(), flags)
def mounted(place):
    return sorted(line.split()[4][len(place):] for line in open("/proc/self/mountinfo") if line.split()[4].startswith(place))
BIND, MOVE, REMOUNT, DETACH = 0x1000, 0x2000, 0x20, 2
"""  # noqa: E501


@pytest.fixture
def tree(place: Path) -> Path:
    for name in ("good", "bad", "source", "good/sub", "bad/sub"):
        (place / name).mkdir()
    (place / "way").symlink_to("good")
    return place


def test_a_mount_is_judged_by_what_and_where(cage: Cage, tree: Path) -> None:
    rules = (
        f'mount: filename eq "{tree}/source" and filename[1] match "{tree}/good" then permit',
        f'mount: filename eq "some name" and filename[1] eq "{tree}/good/sub" then permit',
        f'umount2: filename match "{tree}/good" then permit',
    )
    code = HELPERS + f"""
os.chdir({str(tree)!r})
print(mount("source", "way", None, BIND), mount("source", "bad", None, BIND),
      mount("bad", "good", None, BIND))
print(mounted({str(tree)!r}), umount("bad"), umount("way"), mounted({str(tree)!r}))
print(mount("some name", "good/sub", "tmpfs"), mount("other", "good/sub", "tmpfs"),
      mount("some name", "bad/sub", "tmpfs"), umount("good/sub"))
"""
    said = cage.says(code, rules=rules, options=ROOT).splitlines()
    assert said == ["0 EPERM EPERM", "['/good'] EPERM 0 []", "0 EPERM EPERM 0"]


def test_no_dotdot_is_about_both_names_of_a_mount(cage: Cage, tree: Path) -> None:
    code = HELPERS + f"""
os.chdir({str(tree)!r})
print(mount("good/../source", "good", None, BIND), mount("source", "bad/../good", None, BIND),
      umount("bad/../good"), mount("source", "good", None, BIND), umount("good"))
"""
    assert cage.beyond("no-dotdot").says(code, options=ROOT) == "EPERM EPERM EPERM 0 0"


@pytest.mark.parametrize(
    ("kind", "flags", "data"),
    [
        ("overlay", 0, "lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w"),
        ("fuse", 0, "fd=3,rootmode=40000,user_id=0,group_id=0"),
        ("ext4", 0, ""),
        ("", 0x20, "size=1m"),
    ],
)
def test_what_its_options_name_is_not_mounted_unjudged(
    cage: Cage, tree: Path, kind: str, flags: int, data: str
) -> None:
    code = HELPERS + f"""
print(mount("source", "{tree}/good", {kind!r} or None, {flags}, {data.encode()!r}))
"""
    cage.world.logged()
    rules = ('mount: filename[1] re "^" then permit',)
    assert cage.says(code, rules=rules, options=ROOT) == "EPERM"
    assert any("mount(165)" in line and "good" in line for line in cage.world.logged())


def test_nobody_without_the_right_mounts_with_the_supervisors(cage: Cage, tree: Path) -> None:
    code = HELPERS + f"""
os.chdir({str(tree)!r})
attr = struct.pack("4Q", 1, 0, 0, 0)
print(mount("source", "good", None, BIND), mount("x", "good", "tmpfs"), umount("good"),
      why(call, 429, -100, b"good", -100, b"bad", 0), why(call, 442, -100, b"/", 0, attr, 32),
      why(call, 163, b"file"), why(call, 167, b"file", 0), why(call, 168, b"file"))
"""
    rules = tuple(
        f'{name}: filename re "^" then permit'
        for name in ("mount", "umount2", "move_mount", "mount_setattr", "acct", "swapon", "swapoff")
    )
    for options in ((), ("--setuid", "service")):
        assert set(cage.says(code, rules=rules, options=options).split()) == {"EPERM"}


def test_no_exchange_mounts_or_unmounts_elsewhere(cage: Cage, tree: Path) -> None:
    code = HELPERS + f"""
os.chdir({str(tree)!r})
print(mount("source", "bad/sub", None, BIND) == "EPERM")
counts = dict.fromkeys(("done", "denied", "elsewhere", "other"), 0)
for _ in range(300):
    result = mount("source", "way/sub", None, BIND)
    counts["done" if result == 0 else "denied" if result == "EPERM" else "other"] += 1
    if result == 0:
        counts["elsewhere"] += mounted({str(tree)!r}) != ["/good/sub"]
        umount("good/sub")
print(counts["done"] > 0, counts["denied"] > 0, counts["elsewhere"])
"""
    exchange = f"""
import os
os.chdir({str(tree)!r})
os.symlink("bad", "way2")
print("ready", flush=True)
import ctypes
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b"way", -100, b"way2", 2)
"""
    rules = (
        f'mount: filename[1] match "{tree}/good" then permit',
        f'umount2: filename match "{tree}/good" then permit',
    )
    python = cage.world.start(
        "/usr/bin/env", "python3", "-I", "-S", "-c", exchange, uid=0
    )
    assert python.stdout is not None
    try:
        assert python.stdout.readline() == "ready\n"
        said = cage.says(code, rules=rules, options=ROOT).splitlines()
    finally:
        python.kill()
        python.communicate()
    assert said == ["True", "True True 0"]


def test_a_mount_is_picked_only_where_that_is_permitted(cage: Cage, tree: Path) -> None:
    rules = (f'fspick: filename match "{tree}/good" then permit',)
    code = HELPERS + f"""
os.chdir({str(tree)!r})
print(mount("x", "good", "tmpfs"), mount("x", "bad", "tmpfs"))
def pick(name):
    fd = why(call, 433, -100, name, 1)
    if isinstance(fd, str):
        return fd
    return [why(call, 431, fd, 0, b"ro", None, 0), why(call, 431, fd, 7, None, None, 0)]
print(pick(b"good"), pick(b"way"), pick(b"bad"), pick(b"good/../bad"), pick(b"good/sub"))
print(why(os.mkdir, "good/new"), why(os.mkdir, "bad/new"))
"""
    said = cage.says(code, rules=rules, options=ROOT).splitlines()
    assert said == ["0 0", "[0, 0] [0, 0] EPERM EPERM ENOENT", "EROFS ok"]
    assert cage.says(code, rules=rules).splitlines()[1] == " ".join(["EPERM"] * 5)


def test_quotas_are_judged_by_the_device_and_by_the_file_that_holds_them(
    cage: Cage, tree: Path
) -> None:
    code = HELPERS + f"""
os.chdir({str(tree)!r})
def quota(command, device, data=0):
    return why(call, 179, command << 8, device, 0, data)
GET, ON, SYNC = 0x800007, 0x800002, 0x800001
print(quota(GET, b"/dev/null"), quota(GET, b"good"), quota(GET, b"bad"), quota(GET, None))
print(quota(ON, b"good", b"good"), quota(ON, b"good", b"bad"), quota(SYNC, None))
"""
    rules = (
        'quotactl: filename eq "/dev/null" then permit',
        f'quotactl: filename eq "{tree}/good" and not filename[1] eq "{tree}/bad" then permit',
    )
    said = cage.says(code, rules=rules, options=ROOT).splitlines()
    assert said == ["ENOTBLK ENOTBLK EPERM EPERM", "ENOTBLK EPERM EPERM"]
    assert cage.says(code, rules=('uselib: filename eq "/x" then permit',)) == cage.bare(code)
    uselib = 'print(why(call, 134, b"/bin/true"))'
    assert cage.says(uselib, rules=('uselib: filename eq "/x" then permit',)) == "ENOSYS"


def test_a_mark_on_a_whole_file_system_is_judged_as_one_on_its_top(
    cage: Cage, tree: Path
) -> None:
    """fanotify opens what it tells of for who reads of it, whatever that one may open."""
    code = HELPERS + f"""
SYSTEM, REPORT_FID, ADD, OPEN = 0x100, 0x200, 1, 0x20
watcher = why(call, 300, REPORT_FID, 0)
def mark(flags, name):
    return why(call, 301, watcher, ADD | flags, OPEN, -100, name.encode())
good, bad = "{tree}/good", "{tree}/bad"
mount("none", good, "tmpfs")
os.mkdir(good + "/sub")
mount(good + "/sub", bad, None, BIND)
print(*(mark(flags, name) for name in (good + "/sub", bad, good) for flags in (0, SYSTEM)))
umount(bad), umount(good)
"""
    if cage.bare(code, uid=0) != "0 0 0 0 0 0":
        skip_or_fail("this kernel marks no file systems of a user namespace (Linux 6.16)")
    always = ("mount: permit", "umount2: permit")
    for permitted, said in (
        (f"{tree}/good/sub", "0 EPERM EPERM EPERM EPERM EPERM"),
        (f"{tree}/bad", "EPERM EPERM 0 EPERM EPERM EPERM"),  # one may see more than that of it
        (f"{tree}/good", "0 0 EPERM EPERM 0 0"),
    ):
        rules = (f'fanotify_mark: filename match "{permitted}" then permit', *always)
        assert cage.says(code, rules=rules, options=ROOT) == said, permitted
