"""Calls of the 32-bit ABI under a policy that admits it: what they do, and what they may not."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SUPERVISED
from tests.supervision.conftest import CHANGES, PYTHON, Cage
from tests.supervision.foreign import Scripts, build, results, scripts, two_parts, words

__all__ = ["scripts"]

EVERYTHING = (*SUPERVISED, *CHANGES)
"""All is permitted, and all that names or addresses say is carried out by the supervisor."""
EPERM = -errno.EPERM
RECENT = 17 * 10**17
"""nanoseconds; times before this were set by a call."""


def at(place: Path) -> str:
    return f"os.chdir({str(place)!r})"


def grow(place: Path) -> None:
    """Make a small tree of Alice's, with a few things that are not hers."""
    for name in ("dir", "dir/sub", "ro"):
        (place / name).mkdir()
    for name, text in (("file", "content"), ("dir/other", "other"), ("ro/file", "x")):
        (place / name).write_text(text)
    os.symlink("file", place / "link")
    os.symlink("nowhere", place / "dangling")
    os.mkfifo(place / "fifo")
    (place / "secret").write_text("secret")
    for directory, directories, files in os.walk(place):
        for name in (".", *directories, *files):
            os.lchown(os.path.join(directory, name), ALICE, ALICE)
    os.chown(place / "secret", BOB, BOB)
    os.chmod(place / "secret", 0o600)
    os.chmod(place / "ro", 0o555)
    os.utime(place / "file", ns=(10**18, 10**18 + 7), follow_symlinks=False)


def state(place: Path) -> list[tuple[object, ...]]:
    found = []
    for directory, directories, files in os.walk(place):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            times = [one for one in (info.st_mtime_ns, info.st_atime_ns) if one < RECENT]
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            found.append(
                (os.path.relpath(path, place), info.st_mode, info.st_uid, info.st_gid, size, times)
            )
    return sorted(found)


NAMES = ("file", "dir/other", "link", "dangling", "nowhere", "secret", "dir", "", "file/x")
LOOKS = [
    *(("open", f"s:{name}", flags) for name in NAMES for flags in (0, 0o100000, 0o200000)),
    ("read", "r:0", "b:8", 8),
    *(("openat", -100, f"s:{name}", 0o2000000) for name in NAMES),
    ("openat2", -100, "s:file", "x:" + "00" * 24, 24),
    ("access", "s:file", 4), ("access", "s:secret", 4), ("faccessat", -100, "s:link", 2),
    ("faccessat2", -100, "s:link", 2, 0x100), ("readlink", "s:link", "b:16", 16),
    ("readlinkat", -100, "s:link", "b:16", 16), ("readlink", "s:file", "b:16", 16),
    *(("stat64", f"s:{name}", "b:96") for name in ("nowhere", "secret/x")),
    ("open", 0, 0), ("open", 4, 0), ("stat64", "s:file", 4), ("getcwd", "b:8", 0),
    ("inotify_init",), ("inotify_add_watch", -1, "s:file", 2),
    ("name_to_handle_at", -100, "s:file", "x:00000000", "b:4", 0),
]  # fmt: skip
CHANGING = [
    ("mkdir", "s:new", 0o750), ("mkdirat", -100, "s:new/below", 0o777), ("rmdir", "s:new/below"),
    ("creat", "s:made", 0o640), ("write", "r:3", "s:hello", 5), ("rename", "s:made", "s:renamed"),
    ("renameat2", -100, "s:renamed", -100, "s:file", 1), ("link", "s:renamed", "s:hard"),
    ("linkat", -100, "s:link", -100, "s:hardlink", 0), ("symlink", "s:text", "s:soft"),
    ("chmod", "s:renamed", 0o600), ("fchmodat", -100, "s:hard", 0o444),
    ("chown", "s:renamed", 0xFFFF, ALICE), ("chown32", "s:renamed", -1, ALICE),
    ("lchown32", "s:link", -1, -1), ("chown", "s:renamed", BOB, 0xFFFF),
    ("fchownat", -100, "s:link", -1, -1, 0x100),
    ("open", "s:file", 0o1002), ("truncate", "s:renamed", 3), ("truncate64", "s:renamed", 4, 0),
    ("truncate", "s:file", -1),
    ("truncate64", "s:file", 0, 0x80000000), ("mknod", "s:pipe", 0o10600, 0),
    ("utime", "s:file", "w:(1000000;2000000)"), ("utimes", "s:file", "w:(1000;5;2000;-1)"),
    ("utimes", "s:file", "w:(1000;5;2000;999999)"), ("futimesat", -100, "s:file", "w:(7;1;8;2)"),
    ("utimensat", -100, "s:file", "w:(9;123456789;10;1)", 0),
    ("utimensat_time64", -100, "s:file", "w:(11;0;77;-1;12;1;78;-1)", 0),
    ("utimensat", -100, "s:file", "w:(0;0x3ffffffe;0;0x3ffffffe)", 0),
    ("unlink", "s:hard"), ("unlinkat", -100, "s:new", 0x200), ("unlink", "s:ro/file"),
    ("setxattr", "s:file", "s:user.x", "s:y", 1, 0), ("getxattr", "s:file", "s:user.x", "b:4", 4),
    ("open", "s:late", 0o102, 0o640),
    ("chdir", "s:dir"), ("open", "s:other", 0), ("umask", 0o77), ("open", "s:masked", 0o102, 0o666),
]  # fmt: skip


@pytest.mark.parametrize("steps", [LOOKS, CHANGING], ids=["looks", "changes"])
def test_calls_do_the_same_with_and_without_supervision(
    scripts: Scripts, place: Path, steps: list[tuple[str | int, ...]]
) -> None:
    told = []
    for confined in (False, True):
        shutil.rmtree(place)
        place.mkdir()
        os.chown(place, ALICE, ALICE)
        grow(place)
        before = at(place)
        lines = (
            scripts.confined(*steps, rules=EVERYTHING, before=before) if confined
            else scripts.bare(*steps, before=before)
        )
        told.append((lines, state(place)))
    (bare, before), (caged, after) = told
    different = [
        (step, one, other) for step, one, other in zip(steps, bare, caged, strict=True)
        if one != other
    ]
    assert not different
    assert before == after
    assert sum(result >= 0 for result in results(bare)) > len(bare) // 3


def test_structures_are_filled_as_the_kernel_fills_them(scripts: Scripts, place: Path) -> None:
    grow(place)
    steps = [
        ("stat", "s:file", "b:64"), ("lstat", "s:link", "b:64"), ("stat64", "s:file", "b:96"),
        ("lstat64", "s:link", "b:96"), ("fstatat64", -100, "s:dir", "b:96", 0),
        ("stat64", "s:/dev/null", "b:96"), ("stat", "s:/dev/null", "b:64"),
        ("stat64", "s:secret", "b:96"), ("statfs64", "s:/proc", 84, "b:84"),
        ("statfs64", "s:/proc", 88, "b:88"), ("statfs", "s:/proc", "b:64"),
        ("statfs", "s:nowhere", "b:64"), ("fstatat64", -100, "s:", "b:96", 0x1000),
    ]  # fmt: skip
    bare = scripts.bare(*steps, before=at(place))
    assert scripts.confined(*steps, rules=EVERYTHING, before=at(place)) == bare
    assert results(bare)[:9] == [0] * 9


def test_a_large_file_is_opened_only_by_who_asks_for_one(scripts: Scripts, place: Path) -> None:
    with open(place / "large", "wb") as file:
        file.truncate(3 << 30)
    steps = [
        ("open", "s:large", 0), ("open", "s:large", 0o100000), ("stat", "s:large", "b:64"),
        ("openat2", -100, "s:large", "x:" + "00" * 24, 24),
    ]  # fmt: skip
    bare = scripts.bare(*steps, before=at(place))
    assert results(bare)[0] == -errno.EOVERFLOW
    assert scripts.confined(*steps, rules=EVERYTHING, before=at(place)) == bare


def test_what_the_part_does_not_permit_is_denied_and_logged(
    scripts: Scripts, place: Path, secret: Path
) -> None:
    rules = [
        f'{alias}: filename match "{place}/dir" then permit' for alias in ("fsread", "fswrite")
    ]
    rules += [
        f'{name}: filename match "{place}/dir" then permit'
        for name in ("rename", "link", "chmod", "truncate")
    ]
    grow(place)
    (place / "dir/leads").symlink_to(secret)
    steps = [
        ("open", "s:dir/other", 0), ("open", f"s:{secret}", 0), ("open", "s:dir/leads", 0),
        ("openat", -100, f"s:{secret}", 0), ("stat64", f"s:{secret}", "b:96"),
        ("unlink", f"s:{secret}"), ("rename", f"s:{secret}", "s:dir/mine"),
        ("link", f"s:{secret}", "s:dir/mine"), ("chmod", "s:dir/leads", 0o666),
        ("access", f"s:{secret}", 4), ("readlink", "s:link", "b:16", 16),
        ("truncate64", f"s:{secret}", 0, 0), ("creat", "s:made", 0o600),
        ("oldstat", "s:file", "b:32"),
    ]  # fmt: skip
    told = scripts.confined(*steps, rules=rules, before=at(place))
    assert results(told) == [3, *[EPERM] * 13]
    assert secret.read_text() == "secret"
    lines = [line for line in scripts.cage.world.logged() if str(secret) in line]
    assert any("syscall: linux-open(5), filename" in line for line in lines), lines


def test_without_the_certificates_word_the_32_bit_abi_is_killed(scripts: Scripts) -> None:
    world, name = scripts.cage.world, f"killed-{scripts.kind}-{os.getpid()}"
    if scripts.kind == "32-bit":
        done = world.attempt("sign", "-k", "x", "-p", "x", "-o", "x", scripts.program)
        assert "is a 32-bit program, and the 32-bit ABI is not admitted" in done.stderr
        return
    text = two_parts(scripts.program, (), ())
    plain = world.sign(name, scripts.program, text=text)
    assert world.run(plain, *words([("getpid",)])).returncode == -signal.SIGSYS


def test_rules_and_constants_of_one_abi_say_nothing_of_the_other(scripts: Scripts) -> None:
    rules = ("getuid: deny[enosys]", "getgid: deny[eacces]")
    steps = [("getuid32",), ("getuid",), ("getgid32",), ("geteuid32",)]
    told = scripts.confined(*steps, rules=rules, native=("geteuid: deny",))
    assert results(told) == [-errno.ENOSYS, -errno.ENOSYS, -errno.EACCES, ALICE]


# ---- sockets ----


def test_addresses_are_judged_by_the_direct_calls_and_by_socketcall(
    scripts: Scripts, place: Path
) -> None:
    rules = [
        f'connect: sockaddr eq "{place}/open" then permit',
        f'bind: sockaddr match "{place}/mine*" then permit',
        f'sendto: sockaddr eq "{place}/inbox" then permit', "send: permit",
        f'sendmsg: sockaddr eq "{place}/inbox" then permit',
        f'sendmmsg: sockaddr eq "{place}/inbox" then permit',
    ]  # fmt: skip
    listeners, inboxes = [], []
    for name, kind, kept in (
        ("open", socket.SOCK_STREAM, listeners), ("closed", socket.SOCK_STREAM, listeners),
        ("inbox", socket.SOCK_DGRAM, inboxes), ("other", socket.SOCK_DGRAM, inboxes),
    ):  # fmt: skip
        made = socket.socket(socket.AF_UNIX, kind)
        made.bind(str(place / name))
        os.chmod(place / name, 0o777)
        if kind == socket.SOCK_STREAM:
            made.listen(8)
        kept.append(made)

    def address(name: str) -> tuple[str, int]:
        path = f"{place}/{name}"
        return f"x:0100{path.encode().hex()}00", 3 + len(path)

    opened, closed, inbox, other, mine, his = (
        address(one) for one in ("open", "closed", "inbox", "other", "mine1", "his")
    )
    header = "w:({0};{1};w:(s:piece;5);1;0;0;0)"
    steps = [
        ("socket", 1, 1, 0), ("connect", "r:0", *closed), ("connect", "r:0", *opened),  # 0 - 2
        ("socketcall", 1, "w:(1;1;0)"),  # 3
        ("socketcall", 3, f"w:(r:3;{closed[0]};{closed[1]})"),
        ("socketcall", 3, f"w:(r:3;{opened[0]};{opened[1]})"),
        ("socket", 1, 2, 0), ("bind", "r:6", *his), ("bind", "r:6", *mine),  # 6 - 8
        ("sendto", "r:6", "s:direct", 6, 0, *inbox), ("sendto", "r:6", "s:direct", 6, 0, *other),
        ("socketcall", 11, f"w:(r:6;s:called;6;0;{inbox[0]};{inbox[1]})"),  # 11
        ("socketcall", 11, f"w:(r:6;s:called;6;0;{other[0]};{other[1]})"),
        ("sendmsg", "r:6", header.format(*inbox), 0), ("sendmsg", "r:6", header.format(*other), 0),
        ("socketcall", 16, f"w:(r:6;{header.format(*inbox)};0)"),  # 15
        ("socketcall", 16, f"w:(r:6;{header.format(*other)};0)"),
        ("socketcall", 9, "w:(r:0;s:plain;5;0)"),  # 17: no address
        ("socketcall", 11, "w:(r:0;s:plain;5;0;0;0)"),
        ("sendmmsg", "r:6", f"w:({inbox[0]};{inbox[1]};w:(s:many;4);1;0;0;0;0;"
                            f"{inbox[0]};{inbox[1]};w:(s:mail;4);1;0;0;0;0)", 2, 0),
        ("sendmmsg", "r:6", f"w:({inbox[0]};{inbox[1]};w:(s:many;4);1;0;0;0;0;"
                            f"{other[0]};{other[1]};w:(s:mail;4);1;0;0;0;0)", 2, 0),
        ("socketcall", 3, 4), ("socketcall", 99, "w:(0;0)"), ("socketcall", 4, "w:(r:6;5)"),
    ]  # fmt: skip
    told = results(scripts.confined(*steps, rules=rules))
    try:
        assert told == [
            3, EPERM, 0, 4, EPERM, 0, 5, EPERM, 0, 6, EPERM, 6, EPERM, 5, EPERM, 5, EPERM, 5, 5, 2,
            EPERM, -errno.EFAULT, EPERM, -errno.EOPNOTSUPP,
        ]  # fmt: skip
        inboxes[0].setblocking(False)
        got = [inboxes[0].recv(100) for _ in range(6)]
        assert got == [b"direct", b"called", b"piece", b"piece", b"many", b"mail"]
        with pytest.raises(BlockingIOError):
            inboxes[1].recv(100, socket.MSG_DONTWAIT)
        peer, _ = listeners[0].accept()
        with peer:
            assert peer.recv(100) == b"plainplain"
    finally:
        for one in (*listeners, *inboxes):
            one.close()


def test_descriptors_in_control_messages_are_the_callers(scripts: Scripts, place: Path) -> None:
    grow(place)
    rules = ('sendmsg: sockaddr re "^" then permit',)
    control = "w:(16;1;1;r:1)"
    steps = [
        ("socketpair", 1, 2, 0, "b:8"), ("open", "s:file", 0),
        ("sendmsg", 3, f"w:(0;0;w:(s:x;1);1;{control};16;0)", 0),
        ("sendmsg", 3, "w:(0;0;w:(s:x;1);1;w:(5;1;1;0);16;0)", 0),
        ("sendmsg", 3, "w:(0;0;w:(s:x;1);1;w:(16;1;1;99);16;0)", 0),
        ("close", "r:1"), ("recvmsg", 4, "w:(0;0;w:(b:4;4);1;b:16;16;0)", 0),
        ("read", 5, "b:8", 8),
    ]  # fmt: skip
    bare = scripts.bare(*steps, before=at(place))
    assert results(bare)[1:] == [5, 1, -errno.EINVAL, -errno.EBADF, 0, 1, 7]
    caged = scripts.confined(*steps, rules=rules, before=at(place))
    assert caged == bare


def test_sockets_are_judged_by_the_copied_arguments_of_socketcall(scripts: Scripts) -> None:
    rules = (
        'socket: sockdom eq "AF_UNIX" then permit', 'socketpair: sockdom eq "AF_UNIX" then permit',
    )  # fmt: skip
    steps = [
        ("socketcall", 1, "w:(1;1;0)"), ("socketcall", 1, "w:(2;1;0)"), ("socket", 1, 2, 0),
        ("socket", 2, 2, 0), ("socketcall", 1, "w:(1;0x80801;0)"), ("fcntl64", "r:4", 1),
        ("fcntl64", "r:4", 3), ("fcntl64", "r:0", 1), ("socketcall", 8, "w:(2;1;0;b:8)"),
        ("socketcall", 8, "w:(1;0x80801;0;b:8)"), ("fcntl64", "r:9", 1), ("fcntl64", 7, 1),
        ("fcntl64", 7, 3), ("write", 6, "s:pair", 4), ("read", 7, "b:8", 8),
        ("socketcall", 8, "w:(1;1;0;4)"), ("socketcall", 8, 4), ("dup", 0),
        ("socketcall", 8, "w:(1;77;0;b:8)"),
    ]  # fmt: skip
    told = results(scripts.confined(*steps, rules=rules))
    assert told[:8] == [3, EPERM, 4, EPERM, 5, 1, 0o4002, 0]
    assert told[8:15] == [EPERM, 0, 0, 1, 0o4002, 4, 4]
    # where the numbers cannot be written no descriptor is left behind
    assert told[15:] == [-errno.EFAULT, -errno.EFAULT, 8, -errno.EINVAL]


# ---- execs ----


def test_execs_are_judged_at_the_exec_stop(scripts: Scripts, place: Path) -> None:
    rules = ('execve: filename eq "/bin/echo" and argv eq "echo one two" then permit',
             f'execve: filename eq "{os.path.realpath("/bin/echo")}" and argv eq "echo one two" '
             "then permit")  # fmt: skip
    argv = "w:(s:echo;s:one;s:two;0)"
    told = scripts.confined(
        ("execve", "s:/bin/echo", "w:(s:echo;s:three;0)", "w:(0)"),
        ("execve", "s:/bin/cat", argv, "w:(0)"), ("execve", "s:/bin/echo", 4, "w:(0)"),
        ("execveat", -100, "s:/bin/cat", argv, "w:(0)", 0),
        ("execve", "s:/bin/echo", argv, "w:(0)"), rules=rules, without=("execveat",),
    )  # fmt: skip
    assert told[-1] == "one two"
    assert results(told[:-1]) == [EPERM, EPERM, -errno.EFAULT, EPERM]


def test_a_32_bit_program_is_executed_and_keeps_its_policy(scripts: Scripts, place: Path) -> None:
    other = build(scripts.cage, "32-bit")
    rules = (f'execve: filename eq "{other}" then permit', "getuid: deny[enosys]")
    told = scripts.confined(
        ("execve", f"s:{other}", "w:(s:x;s:199;s:--;s:20;0)", "w:(0)"), rules=rules,
    )  # fmt: skip
    assert told[0] == f"199 {-errno.ENOSYS}"
    assert int(told[1].split()[1]) > 0


# ---- the supervisor, and other processes ----


NAME = "x:010000666f726569676e"
"""An abstract UNIX address."""
MEET = [
    ("socket", 1, 1, 0), ("bind", "r:0", NAME, 10), ("listen", "r:0", 1), ("socket", 1, 1, 0),
    ("connect", "r:3", NAME, 10), ("accept4", "r:0", 0, 0, 0),
    ("getsockopt", "r:5", 1, 17, "b:12", "w:(12)"),
]  # fmt: skip
"""Afterwards v:6 is the supervisor's number: who connects in our place is seen as the peer."""
ITS = "v:6"


def test_nothing_reaches_the_supervisor_by_its_number(scripts: Scripts) -> None:
    steps = [
        ("kill", ITS, 0), ("tkill", ITS, 9), ("tgkill", ITS, ITS, 9), ("kill", -1, 0),
        ("rt_sigqueueinfo", ITS, 10, "b:128"), ("rt_tgsigqueueinfo", ITS, ITS, 10, "b:128"),
        ("pidfd_open", ITS, 0), ("ptrace", 16, ITS, 0, 0),
        ("process_vm_readv", ITS, "w:(b:4;4)", 1, "w:(4096;4)", 1, 0),
        ("process_vm_writev", ITS, "w:(b:4;4)", 1, "w:(4096;4)", 1, 0),
        ("prlimit64", ITS, 7, "b:16", 0), ("sched_setscheduler", ITS, 0, "b:4"),
        ("sched_setparam", ITS, "b:4"), ("sched_setattr", ITS, "b:48", 0),
        ("sched_setaffinity", ITS, 4, "x:01000000"), ("setpriority", 0, ITS, 5),
        ("setpriority", 2, 0, 5), ("ioprio_set", 1, ITS, 0x4007), ("ioprio_set", 3, 0, 0x4007),
        ("kcmp", ITS, ITS, 0, 0, 0), ("migrate_pages", ITS, 8, "b:4", "b:4"),
        ("move_pages", ITS, 0, 0, 0, 0, 0), ("process_madvise", 3, 0, 0, 0, 0),
        ("pidfd_getfd", 3, 0, 0), ("clone", 0x00800011), ("prctl", 4, 0), ("fcntl64", 3, 10, 9),
        ("fcntl", 3, 10, 19),
    ]  # fmt: skip
    told = results(scripts.confined(*MEET, *steps, rules=SUPERVISED))
    assert told[: len(MEET)] == [3, 0, 0, 4, 0, 5, 0]
    refused = dict(zip([(one[0], *one[1:2]) for one in steps], told[len(MEET) :], strict=True))
    assert {step for step, result in refused.items() if result != EPERM} == set()


def test_calls_that_need_a_supervisor_of_their_own_are_refused(scripts: Scripts) -> None:
    steps = [("clone3", 4, 88), ("prctl", 0x43584543, 0), ("nice", 1), ("ptrace", 0, 0, 0, 0)]
    told = results(scripts.confined(*steps, rules=SUPERVISED))
    assert told == [-errno.ENOSYS, -errno.EBUSY, 0, 0]


def test_the_supervisors_own_directory_is_out_of_reach(scripts: Scripts) -> None:
    steps = [("open", "s:/proc/self/environ", 0), ("readlink", "s:/proc/self", "b:16", 16)]
    told = scripts.confined(("getpid",), *steps, rules=SUPERVISED)
    number = bytes.fromhex(told[2].split()[2]).rstrip(b"\0")
    assert number == told[0].split()[1].encode()
    assert results(told)[1] == 3


def test_a_directory_changed_by_either_abi_counts_for_both(scripts: Scripts, place: Path) -> None:
    grow(place)
    rules = (f'chdir: filename match "{place}/dir" then permit',)
    steps = [("chdir", "s:ro"), ("chdir", "s:dir"), ("getcwd", "b:128", 128), ("chdir", "s:..")]
    told = scripts.confined(*steps, rules=rules, before=at(place))
    assert [one < 0 for one in results(told)] == [True, False, False, True]
    here = bytes.fromhex(told[2].split()[2]).rstrip(b"\0").decode()
    assert here == f"{place}/dir"


def test_certificates_of_emulation_linux_need_a_part_for_it(cage: Cage) -> None:
    done = cage.world.attempt(
        "sign", "--emulation", "linux", "-k", "/nowhere", "-p", cage.world.write(
            "plain.policy", f"Policy: {PYTHON}, Emulation: native\nnative-exit: permit\n"
        ), PYTHON,
    )  # fmt: skip
    assert done.returncode != 0
    assert "32-bit ABI is admitted" in done.stderr, done.stderr
