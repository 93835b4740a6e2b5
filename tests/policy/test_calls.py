"""The table of calls: what governs them, what they are, and what is judged."""

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import (
    SUPERVISED,
    call_of,
    choose_variant,
    governing_names,
    reaches,
    variants,
)
from certexec.policy.evaluate import effective_rules, uses
from certexec.policy.model import ALIASES
from certexec.policy.names import CLASSIC, canonical
from tests.policy.common import policy, rule

CLONE_VM, CLONE_VFORK, CLONE_THREAD, CLONE_NEWUSER = 0x100, 0x4000, 0x10000, 0x10000000
CLONE_UNTRACED, CLONE_PARENT, CLONE_FILES, SIGCHLD = 0x800000, 0x8000, 0x400, 17
EVERY_CALL = st.sampled_from(sorted(NUMBERS))


def label(name: str, *registers: int, **more) -> str:
    padded = [word & 2**64 - 1 for word in (*registers, 0, 0, 0, 0, 0, 0)[:6]]
    return choose_variant(name, padded, **more).label


def reached(name: str, emulation: str = "native") -> set[str]:
    return set(reaches(rule("true then permit", name=f"{emulation}-{name}")))


def test_the_supervised_calls_are_those_that_are_carried_out():
    assert set(SUPERVISED) == set(
        "open openat openat2 creat stat lstat newfstatat statx access faccessat faccessat2 "
        "readlink readlinkat mkdir mkdirat rmdir unlink unlinkat connect bind "
        "sendto sendmsg sendmmsg "
        "rename renameat renameat2 link linkat symlink symlinkat chmod fchmodat fchmodat2 chown "
        "lchown fchownat truncate utime utimes futimesat utimensat mknod mknodat "
        "setxattr lsetxattr setxattrat getxattr lgetxattr getxattrat listxattr llistxattr "
        "listxattrat removexattr lremovexattr removexattrat file_getattr file_setattr statfs "
        "name_to_handle_at inotify_add_watch fanotify_mark chdir chroot "
        "mount umount2 move_mount mount_setattr acct swapon swapoff fspick quotactl uselib "
        "execve execveat".split()
    )
    for name in SUPERVISED:
        assert call_of(name).arguments
        assert not call_of(name).pending


@pytest.mark.parametrize(
    "name",
    "open_tree open_tree_attr pivot_root".split(),
)
def test_every_other_call_with_a_name_or_an_address_is_pending(name):
    call = call_of(name)
    assert call.pending
    assert not call.supervised
    assert {"filename", "sockaddr"} & {argument.name for argument in call.arguments}


def test_calls_without_a_name_or_an_address_are_neither():
    for name in ("read", "fchdir", "clone", "exit_group", "accept", "setresgid", "mmap", "kill"):
        call = call_of(name)
        assert (call.pending, call.supervised) == (False, False)
        assert bool(call.arguments) == (name in ("setresgid", "mmap", "kill"))
    with pytest.raises(KeyError):
        call_of("frobnicate")


def test_arguments_stand_where_the_kernel_takes_them():
    found = {
        name: [(one.name, one.register, one.dirfd) for one in call_of(name).arguments]
        for name in ("open", "openat", "openat2", "creat", "renameat2", "symlinkat", "connect",
                     "sendto", "fanotify_mark", "inotify_add_watch")
    }
    assert found == {
        "open": [("filename", 0, -1), ("oflags", 1, -1)],
        "openat": [("filename", 1, 0), ("oflags", 2, -1)],
        "openat2": [("filename", 1, 0), ("oflags", -1, -1)],
        "creat": [("filename", 0, -1), ("oflags", -1, -1)],
        "renameat2": [("filename", 1, 0), ("filename", 3, 2)],
        "symlinkat": [("string", 0, -1), ("filename", 2, 1)],
        "connect": [("sockaddr", 1, -1)],
        "sendto": [("sockaddr", 4, -1)],
        "fanotify_mark": [("filename", 4, 3)],
        "inotify_add_watch": [("filename", 1, -1)],
    }


def test_governing_names_come_in_order_and_aliases_last():
    assert governing_names("openat2", "read") == ("openat2", "openat", "open", "fsread")
    assert governing_names("openat", "write") == ("openat", "open", "fswrite")
    assert governing_names("openat") == ("openat", "open", "fsread", "fswrite")
    assert governing_names("creat") == ("creat", "open", "fswrite")
    assert governing_names("faccessat2") == ("faccessat2", "faccessat", "access", "fsread")
    assert governing_names("newfstatat", "follow") == ("newfstatat", "stat", "fsread")
    assert governing_names("newfstatat", "nofollow") == ("newfstatat", "lstat", "fsread")
    assert governing_names("statx", "fd") == ("statx", "fstat")
    assert governing_names("unlinkat", "directory") == ("unlinkat", "rmdir", "fswrite")
    assert governing_names("unlinkat", "file") == ("unlinkat", "unlink", "fswrite")
    assert governing_names("connect") == ("connect",)
    assert governing_names("rename") == ("rename",)
    assert governing_names("exit_group") == ("exit_group", "exit")
    assert governing_names("getpid") == ("getpid",)
    with pytest.raises(KeyError):
        governing_names("openat", "sideways")


def test_only_openbsd_counts_truncate_and_fifos_as_fswrite():
    assert governing_names("truncate") == ("truncate", "fswrite")
    assert governing_names("truncate", emulation="linux64") == ("truncate",)
    assert governing_names("mknod", "fifo") == ("mknod", "mkfifo", "fswrite")
    assert governing_names("mknod", "fifo", "netbsd") == ("mknod", "mkfifo")
    assert "truncate" in reached("fswrite")
    assert "truncate" not in reached("fswrite", "linux")


def test_socket_calls_of_the_32_bit_table_are_governed_by_socketcall_first():
    assert governing_names("connect", emulation="linux") == ("socketcall", "connect")
    assert governing_names("connect", emulation="linux64") == ("connect",)
    assert governing_names("read", emulation="linux") == ("read",)


@settings(deadline=None)
@given(EVERY_CALL)
def test_every_call_is_governed_by_its_own_name_first(name):
    for variant in variants(name):
        assert variant.names[0] == name
        assert governing_names(name, variant.label)[0] == name
        for other in variant.names:
            assert other in NUMBERS or other in CLASSIC or other in ALIASES
    assert not variants(name)[-1].tests, "the last variant always applies"
    labels = [variant.label for variant in variants(name)]
    assert len(labels) == len(set(labels))


@settings(deadline=None)
@given(EVERY_CALL, st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_every_call_is_exactly_one_variant(name, registers):
    chosen = choose_variant(name, registers)
    assert chosen in variants(name)
    for variant in variants(name):
        if variant is chosen:
            break
        assert variant.in_memory or not all(
            registers[at] & mask == value for at, mask, value in variant.tests
        )


def test_opens_read_unless_they_may_write_create_or_truncate():
    for name, before in (("open", (0,)), ("openat", (0, 0))):
        assert label(name, *before, os.O_RDONLY) == "read"
        assert label(name, *before, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY) == "read"
        assert label(name, *before, os.O_RDONLY | os.O_CREAT) == "write"
        assert label(name, *before, os.O_RDONLY | os.O_TRUNC) == "write"
        assert label(name, *before, os.O_TMPFILE) == "write"
        assert label(name, *before, os.O_WRONLY) == "write"
        assert label(name, *before, os.O_RDWR | os.O_APPEND) == "write"
        assert label(name, *before, os.O_ACCMODE) == "write"
    assert label("openat2", 0, 0, 0, flags=os.O_RDONLY) == "read"
    assert label("openat2", 0, 0, 0, flags=os.O_RDWR) == "write"
    assert label("openat2", 0, 0, 0, flags=os.O_RDONLY | os.O_TRUNC) == "write"


def test_stat_calls_are_told_apart_by_their_flags():
    assert label("newfstatat", 0, 0, 0, 0) == "follow"
    assert label("newfstatat", 0, 0, 0, 0x100) == "nofollow"
    assert label("newfstatat", 0, 0, 0, 0x1000, empty_path=True) == "fd"
    assert label("newfstatat", 0, 0, 0, 0x1000, empty_path=False) == "follow"
    assert label("newfstatat", 0, 0, 0, 0, empty_path=True) == "follow"
    assert label("statx", 0, 0, 0x1000 | 0x100, empty_path=True) == "fd"
    assert label("statx", 0, 0, 0x100) == "nofollow"


def test_removals_are_told_apart_by_their_flag():
    assert label("unlinkat", 0, 0, 0x200) == "directory"
    assert label("unlinkat", 0, 0, 0) == "file"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (SIGCHLD, "fork"), (SIGCHLD | 0x1200000, "fork"), (CLONE_VM | CLONE_VFORK, "vfork"),
        (0x3D0F00, "thread"), (SIGCHLD | CLONE_NEWUSER, "other"), (SIGCHLD | CLONE_VM, "other"),
        (SIGCHLD | CLONE_UNTRACED, "other"), (SIGCHLD | CLONE_PARENT, "other"),
        (SIGCHLD | CLONE_FILES, "other"), (CLONE_THREAD | CLONE_NEWUSER, "other"),
        (CLONE_VM | CLONE_VFORK | CLONE_NEWUSER, "other"),
    ],
)
def test_clone_is_fork_only_when_it_does_what_fork_does(flags, expected):
    assert label("clone", flags) == expected
    parsed = policy("native-fork: permit")
    governed = {variant.label: rules for variant, rules in uses(parsed, "clone")}[expected]
    assert bool(governed) is (expected == "fork")


def test_limits_and_ids_widen_to_the_process_itself_only():
    assert label("prlimit64", 0, 7, 0, 1) == "get"
    assert label("prlimit64", 0, 7, 1, 0) == "set"
    assert label("prlimit64", 5, 7, 0, 1) == "other"
    assert label("prlimit64", 0, 7, 1, 1) == "other"
    assert label("setresuid", -1, 5, -1) == "effective"
    assert label("setresuid", 2**32 - 1, 5, 2**32 - 1) == "effective"
    assert label("setresuid", 0, 5, -1) == "other"
    assert governing_names("setresuid", "effective") == ("setresuid", "seteuid")


def test_calls_on_descriptors_without_a_name_or_an_address_are_bare():
    assert choose_variant("sendto", [3, 1, 1, 0, 0, 0]).bare
    assert not choose_variant("sendto", [3, 1, 1, 0, 1, 16]).bare
    assert choose_variant("utimensat", [3, 0, 0, 0, 0, 0]).bare
    assert not choose_variant("utimensat", [3, 1, 0, 0, 0, 0]).bare
    assert choose_variant("futimesat", [3, 0, 0, 0, 0, 0]).bare
    assert choose_variant("fanotify_mark", [3, 0x80, 0, 0, 0, 0]).bare
    assert not choose_variant("fanotify_mark", [3, 1, 0, 5, 0, 0]).bare
    assert choose_variant("acct", [0] * 6).bare
    assert governing_names("futimesat", "fd") == ("futimesat", "futimens")


def test_rules_reach_the_modern_forms():
    assert reached("open") == {"open", "openat", "openat2", "creat"}
    assert reached("openat") == {"openat", "openat2"}
    assert reached("stat") == {"stat", "newfstatat", "statx"}
    assert reached("fstat") == {"fstat", "newfstatat", "statx"}
    assert reached("exit") == {"exit", "exit_group"}
    assert reached("fork") == {"fork", "clone"}
    assert reached("sigaction") == {"rt_sigaction"}
    assert reached("fsread") == {
        "open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
        "faccessat2", "readlink", "readlinkat",
    }
    assert {"creat", "mkdirat", "rmdir", "unlinkat", "mknodat"} <= reached("fswrite")
    assert {"connect", "sendmsg", "accept4"} <= reached("socketcall", "linux")
    assert reached("issetugid") == set()
    assert reached("read", "martian") == set()


@settings(deadline=None)
@given(EVERY_CALL, st.sampled_from(["native", "linux", "netbsd"]))
def test_a_rule_reaches_exactly_the_calls_that_it_governs(name, emulation):
    one = rule("true then deny", name=f"{emulation}-{name}")
    parsed = policy(f"{emulation}-{name}: true then deny", emulation=emulation)
    for other in NUMBERS:
        governed = any(
            effective_rules(parsed, other, variant.label) for variant in variants(other)
        )
        assert governed is (other in reaches(one))
        assert governed is (canonical(emulation, name) in governing_names(other, None, emulation))


def test_denials_of_a_classic_name_hold_for_the_modern_form():
    parsed = policy("native-stat: deny[enoent]")
    assert effective_rules(parsed, "newfstatat", "follow")[0].errno == errno.ENOENT
    assert effective_rules(parsed, "newfstatat", "nofollow") == ()
