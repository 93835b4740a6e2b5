"""What policies see of the calls that change names and attributes, and what these never reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certexec.run import emulate_links
from tests.execution.world import ALICE, BOB, SERVICE, SUPERVISED
from tests.supervision.conftest import CHANGES, PRELUDE, Cage
from tests.supervision.test_names import bind_in_child

GRANTS: list[tuple[str, ...]] = [(), ("--setuid", "root"), ("--setuid", "service")]
NOFOLLOW, EMPTY = 0x100, 0x1000


@pytest.fixture
def open_place(place: Path) -> Path:
    """A directory that everybody may write to, with some files."""
    for name in ("a", "b"):
        (place / name).write_text(name)
        (place / name).chmod(0o666)
        os.chown(place / name, ALICE, ALICE)
    (place / "dir").mkdir()
    for directory in (place, place / "dir"):
        directory.chmod(0o777)
    (place / "link").symlink_to("a")
    return place


def test_each_name_of_two_is_seen_under_its_own_index(cage: Cage, open_place: Path) -> None:
    here = str(open_place)
    rules = (
        f'rename: filename eq "{here}/a" and filename[1] eq "{here}/dir/to" then permit',
        f'rename: filename eq "{here}/dir/to" and filename[1] sub "{here}/" then permit log',
        f'link: filename eq "{here}/b" and filename[1] match "{here}/dir/*" then permit',
        "rename: true then deny[erofs]",
    )
    code = f"""
os.chdir({here!r})
print(why(os.rename, "a", "dir/../dir/to"), why(os.rename, "dir/to", "a"))
print(why(os.rename, "b", "dir/to"), why(os.rename, "a", "b"), why(os.rename, "dir/to", "/none/x"))
print(why(os.link, "b", "dir/to"), why(os.link, "dir/to", "b"), why(os.link, "link", "dir/x"))
print(why(os.link, "b", "to"))
"""
    cage.world.logged()
    names = ("renameat", "renameat2", "linkat")
    said = cage.says(code, rules=rules, without=names).splitlines()
    assert said == ["ok ok", "EROFS EROFS EROFS", "ok EPERM EPERM", "EPERM"]
    logged = [line for line in cage.world.logged() if "rename" in line]
    assert len(logged) == 1
    assert f"filename: {here}/dir/to, filename[1]: {here}/a" in logged[0]


@pytest.mark.parametrize("options", GRANTS)
def test_an_exchange_must_be_permitted_both_ways(
    cage: Cage, open_place: Path, options: tuple[str, ...]
) -> None:
    """It brings what only the second name may lead to under the first one."""
    here = str(open_place)
    one_way = f'rename: filename eq "{here}/a" and filename[1] eq "{here}/b" then permit'
    other_way = f'rename: filename eq "{here}/b" and filename[1] eq "{here}/a" then permit'
    code = f"""
os.chdir({here!r})
print(why(call, 316, -100, b"a", -100, b"b", 2), open("a").read())
"""
    for rules, said in (((one_way,), "EPERM a"), ((other_way,), "EPERM a"),
                        ((one_way, other_way), "0 b")):  # fmt: skip
        names = ("renameat", "renameat2")
        assert cage.says(code, rules=rules, options=options, without=names) == said


def test_a_symbolic_link_is_judged_by_its_text_and_its_name(cage: Cage, open_place: Path) -> None:
    rules = (
        'symlink: string match "/etc/*" then deny[eacces]',
        f'symlink: string eq "../x y" and filename eq "{open_place}/new" then permit',
    )
    code = f"""
os.chdir({str(open_place)!r})
print(why(os.symlink, "/etc/passwd", "new"), why(os.symlink, "../x", "new"))
print(why(os.symlink, "../x y", "other"), why(os.symlink, "../x y", "dir/../new"))
print(os.readlink("new"))
"""
    said = cage.says(code, rules=rules, without=("symlinkat",)).splitlines()
    assert said == ["EACCES EPERM", "EPERM ok", "../x y"]


def test_modes_and_ids_are_judged_as_systrace_wrote_them(cage: Cage, open_place: Path) -> None:
    rules = (
        'chmod: mode eq "644" or mode eq "0" then permit',
        'chown: uid eq "-1" and gid eq "61001" then permit',
        'lchown: uid eq "61001" then permit',
        'mknod: mode eq "600" then permit',
    )
    code = f"""
os.chdir({str(open_place)!r})
print(*(why(os.chmod, "a", mode) for mode in (0o644, 0o4644, 0, 0o640)))
print(*(why(os.chown, "a", *ids) for ids in ((-1, 61001), (61001, 61001), (-1, -1))))
print(*(why(os.lchown, "a", *ids) for ids in ((-1, 61001), (61001, 61001), (61001, -1))))
print(why(os.mkfifo, "fifo", 0o600), why(os.mkfifo, "fifo2", 0o640))
"""
    names = ("fchmodat", "fchmodat2", "fchownat", "mknodat")
    said = cage.says(code, rules=rules, without=names).splitlines()
    assert said == ["ok EPERM ok EPERM", "ok EPERM EPERM", "EPERM ok ok", "ok EPERM"]


@pytest.mark.parametrize("options", GRANTS)
def test_without_a_name_a_descriptor_is_judged_by_its_real_path(
    cage: Cage, open_place: Path, options: tuple[str, ...]
) -> None:
    here = str(open_place)
    rules = tuple(
        f'{name}: filename eq "{here}/a" then permit'
        for name in ("fchmodat2", "fchownat", "utimensat", "setxattrat", "file_getattr",
                     "name_to_handle_at", "fanotify_mark")
    ) + (f'linkat: filename eq "{here}/a" and filename[1] sub "{here}" then permit',)  # fmt: skip
    code = f"""
os.chdir({here!r})
inotify = libc.fanotify_init(0x200, 0)
for name in ("a", "b"):
    fd = os.open(name, os.O_RDWR)
    args = struct.pack("QII", ctypes.cast(b"x", ctypes.c_void_p).value, 1, 0)
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 200)
    results = [
        why(call, 452, fd, b"", 0o640, 0x1000),
        why(call, 260, fd, b"", -1, -1, 0x1000),
        why(call, 280, fd, b"", 0, 0x1000),
        why(call, 463, fd, b"", 0x1000, b"user.x", args, 16),
        why(call, 303, fd, b"", buffer, ctypes.create_string_buffer(8), 0x1000),
        why(call, 301, inotify, 1, 0x20, fd, 0),
        why(call, 265, fd, b"", -100, b"made-" + name.encode(), 0x1000),
    ]
    print({{str(result) for result in results}})
"""
    owner = {(): ALICE, GRANTS[1]: 0, GRANTS[2]: SERVICE}[options]
    for name in ("a", "b"):
        os.chown(open_place / name, owner, owner)
    names = "chmod fchmodat chown lchown utime utimes futimesat link setxattr".split()
    said = cage.says(code, rules=rules, options=options, without=names).splitlines()
    assert said == ["{'0'}", "{'EPERM'}"]
    assert (open_place / "made-a").stat().st_nlink == 2
    assert not (open_place / "made-b").exists()


def test_a_descriptor_from_a_foreign_mount_is_changed_by_nobody(
    cage: Cage, open_place: Path, secret: Path
) -> None:
    public = open_place / "dir"
    outside = bind_in_child(public, secret) + f"""
fd = os.open(f"/proc/{{child}}/root{public}/file", os.O_RDONLY)
directory = os.open(f"/proc/{{child}}/root{public}", os.O_RDONLY)
os.write(hold[1], b"x")
os.waitpid(child, 0)
os.dup2(fd, 9)
os.dup2(directory, 18)
os.execv(sys.argv[1], sys.argv[1:])
"""
    inside = """
print(why(call, 452, 9, b"", 0o777, 0x1000), why(call, 260, 9, b"", -1, -1, 0x1000))
print(why(os.rename, "file", "x", src_dir_fd=18, dst_dir_fd=18))
print(why(os.chmod, "file", 0, dir_fd=18))
print(why(os.symlink, "x", "new", dir_fd=18), why(os.truncate, "/proc/self/fd/9", 0))
print(why(os.setxattr, "/proc/self/fd/18/file", "user.x", b""))
"""
    certificate = cage.certificate(CHANGES)
    said = cage.bare(outside, certificate, "-I", "-S", "-c", PRELUDE + inside)
    assert said.split() == ["EACCES"] * 7
    assert secret.stat().st_mode & 0o777 != 0o777


@pytest.mark.parametrize("options", GRANTS)
def test_nothing_of_the_supervisor_is_changed_or_watched(
    cage: Cage, options: tuple[str, ...]
) -> None:
    code = """
s = supervisor()
assert s != os.getpid()
buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 200)
inotify = libc.inotify_init1(0)
results = set()
for way in (f"/proc/{s}", f"/proc/{s}/task/{s}", f"/proc/self/root/proc/{s}", f"/proc/self/../{s}"):
    for name in ("", "/oom_score_adj", "/mem", "/fd", "/fd/9", "/cwd", "/root/etc/passwd", "/comm"):
        path = (way + name).encode()
        for result in (
            why(os.chmod, path, 0o777), why(os.chown, path, -1, -1), why(os.utime, path),
            why(os.truncate, path, 0), why(os.rename, path, b"/tmp/x"),
            why(os.link, path, b"/tmp/x"), why(call, 265, -100, path, -100, b"/tmp/x", 0x400),
            why(os.symlink, b"x", path), why(os.mkfifo, path),
            why(os.setxattr, path, b"user.x", b""), why(os.listxattr, path),
            why(call, 137, path, ctypes.create_string_buffer(200)),
            why(call, 303, -100, path, buffer, ctypes.create_string_buffer(8), 0x600),
            why(call, 254, inotify, path, 2),
        ):
            results.add(str(result))
for name in (b"", b"/fd", b"/comm"):  # open_tree(2) gives descriptors past all rules on names
    fd = call(428, -100, b"/proc/%d" % s + name, 0)
    for result in (
        why(call, 260, fd, b"", -1, -1, 0x1000), why(call, 452, fd, b"", 0o777, 0x1000),
        why(call, 280, fd, b"", 0, 0x1000), why(call, 303, fd, b"", buffer, buffer, 0x1200),
        why(call, 265, fd, b"", -100, b"/tmp/x", 0x1000), why(os.chmod, "mem", 0, dir_fd=fd),
    ):
        results.add(str(result).replace("ENOTDIR", "EACCES"))
print(*results)
"""
    rules = [rule for rule in CHANGES if not rule.startswith(("chdir", "chroot", "exec"))]
    said = cage.says(code, options=options, rules=(*SUPERVISED, *rules))
    assert set(said.split()) <= {"EACCES", "EPERM", "EXDEV", "EEXIST"}


def test_which_kernels_link_descriptors_without_a_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Release:
        release = "6.9.12-1-amd64"

    monkeypatch.setattr(emulate_links.os, "uname", lambda: Release)
    assert not emulate_links.may_link_descriptors(0)
    assert emulate_links.may_link_descriptors(1 << 2)
    Release.release = "6.10.0"
    assert emulate_links.may_link_descriptors(0)


def test_a_link_to_somebody_elses_file_needs_the_programs_own_right(
    cage: Cage, open_place: Path
) -> None:
    """protected_hardlinks: the supervisor of a grant has every capability, the program none."""
    for name in ("a", "b"):
        os.chown(open_place / name, BOB, BOB)
    (open_place / "b").chmod(0o644)
    (open_place / "dir").chmod(0o1777)
    (open_place / "dir" / "his").write_text("")
    os.chown(open_place / "dir" / "his", BOB, BOB)
    protected = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "0"
    code = f"""
os.chdir({str(open_place)!r})
print(why(os.link, "a", "made"), why(os.link, "b", "made-b"))
print(why(os.rename, "dir/his", "mine"), why(os.chmod, "a", 0), why(os.truncate, "b", 0))
"""
    said = cage.says(code, rules=CHANGES, options=("--setuid", "service")).splitlines()
    assert said == [f"ok {'EPERM' if protected else 'ok'}", "EPERM EPERM EACCES"]
