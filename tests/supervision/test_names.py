"""No name leads to what the policy denies, or into the supervisor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SUPERVISED
from tests.isolation import skip_or_fail
from tests.supervision.conftest import PRELUDE, Cage, only

GRANTS = [(), ("--setuid", "root"), ("--setuid", "service")]
PROTECTED_SYMLINKS = Path("/proc/sys/fs/protected_symlinks")

BIND_IN_CHILD = """
hold, told = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    try:
        flags = 0x10000000 | 0x20000  # CLONE_NEWUSER, CLONE_NEWNS
        if libc.unshare(flags) or libc.mount(SECRET, PUBLIC, None, 0x1000, None):
            os.write(told[1], b"n")
        os.write(told[1], b"y")
        os.read(hold[0], 1)
    finally:
        os._exit(0)
assert os.read(told[0], 1) == b"y"
"""
"""A child with a mount namespace of its own puts one directory in the place of another."""


@pytest.fixture
def public(place: Path) -> Path:
    """A directory of Alice's that the policy permits, beside the secret that it does not."""
    made = place / "public"
    made.mkdir()
    os.chown(made, ALICE, ALICE)
    return made


def bind_in_child(public: Path, secret: Path) -> str:
    places = f"SECRET, PUBLIC = {os.fsencode(secret.parent)!r}, {os.fsencode(public)!r}\n"
    return places + BIND_IN_CHILD


def test_a_foreign_mount_does_not_lend_its_names(
    cage: Cage, public: Path, secret: Path
) -> None:
    code = bind_in_child(public, secret) + f"""
print(type(why(os.open, {str(secret)!r}, 0)))
name = f"/proc/{{child}}/root{public}"
for attempt in (name + "/file", f"{{name}}/../{public.name}/file"):
    print(why(os.open, attempt, os.O_RDONLY), why(os.stat, attempt), why(os.mkdir, attempt + "x"))
print(why(os.chdir, name), why(os.open, "file", 0), why(os.stat, "file"), why(os.mkdir, "x"))
os.chdir("/")
os.write(hold[1], b"x")
os.waitpid(child, 0)
"""
    said = cage.says(code, rules=only(f"{public}", f"{public}/*"))
    assert said.split()[2:] == ["EPERM"] * 6 + ["ok", *["EPERM"] * 3]
    assert said.startswith("<class 'str'>")
    # where everything is permitted it cannot be told what is meant, either
    said = cage.says(code)
    assert said.startswith("<class 'int'>")
    assert said.split()[2:] == [*["EACCES"] * 6, "ok", *["EACCES"] * 3]


def test_a_descriptor_from_a_foreign_mount_does_not_lend_its_names(
    cage: Cage, public: Path, secret: Path
) -> None:
    """An accomplice outside hands over a directory that is somewhere else for everybody here."""
    outside = bind_in_child(public, secret) + f"""
fd = os.open(f"/proc/{{child}}/root{public}", os.O_RDONLY)
os.write(hold[1], b"x")
os.waitpid(child, 0)
os.dup2(fd, 9)
os.execv(sys.argv[1], sys.argv[1:])
"""
    inside = """
print(why(os.open, "file", 0, dir_fd=9), why(os.stat, "file", dir_fd=9))
print(why(os.open, "/proc/self/fd/9/file", 0), why(os.open, "/dev/fd/9", 0))
"""
    certificate = cage.certificate(only(f"{public}", f"{public}/*"))
    said = cage.bare(outside, certificate, "-I", "-S", "-c", PRELUDE + inside)
    assert said.split() == ["EPERM"] * 4


@pytest.mark.parametrize("options", GRANTS)
def test_nothing_of_the_supervisor_is_reached_by_any_way(
    cage: Cage, options: tuple[str, ...]
) -> None:
    code = """
s = supervisor()
def tried(*names):
    results = set()
    for name in names:
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_PATH, os.O_WRONLY | os.O_CREAT):
            results.add(why(os.open, name, flags))
        results.add(why(os.stat, name))
        results.add(why(os.readlink, name))
    return sorted(map(str, results))
below = ("", "/mem", "/maps", "/fd", "/fd/4", "/root/etc", "/exe", "/cwd", "/oom_score_adj",
         f"/task/{s}/mem")
for name in (f"/proc/{s}", f"/proc/self/../{s}", f"/proc/./{s}", f"/proc/self/root/proc/{s}"):
    print(tried(*(name + rest for rest in below)))
os.chdir(f"/proc/{s}")  # the kernel's own call: the policy permits it
print(tried("mem", "maps", ".", f"task/{s}/mem", "/proc/self/cwd/mem", "exe"))
os.chdir(f"/proc/{s}/task")
print(tried(f"{s}/mem", str(s)))
tree = 428  # open_tree(2) gives descriptors past the policy's rules on opens
fd = call(tree, -100, b"/proc/%d" % s, 0)
print(tried(f"/proc/self/fd/{fd}/mem", f"/dev/fd/{fd}/maps"), why(os.open, "mem", 0, dir_fd=fd))
fd = call(tree, -100, b"/proc/%d/mem" % s, 0)
print(why(os.open, f"/proc/self/fd/{fd}", os.O_RDWR))
"""
    for line in cage.says(code, options=options).splitlines():
        assert set(line.replace("[", "").replace("]", "").replace("'", "").split()) <= {
            "EACCES", "EACCES,", "EPERM",
        }, line  # fmt: skip


def test_a_mount_of_the_supervisors_directory_is_no_way_in(cage: Cage, place: Path) -> None:
    """uid 0 with every capability, in the machine's own mount namespace."""
    (place / "directory").mkdir()
    (place / "memory").write_text("")
    code = f"""
s = supervisor()
os.chdir({str(place)!r})
bind, detach = 0x1000, 2
mount = lambda source, target: libc.mount(source.encode(), target, None, bind, None)
print(mount(f"/proc/{{s}}", b"directory"), mount(f"/proc/{{s}}/mem", b"memory"))
print(why(os.open, "directory/mem", 0), why(os.open, "directory/fd", 0), why(os.open, "memory", 2))
print(libc.umount2(b"directory", detach), libc.umount2(b"memory", detach))
# and over its own directory, which it may look at
own = os.getpid()
print(mount(f"/proc/{{s}}", b"/proc/%d" % own))
print(why(os.open, "/proc/self/mem", 2), why(os.open, f"/proc/{{own}}/fd", 0))
print(libc.umount2(b"/proc/%d" % own, detach))
"""
    said = cage.says(code, options=("--setuid", "root")).splitlines()
    assert said == ["0 0", "EACCES EACCES EACCES", "0 0", "0", "EXDEV EXDEV", "0"]


def test_what_is_mounted_over_a_programs_proc_directory_does_not_lend_it_rights(
    cage: Cage, place: Path, secret: Path
) -> None:
    """The supervisor would read whose rights to take from the directory of process 1."""
    os.chown(secret, 0, 0)
    secret.chmod(0o600)
    code = f"""
own = b"/proc/%d" % os.getpid()
print(why(os.open, {str(secret)!r}, 0))
print(libc.mount(b"/proc/1", own, None, 0x1000, None))
print(why(os.open, {str(secret)!r}, 0), why(os.mkdir, "{secret.parent}/made"))
print(libc.umount2(own, 2))
# and over all of it
print(libc.mount({os.fsencode(place)!r}, b"/proc", None, 0x1000, None))
print(why(os.open, {str(secret)!r}, 0), os.stat("/proc").st_uid)
print(libc.umount2(b"/proc", 2), supervisor() > 1)
"""
    secret.parent.chmod(0o755)
    options = ("--setuid", "service", "--cap", "cap_sys_admin")
    said = cage.says(code, options=options).split()
    assert said == ["EACCES", "0", "EACCES", "EACCES", "0", "0", "EACCES", str(ALICE), "0", "True"]


def test_a_thread_by_its_number_is_the_program_itself(cage: Cage) -> None:
    rules = (
        'fsread: filename match "/proc/self/environ" then deny[eacces]',
        *SUPERVISED,
    )
    code = """
go, numbers = _thread.allocate_lock(), []
go.acquire()
def stay():
    numbers.append(_thread.get_native_id())
    go.acquire()
_thread.start_new_thread(stay, ())
while not numbers:
    time.sleep(0.001)
for name in ("self", "thread-self", os.getpid(), numbers[0]):
    print(why(os.open, f"/proc/{name}/environ", 0))
"""
    said = cage.says(code, rules=rules).split()
    assert said[0] == said[2] == said[3] == "EACCES"


def test_a_link_that_the_kernel_would_not_follow_is_not_followed(cage: Cage, place: Path) -> None:
    sticky = place / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    os.chown(sticky, 0, 0)
    (sticky / "link").symlink_to("/etc/hostname")
    (sticky / "dangling").symlink_to(f"{place}/made")
    for name in ("link", "dangling"):
        os.lchown(sticky / name, BOB, BOB)
    code = f"""
os.chdir({str(sticky)!r})
print(why(os.open, "link", 0), why(os.stat, "link"))
print(why(os.open, "dangling", os.O_CREAT | os.O_WRONLY))
"""
    before = PROTECTED_SYMLINKS.read_text()
    try:
        PROTECTED_SYMLINKS.write_text("1\n")
    except OSError as error:
        skip_or_fail(f"{PROTECTED_SYMLINKS}: {error.strerror}")
    try:
        for options in ((), ("--setuid", "root")):
            assert cage.says(code, options=options).split() == ["EACCES"] * 3
    finally:
        PROTECTED_SYMLINKS.write_text(before)
    assert not (place / "made").exists()


@pytest.mark.parametrize("options", GRANTS)
def test_a_pipe_is_opened_for_creation_without_making_a_file(
    cage: Cage, options: tuple[str, ...]
) -> None:
    """As a shell does it: echo > /dev/stderr."""
    code = """
reader, writer = os.pipe()
for name in (f"/proc/self/fd/{writer}", f"/dev/fd/{writer}"):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"x")
print(len(os.read(reader, 9)), [name for name in os.listdir("/") if "pipe" in name])
"""
    assert cage.says(code, options=options) == "2 []"


def test_o_path_opens_directories_and_files_for_reading(cage: Cage, place: Path) -> None:
    (place / "file").write_text("x")
    (place / "link").symlink_to("file")
    os.mkfifo(place / "fifo")
    code = f"""
os.chdir({str(place)!r})
for name in (".", "file", "link"):
    fd = os.open(name, os.O_PATH)
    print(oct(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE), stat.S_IFMT(os.fstat(fd).st_mode))
print(why(os.open, "fifo", os.O_PATH), why(os.open, "link", os.O_PATH | os.O_NOFOLLOW))
"""
    said = cage.says(code).splitlines()
    assert said == ["0o0 16384", "0o0 32768", "0o0 32768", "ENXIO ENOTSUP"]


def test_names_of_the_programs_own_descriptors_are_looked_up_in_full(
    cage: Cage, place: Path
) -> None:
    """The supervisor has no descriptor 77, or another one."""
    (place / "file").write_text("x")
    code = f"""
os.dup2(os.open({str(place)!r}, os.O_RDONLY), 77)
for fd in (77, 3):
    os.dup2(77, fd)
    print(os.stat(f"/proc/self/fd/{{fd}}/file").st_size, why(os.stat, f"/dev/fd/{{fd}}/none"))
    print(why(os.mkdir, f"/proc/self/fd/{{fd}}/made{{fd}}"))
"""
    assert cage.says(code).split() == ["1", "ENOENT", "ok"] * 2
    assert (place / "made77").is_dir() and (place / "made3").is_dir()


def test_a_link_to_one_of_the_programs_own_descriptors_leads_there(
    cage: Cage, place: Path
) -> None:
    """As links to /dev/stdout in the place of log files do; the supervisor has no descriptor 77."""
    (place / "file").write_text("text")
    (place / "link").symlink_to("/proc/self/fd/77")
    (place / "chain").symlink_to("link")
    (place / "nowhere").symlink_to("/proc/self/fd/78")
    os.chown(place / "file", ALICE, ALICE)
    code = f"""
os.chdir({str(place)!r})
os.dup2(os.open("file", os.O_RDONLY), 77)
for name in ("link", "chain"):
    print(open(name).read(), os.stat(name).st_size, why(os.chmod, name, 0o640))
    print(os.write(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b"!"))
    print(why(os.stat, name + "/"), why(os.lstat, name + "/"), why(os.open, name + "/", 0))
print(why(os.stat, "nowhere"), why(os.stat, "nowhere/"), sorted(os.listdir(".")))
"""
    said = cage.says(code)
    assert said.split("\n")[:2] == ["text 4 ok", "1"]
    (place / "file").write_text("text")
    assert said == cage.bare(code)


def test_what_the_program_holds_open_is_opened_again_where_its_directory_is_closed(
    cage: Cage, place: Path
) -> None:
    """As "tee /dev/stdout" does, whose output somebody else has put into a directory of theirs."""
    (place / "shut").mkdir()
    for name, owner in (("mine", ALICE), ("theirs", BOB)):
        (place / "shut" / name).write_text("text")
        os.chown(place / "shut" / name, owner, owner)
        (place / "shut" / name).chmod(0o666)
    code = f"""
print(why(os.stat, {str(place / "shut" / "mine")!r}))
for flags in (0, os.O_EXCL):
    fd = why(os.open, "/proc/self/fd/9", os.O_WRONLY | os.O_CREAT | os.O_APPEND | flags)
    print(flags, os.write(fd, b"!") if isinstance(fd, int) else fd)
print(why(os.open, "/proc/self/fd/10", os.O_RDONLY | os.O_CREAT))
"""
    # bare the last would be opened, too: it could have been reached by a name in that directory
    for name, mode, opened in (("mine", 0, "1"), ("theirs", 0, "1"), ("theirs", 0o1000, "EACCES")):
        os.chown(place / "shut", ALICE, ALICE)
        (place / "shut").chmod(0o700)
        held = place / "shut" / name
        before = f"os.dup2(os.open({str(held)!r}, os.O_RDONLY), 9)\n"
        before += f"os.dup2(os.open({str(held.parent)!r}, os.O_RDONLY), 10)\n"
        before += f"os.chmod({str(held.parent)!r}, {mode})"
        said = cage.says(code, before=before).split("\n")
        assert said == ["EACCES", f"0 {opened}", f"{os.O_EXCL} EEXIST", "EISDIR"], name
