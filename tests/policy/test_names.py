"""Names of other systems and other times."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.evaluate import effective_rules
from certexec.policy.names import ABSENT, CLASSIC, EMULATIONS, canonical, is_system_call
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS


@settings(deadline=None)
@given(st.sampled_from(sorted(NUMBERS)), st.sampled_from(sorted(EMULATIONS)))
def test_a_call_of_this_system_always_means_itself(name, emulation):
    assert canonical(emulation, name) == name


@pytest.mark.parametrize(
    ("emulation", "name", "meaning"),
    [
        ("native", "break", "brk"), ("native", "sigaction", "sigaction"),
        ("native", "pread", "pread64"), ("native", "getdirentries", "getdents"),
        ("native", "unmount", "umount2"), ("native", "getentropy", "getrandom"),
        ("native", "fstatat", "newfstatat"), ("native", "__getcwd", "getcwd"),
        ("native", "__tfork", "tfork"), ("native", "mkfifoat", "mkfifo"),
        ("native", "#26 (unimplemented ptrace)", "ptrace"),
        ("linux", "#224 (unimplemented gettid)", "gettid"),
        ("linux", "newuname", "uname"), ("linux", "newfstat", "fstat"),
        ("linux", "llseek", "lseek"), ("linux", "mmap2", "mmap"), ("linux", "old_mmap", "mmap"),
        ("linux", "fcntl64", "fcntl"), ("linux", "getuid16", "getuid"),
        ("linux", "socketcall", "socketcall"), ("linux", "sysctl", "_sysctl"),
        ("linux", "clock_gettime64", "clock_gettime"), ("linux", "futex_time64", "futex"),
        ("netbsd", "__stat30", "stat"), ("netbsd", "__fstat13", "fstat"),
        ("netbsd", "__sigaction14", "sigaction"), ("netbsd", "__vfork14", "vfork"),
        ("netbsd", "__posix_rename", "rename"), ("netbsd", "__wait450", "wait4"),
        ("freebsd", "sigprocmask40", "sigprocmask"), ("freebsd", "compat4.sendfile", "sendfile"),
        ("bsdos", "olseek", "lseek"), ("bsdos", "lstat35", "lstat"),
        ("freebsd", "stat43", "stat"), ("freebsd", "sigaction40", "sigaction"),
        ("bsdos", "opipe", "pipe"), ("native", "threxit", "exit"), ("native", "xfspioctl", None),
        ("linux", "linux_exit_group", "exit_group"), ("linux", "linux_getuid16", "getuid"),
        ("linux", "#225 (unimplemented linux_sys_readahead)", "readahead"),
        ("linux", "oldselect", "select"), ("linux", "rt_queueinfo", "rt_sigqueueinfo"),
        ("native", "linux_exit_group", None), ("linux", "linux_", None),
        ("linux64", "unknown-302", "prlimit64"), ("linux", "unknown-320", "utimensat"),
        ("linux64", "unknown-320", "kexec_file_load"), ("linux64", "unknown-99999", None),
        ("linux64", "unknown-", None), ("linux64", "unknown-1x", None),
        ("native", "unknown-302", None),
        ("darwin", "open_nocancel", "open"), ("darwin", "__pthread_kill_nocancel", None),
        ("native", "__sysctl", None), ("netbsd", "__sysctl", None), ("native", "sysctl", None),
        ("native", "issetugid", None), ("native", "socketcall", None),
        ("native", "frobnicate", None), ("native", "", None), ("native", "__", None),
        ("linux", "ni_syscall-43", None), ("native", "#151 (unimplemented)", None),
        ("martian", "read", None), ("martian", "fsread", None), ("martian", "break", None),
        ("bsdos", "fsread", None), ("netbsd", "fsread", "fsread"), ("native", "fswrite", "fswrite"),
    ],
)
def test_names_of_elsewhere_mean_the_same_call_here_or_nothing(emulation, name, meaning):
    assert canonical(emulation, name) == meaning


@settings(deadline=None)
@given(st.sampled_from(sorted(EMULATIONS)), st.text(max_size=20))
def test_a_name_means_a_known_word_or_nothing(emulation, name):
    meaning = canonical(emulation, name)
    assert meaning is None or meaning in NUMBERS or meaning in CLASSIC or meaning.startswith("fs")


def test_absent_names_mean_nothing():
    for name in ABSENT:
        assert canonical("native", name) is None, name


def test_what_is_a_system_call_is_no_alias():
    assert is_system_call("native", "read")
    assert is_system_call("native", "break")
    assert is_system_call("native", "issetugid")
    assert not is_system_call("native", "fsread")
    assert not is_system_call("native", "frobnicate")
    assert not is_system_call("martian", "read")
    assert not is_system_call("martian", "#151 (unimplemented)")
    assert is_system_call("linux", "socketcall")
    assert not is_system_call("linux", "connect")
    assert is_system_call("linux64", "connect")


@pytest.mark.parametrize(
    ("emulation", "name", "known"),
    [
        ("native", "#151 (unimplemented)", True), ("native", "#26 (unimplemented ptrace)", True),
        ("bsdos", "#107 (obsolete vtimes)", True), ("netbsd", "#91", True),
        ("native", "#", False), ("native", "#x", False), ("native", "#1 unimplemented", False),
        ("linux", "ni_syscall", True), ("linux", "ni_syscall-1", True),
        ("linux", "ni_syscall-16", True), ("linux", "ni_syscall-17", False),
        ("linux", "ni_syscall-30", False), ("linux", "ni_syscall-41", True),
        ("linux", "ni_syscall-43", False), ("linux64", "ni_syscall-1", False),
        ("linux", "unknown-400", True), ("linux64", "unknown-9999", True),
        ("native", "unknown-400", False),
    ],
)
def test_a_number_in_a_table_is_a_system_call_even_where_nothing_stands_behind_it(
    emulation, name, known
):
    assert is_system_call(emulation, name) is known
    text = f"Policy: /bin/x, Emulation: {emulation}\n{emulation}-{name}: permit\n"
    [policy] = parse_policy(text, name="file", users=USERS, privileged=True).policies
    assert [rule.simple for rule in policy.rules] == [known]


def test_a_call_that_systrace_knew_by_number_only_is_governed_by_its_rules():
    [policy] = parse_policy(
        "Policy: /bin/x, Emulation: linux64\nlinux64-unknown-318: permit\n",
        name="file", users=USERS, privileged=True,
    ).policies
    assert [rule.line for rule in effective_rules(policy, "getrandom")] == [2]
