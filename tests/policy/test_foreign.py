"""Calls of the 32-bit ABI: what they mean, and that filter, table and evaluator agree on them."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel import bpf
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.kernel.syscalls_i386 import NAMES_I386, NUMBERS_I386
from certexec.policy.calls import SUPERVISED
from certexec.policy.compile import compile_policy, compile_reach
from certexec.policy.foreign import MEANINGS, MULTIPLEXED, meaning_of
from certexec.policy.foreign_table import COPIED, ForeignTable, decide
from certexec.policy.guards import (
    ASK,
    CHANGING,
    DENY,
    KILL,
    NOTIFY,
    PERMIT,
    PERMITTED,
    PROTECTED,
    PROTECTION,
    RULES,
    UNSUPPORTED,
)
from certexec.policy.model import parts
from certexec.policy.reach import Reach
from certexec.policy.select import admit_foreign, ask_about_unmatched, select_with_foreign
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from tests.policy.common import USERS
from tests.policy.test_compile import COMPARED, FIXED, OPTIONS, REGISTERS, action
from tests.policy.test_compile import RULES as RULE_LISTS

I386 = bpf.AUDIT_ARCH_I386
X86_64 = bpf.AUDIT_ARCH_X86_64
LOW = 0xFFFFFFFF
LANGUAGE = "Language: certexec 1\n"


def two(native=(), linux=(), path="/bin/x"):
    text = LANGUAGE + "".join(
        f"Policy: {path}, Emulation: {emulation}\n"
        + "".join(f"{emulation}-{line}\n" for line in lines)
        for emulation, lines in (("native", native), ("linux", linux))
    )
    file = parse_policy(text, name="test", users=USERS, privileged=True)
    return select_with_foreign(file, path)


def made(native=(), linux=(), **options):
    return compile_policy(two(native, linux), TreeOptions(**FIXED | options))


def filtered(compiled, name, *args):
    """What the filter answers to a call of the 32-bit ABI."""
    registers = (*args, *[0] * (6 - len(args)))
    return Simulator(compiled.with_nonce(7)).run(NUMBERS_I386[name], I386, 0, registers)


def decided(compiled, name, *args, copied=None):
    registers = (*args, *[0] * (6 - len(args)))
    meaning = meaning_of(NUMBERS_I386[name], registers[0])
    return decide(compiled.tables[0].foreign, meaning, registers, copied)


ALLOW, KILLED = bpf.SECCOMP_RET_ALLOW, bpf.SECCOMP_RET_KILL_PROCESS
NOTIFIED = bpf.SECCOMP_RET_USER_NOTIF


# ---- what is admitted ----


def test_without_a_part_for_it_the_32_bit_abi_is_killed():
    file = parse_policy(
        "Policy: /bin/x, Emulation: linux64\nlinux64-getpid: permit\n", name="t", users=USERS,
        privileged=True,
    )  # fmt: skip
    with pytest.raises(PolicyError, match="does not say") as caught:
        select_with_foreign(file, "/bin/x")
    assert caught.value.reason == "policy-mismatch"
    assert file.policies[0].foreign is None
    compiled = compile_policy(file.policies[0], TreeOptions(**FIXED))
    assert filtered(compiled, "getpid") == KILLED


def test_a_part_for_emulation_linux_counts_only_where_the_abi_is_admitted():
    text = LANGUAGE + "Policy: /bin/x, Emulation: native\nPolicy: /bin/x, Emulation: linux\n"
    file = parse_policy(text + "linux-getpid: permit\n", name="t", users=USERS, privileged=True)
    assert filtered(compile_policy(file.policies[0], TreeOptions(**FIXED)), "getpid") == KILLED
    admit_foreign(file.policies)
    compiled = compile_policy(file.policies[0], TreeOptions(**FIXED))
    assert filtered(compiled, "getpid") == ALLOW
    simulator = Simulator(compiled.with_nonce(7))
    assert simulator.run(NUMBERS["getpid"], X86_64, 0, (0,) * 6) == errno_of(errno.EPERM)


def errno_of(code):
    return bpf.SECCOMP_RET_ERRNO | code


def test_a_policy_for_emulation_linux_alone_holds_for_both_abis():
    file = parse_policy(
        "Policy: /bin/x, Emulation: linux\nlinux-getpid: permit\n", name="t", users=USERS,
        privileged=True,
    )  # fmt: skip
    policy = select_with_foreign(file, "/bin/x")
    assert parts(policy) == (policy,)
    compiled = compile_policy(policy, TreeOptions(**FIXED))
    assert filtered(compiled, "getpid") == ALLOW
    assert filtered(compiled, "getuid") == errno_of(errno.EPERM)


def test_a_detached_part_admits_nothing():
    text = LANGUAGE + "Policy: /bin/x, Emulation: native\nPolicy: /bin/x, Emulation: linux\n"
    text += "detached\n"
    file = parse_policy(text, name="t", users=USERS, privileged=True)
    with pytest.raises(PolicyError, match="does not say"):
        select_with_foreign(file, "/bin/x")


def test_after_is_refused_beside_the_32_bit_abi():
    text = (
        LANGUAGE + "Policy: /bin/x, Emulation: native\nnative-read: permit\n"
        "after native-read: true then only read\nPolicy: /bin/x, Emulation: linux\n"
    )
    file = parse_policy(text, name="t", users=USERS, privileged=True)
    with pytest.raises(PolicyError, match='"after" beside the 32-bit ABI'):
        admit_foreign(file.policies)


# ---- what the calls mean ----


def test_every_call_of_the_table_means_one_of_x86_64_or_nothing_that_linux_has():
    absent = (
        "break stty gtty ftime prof lock mpx ulimit profil idle vm86old bdflush vm86"
    ).split()  # fmt: skip
    left = {NAMES_I386[number] for number in NAMES_I386 if number not in MEANINGS}
    assert left == {*absent, *MULTIPLEXED}


def test_each_call_that_both_tables_have_means_the_one_of_its_name():
    for number, meaning in MEANINGS.items():
        name = NAMES_I386[number]
        assert meaning.call == name
        if name in NUMBERS:
            assert meaning.name == name
        assert meaning.number == NUMBERS[meaning.name]


@pytest.mark.parametrize(
    ("name", "registers", "expected"),
    [
        ("clone", (1, 2, 3, 4, 5, 6), (1, 2, 3, 5, 4, 6)),
        ("truncate64", (1, 2, 3, 4, 5, 6), (1, 3 << 32 | 2, 3, 4, 5, 6)),
        ("truncate", (1, LOW, 3, 4, 5, 6), (1, 2**64 - 1, 3, 4, 5, 6)),
        ("fanotify_mark", (1, 2, 3, 4, 5, 6), (1, 2, 4 << 32 | 3, 5, 6, 6)),
        ("chown", (1, 0xFFFF, 0x10002, 4, 5, 6), (1, LOW, 2, 4, 5, 6)),
        ("chown32", (1, 0xFFFF, 0x10002, 4, 5, 6), (1, 0xFFFF, 0x10002, 4, 5, 6)),
        ("umount", (1, 2, 3, 4, 5, 6), (1, 0, 3, 4, 5, 6)),
        ("statfs64", (1, 84, 3, 4, 5, 6), (1, 3, 84, 4, 5, 6)),
        ("nice", (7, 2, 3, 4, 5, 6), (0, 0, 7, 4, 5, 6)),
        ("openat", (LOW - 99, 2, 3, 4, 5, 6), (LOW - 99, 2, 3, 4, 5, 6)),
    ],
)
def test_registers_are_found_where_the_32_bit_call_has_them(name, registers, expected):
    assert MEANINGS[NUMBERS_I386[name]].registers(registers) == expected


def test_socketcall_means_its_call_with_the_copied_words():
    number = NUMBERS_I386["socketcall"]
    send = meaning_of(number, 9)
    assert (send.name, send.words) == ("sendto", 4)
    assert send.registers((9, 1000)) == (None, None, None, None, 0, 0)
    assert send.registers((9, 1000), (3, 2000, 5, 64)) == (3, 2000, 5, 64, 0, 0)
    assert meaning_of(number, 0) is meaning_of(number, 21) is None


def test_ipc_looks_at_the_lower_half_of_its_first_register():
    number = NUMBERS_I386["ipc"]
    assert meaning_of(number, 0x10000 | 23).name == "shmget"
    assert meaning_of(number, 5) is None


# ---- filter, table and evaluator ----

CALLS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [number for number, meaning in MEANINGS.items() if meaning.name in COMPARED]
            ),
            st.sampled_from([NUMBERS_I386[name] for name in MULTIPLEXED]),
            st.sampled_from(sorted(NAMES_I386)),
            st.integers(0, LOW),
        ),
        st.tuples(*[st.one_of(REGISTERS, st.integers(0, 24))] * 6),
    ),
    min_size=1,
    max_size=60,
)


def both_abis(native, linux):
    policy = two()
    policy.rules = list(native)
    for rule in linux:
        rule.emulation = "linux"
    policy.foreign.rules = list(linux)
    return policy


def compiled_for(native, linux, options):
    policy = both_abis(native, linux)
    others = {name: value for name, value in options.items() if name != "asks_unmatched"}
    ask_about_unmatched((policy, policy.foreign), options["asks_unmatched"])
    return compile_policy(policy, TreeOptions(**FIXED | others))


@settings(deadline=None, max_examples=200)
@given(RULE_LISTS, RULE_LISTS, OPTIONS, CALLS)
def test_the_filter_the_table_and_the_supervisor_agree_on_calls_of_both_abis(
    native, linux, options, calls
):
    compiled = compiled_for(native, linux, options)
    simulator = Simulator(compiled.with_nonce(7))
    table = compiled.tables[0]
    foreign = ForeignTable(table.foreign)
    for number, args in calls:
        low = tuple(arg & LOW for arg in args)
        due = foreign.decide(number, low)
        # upper halves are nobody's: the kernel ignores them, and so does the filter
        assert simulator.run(number, I386, 0, args) == action(due), NAMES_I386.get(number)
        if due.kind == NOTIFY:
            assert table.needs_listener
        meaning = meaning_of(number, low[0])
        if meaning is None:
            assert due == foreign.default
        elif due != COPIED:
            assert decide(table.foreign, meaning, low) == due, (meaning.call, meaning.name)
        own = action(table.decide(number & 0x3FFFFFFF, args))
        if args[5] != 7:
            assert simulator.run(number & 0x3FFFFFFF, X86_64, 0, args) == own


@settings(deadline=None, max_examples=100)
@given(RULE_LISTS, OPTIONS, CALLS)
def test_a_call_is_decided_as_the_x86_64_call_that_does_the_same(linux, options, calls):
    compiled = compiled_for((), linux, options)
    table = compiled.tables[0].foreign
    for number, args in calls:
        low = tuple(arg & LOW for arg in args)
        meaning = meaning_of(number, low[0])
        if meaning is None:
            continue
        copied = tuple(reversed(low)) if meaning.is_copied else None
        registers = meaning.registers(low, copied)
        if None in registers or meaning.call in ("oldstat", "oldlstat", "quotactl"):
            continue
        assert decide(table, meaning, low, copied) == table.decide(meaning.number, registers)


@settings(deadline=None, max_examples=30)
@given(RULE_LISTS, OPTIONS, st.integers(0, LOW), st.tuples(*[REGISTERS] * 6))
def test_x32_and_all_other_architectures_stay_killed(rules, options, number, args):
    compiled = compiled_for(rules, rules, options)
    simulator = Simulator(compiled.with_nonce(7))
    for arch in (0, 0x40000028, 0xC00000B7, I386 | 1 << 31, X86_64 & ~(1 << 31)):
        assert simulator.run(number, arch, 0, args) == KILLED
    for x32 in (number | 0x40000000, number | 0x80000000, 0x40000000 | 59):
        assert simulator.run(x32, X86_64, 0, args) == KILLED


def test_the_launch_gate_is_not_open_to_the_other_abi():
    compiled = made(["getpid: permit"], ["getpid: permit"])
    simulator = Simulator(compiled.with_nonce(7))
    gate = (1, 0, 0, 0, 0, 7)
    assert simulator.run(NUMBERS["execveat"], X86_64, 0, gate) == ALLOW
    for name in ("execveat", "sendmsg", "write", "prctl"):
        assert simulator.run(NUMBERS_I386[name], I386, 0, gate) != ALLOW


# ---- compares ----


def test_register_rules_are_compared_with_the_32_bit_registers():
    compiled = made(
        (),
        [
            'mprotect: prot match "*PROT_EXEC*" then deny[eacces]', "mprotect: true then permit",
            'chown: uid eq "0" then deny[eperm]', "chown: true then permit",
        ],
    )  # fmt: skip
    high = 0xDEADBEEF << 32
    for upper in (0, high):
        assert filtered(compiled, "mprotect", upper, 1, 4 | upper) == errno_of(errno.EACCES)
        assert filtered(compiled, "mprotect", upper, 1, 3 | upper) == ALLOW


def test_old_ids_are_those_of_16_bits():
    compiled = made((), ['setuid: uid eq "65535" then deny[eacces]', "setuid: true then permit"])
    assert filtered(compiled, "setuid", 0xFFFF) == ALLOW  # it means -1
    assert filtered(compiled, "setuid32", 0xFFFF) == errno_of(errno.EACCES)
    assert filtered(compiled, "setuid", 0xFFFF0001) == ALLOW
    compiled = made((), ['setuid: uid eq "0" then deny[eacces]', "setuid: true then permit"])
    assert filtered(compiled, "setuid", 0x10000) == errno_of(errno.EACCES)
    compiled = made((), ['setuid: uid match "1*" then deny[eacces]', "setuid: true then permit"])
    assert filtered(compiled, "setuid", 100) == NOTIFIED


def test_arguments_in_memory_are_copied_or_the_call_is_denied():
    rules = ['socket: sockdom eq "AF_UNIX" then permit', "listen: permit"]
    compiled = made((), rules)
    assert compiled.needs_listener
    assert filtered(compiled, "socketcall", 1, 4096) == NOTIFIED
    assert decided(compiled, "socketcall", 1, 4096) is None
    unix = decided(compiled, "socketcall", 1, 4096, copied=(1, 1, 0))
    assert (unix.kind, decided(compiled, "socketcall", 1, 4096, copied=(2, 1, 0)).errno) == (
        PERMIT, errno.EPERM,
    )  # fmt: skip
    assert filtered(compiled, "socketcall", 4, 4096) == ALLOW
    assert filtered(compiled, "socketcall", 5, 4096) == errno_of(errno.EPERM)
    compiled = made((), ['mmap: prot match "*EXEC*" then deny', "mmap: true then permit"])
    assert filtered(compiled, "mmap", 4096) == errno_of(errno.EPERM)
    assert filtered(compiled, "mmap2", 0, 4096, 3) == ALLOW


def test_structures_that_nobody_carries_over_are_denied_and_logged():
    compiled = made((), ['fsread: filename match "/usr" then permit'])
    for name in ("oldstat", "oldlstat"):
        due = decided(compiled, name, 4096, 4096)
        assert (due.why, due.errno, due.log) == (UNSUPPORTED, errno.EPERM, True)
    assert decided(compiled, "stat64", 4096, 4096).why == RULES


# ---- guards: each of certexec.policy.guards, by the numbers of the other ABI ----

EVERYTHING = [f"{name}: permit" for name in NUMBERS if not name.startswith("io_uring")]
SUPERVISED_TREE = [*EVERYTHING, 'chdir: filename match "/usr" then permit']
SUPERVISED_TREE.remove("chdir: permit")


def test_no_child_escapes_its_tracer_by_the_other_abi():
    compiled = made(EVERYTHING, EVERYTHING)
    assert filtered(compiled, "clone", 0x00800011) == errno_of(errno.EPERM)
    assert filtered(compiled, "clone3", 1, 88) == errno_of(errno.ENOSYS)
    assert filtered(compiled, "clone", 17) == ALLOW


def test_a_launchers_question_is_no_longer_a_launchers_by_the_other_abi():
    assert filtered(made((), EVERYTHING), "prctl", 0x43584543) == errno_of(errno.EBUSY)
    assert filtered(made((), SUPERVISED_TREE), "prctl", 0x43584543) == NOTIFIED


def test_every_call_that_takes_another_process_as_its_target_is_looked_at():
    compiled = made(SUPERVISED_TREE, SUPERVISED_TREE)
    other = (4711, 4711, 4711, 4711, 4711, 4711)
    looked = [
        number for number, meaning in MEANINGS.items() if meaning.number in PROTECTED
        and NAMES_I386[number] != "nice"
    ]
    assert len(looked) == len(PROTECTED)
    for number in looked:
        name = NAMES_I386[number]
        assert filtered(compiled, name, *other) == NOTIFIED, name
        assert decided(compiled, name, *other).why == PROTECTION, name
    assert filtered(compiled, "nice", 5) == ALLOW  # about the caller alone
    assert filtered(compiled, "ptrace", 0) == ALLOW
    # an upper half says nothing: the kernel does not read it
    assert filtered(compiled, "kill", 1 << 32) == ALLOW
    assert filtered(compiled, "kill", 4711 | 1 << 32) == NOTIFIED


def test_what_moves_a_thread_is_told_to_the_supervisor():
    compiled = made(SUPERVISED_TREE, SUPERVISED_TREE)
    for name, first in (
        ("clone", 0x20000), ("clone", 0x10000000), ("unshare", 0x20000), ("unshare", 0x10000000),
        ("setns", 3), ("chroot", 4096), ("pivot_root", 4096),
    ):  # fmt: skip
        assert filtered(compiled, name, first) == NOTIFIED, name
        assert filtered(compiled, name, first | 1 << 40) == NOTIFIED, name


def test_no_process_shares_a_directory_that_is_judged_in_either_abi():
    shared = 0x200
    for native, linux in ((SUPERVISED_TREE, EVERYTHING), (EVERYTHING, SUPERVISED_TREE)):
        compiled = made(native, linux)
        assert filtered(compiled, "clone", shared) == errno_of(errno.EPERM)
        simulator = Simulator(compiled.with_nonce(7))
        clone = simulator.run(NUMBERS["clone"], X86_64, 0, (shared, 0, 0, 0, 0, 0))
        assert clone == errno_of(errno.EPERM)


def test_nobody_can_aim_signals_or_close_its_memory_to_the_supervisor():
    compiled = made(SUPERVISED_TREE, SUPERVISED_TREE)
    for name in ("fcntl", "fcntl64"):
        for signal in (9, 19):
            assert filtered(compiled, name, 3, 10, signal) == errno_of(errno.EPERM)
            assert filtered(compiled, name, 3, 10 | 1 << 35, signal) == errno_of(errno.EPERM)
    assert filtered(compiled, "prctl", 4, 0) == errno_of(errno.EPERM)
    assert filtered(compiled, "prctl", 4, 1 << 32) == errno_of(errno.EPERM)
    privileged = made((), EVERYTHING, privileged=True, may_exec=False)
    assert filtered(privileged, "prctl", 4, 1) == errno_of(errno.EPERM)


def test_each_table_is_protected_where_the_other_needs_a_supervisor():
    compiled = made(SUPERVISED_TREE, EVERYTHING)
    assert filtered(compiled, "kill", 4711) == NOTIFIED
    simulator = Simulator(made(EVERYTHING, SUPERVISED_TREE).with_nonce(7))
    assert simulator.run(NUMBERS["kill"], X86_64, 0, (4711,) * 6) == NOTIFIED


def test_a_programs_own_domain_would_not_bind_what_is_opened_for_either_abi():
    opens = [
        line for line in EVERYTHING if line not in ("openat: permit", "open: permit")
    ] + ['open: filename match "/usr" then permit']
    number = NUMBERS["landlock_restrict_self"]
    for native, linux in ((opens, EVERYTHING), (EVERYTHING, opens)):
        compiled = made(native, linux)
        assert filtered(compiled, "landlock_restrict_self", 3) == errno_of(errno.EOPNOTSUPP)
        simulator = Simulator(compiled.with_nonce(7))
        assert simulator.run(number, X86_64, 0, (3,) * 6) == errno_of(errno.EOPNOTSUPP)


def test_nobody_stands_in_an_agents_place_by_either_abi():
    asks = [*EVERYTHING, "getpid: ask"]
    asks.remove("getpid: permit")
    asks[-1] = "getpid: true then ask"
    compiled = made(asks, EVERYTHING)
    assert decided(compiled, "connect", 3, 4096, 110).why == PROTECTION
    assert decided(compiled, "socketcall", 3, 4096, copied=(3, 4096, 110)).why == PROTECTION
    assert decided(made(EVERYTHING, asks), "getpid").why == ASK


def test_io_uring_is_refused_beside_rules_of_the_other_abi_on_names():
    rings = ["io_uring_setup: permit", "io_uring_enter: permit", "io_uring_register: permit"]
    with pytest.raises(PolicyError, match="io_uring"):
        made((), [*rings, 'open: filename match "/usr" then permit'])
    compiled = made((), rings)
    assert filtered(compiled, "io_uring_enter", 3) == errno_of(errno.EPERM)


def test_userfaultfd_and_seccomp_are_denied_unless_a_rule_permits_them():
    compiled = made(EVERYTHING, ["getpid: permit"])
    for name in ("userfaultfd", "seccomp", "bpf", "process_vm_readv", "ptrace", "setns"):
        assert filtered(compiled, name) == errno_of(errno.EPERM), name


def test_execs_are_watched_where_something_is_granted():
    compiled = made((), EVERYTHING, privileged=True)
    for name in ("execve", "execveat"):
        assert decided(compiled, name, 4096).why == "exec"
    kept = made((), EVERYTHING, privileged=True, may_exec=False)
    assert filtered(kept, "execve") == errno_of(errno.EACCES)


def test_a_program_can_always_end_and_return():
    compiled = made((), ())
    for name in ("exit", "exit_group", "sigreturn", "rt_sigreturn", "restart_syscall"):
        assert filtered(compiled, name) == ALLOW
    assert decided(compiled, "exit") == PERMITTED


@pytest.mark.parametrize("name", sorted(SUPERVISED))
def test_every_judged_call_is_judged_by_the_other_abi_too(name):
    by_address = name in ("connect", "bind", "sendto", "sendmsg", "sendmmsg")
    argument = "sockaddr" if by_address else "filename"
    compiled = made((), [f'{name}: {argument} match "/usr" then permit'])
    numbers = [number for number, meaning in MEANINGS.items() if meaning.name == name]
    for number in numbers:
        # bare uses (a null pointer for the name) are among these, too
        due = decided(compiled, NAMES_I386[number], 3, 4096, 4096, 4096, 4096, 4096)
        assert due.kind in (NOTIFY, DENY), NAMES_I386[number]
        assert due.why == RULES or due.denied, NAMES_I386[number]
    assert numbers or name in {each.name for each in MULTIPLEXED["socketcall"][1].values()}


# ---- several policies ----


def test_where_only_one_policy_admits_the_abi_the_supervisor_tells_them_apart():
    own = two(["execve: permit"], ["getpid: permit", "execve: permit"])
    other = two(["getpid: permit"], (), path="/bin/y")
    other.foreign = None
    compiled = compile_reach(Reach(own, [other]), TreeOptions(**FIXED, own_policies=True))
    assert filtered(compiled, "getpid") == NOTIFIED
    assert compiled.tables[0].foreign is not None
    assert compiled.tables[1].foreign is None


def test_what_all_policies_say_alike_the_kernel_decides():
    own = two(["execve: permit"], ["getpid: permit", "execve: permit"])
    other = two(["getpid: permit"], ["getpid: permit"], path="/bin/y")
    compiled = compile_reach(Reach(own, [other]), TreeOptions(**FIXED, own_policies=True))
    assert filtered(compiled, "getpid") == ALLOW
    assert filtered(compiled, "getuid") == errno_of(errno.EPERM)


def test_a_program_is_reached_by_an_exec_of_either_abi():
    own = two((), ['execve: filename eq "/bin/y" then permit'])
    other = two(["getpid: permit"], (), path="/bin/y")
    assert [policy.path for policy in Reach(own, [other]).policies] == ["/bin/x", "/bin/y"]


def test_a_denial_with_kill_is_one_in_the_other_abi():
    text = (
        LANGUAGE + "Policy: /bin/x, Emulation: native\n"
        "Policy: /bin/x, Emulation: linux\nlinux-getpid: kill\n"
    )
    file = parse_policy(text, name="t", users=USERS, privileged=True)
    compiled = compile_policy(select_with_foreign(file, "/bin/x"), TreeOptions(**FIXED))
    assert decided(compiled, "getpid").kind == KILL
    assert filtered(compiled, "getpid") == KILLED


def test_rules_may_name_calls_as_the_32_bit_table_does():
    compiled = made((), ["getuid32: permit", "clock_gettime64: permit", "_newselect: permit"])
    for name in ("getuid", "getuid32", "clock_gettime", "clock_gettime64", "select", "_newselect"):
        assert filtered(compiled, name) == ALLOW, name
    assert filtered(compiled, "geteuid32") == errno_of(errno.EPERM)


def test_whatever_could_change_rights_is_told_by_either_abi():
    changing = {NAMES_I386[number] for number, one in MEANINGS.items() if one.number in CHANGING}
    assert {"setuid", "setuid32", "setgroups", "setgroups32", "capset", "execve"} <= changing
    compiled = made(SUPERVISED_TREE, SUPERVISED_TREE, capable=True)
    for name in changing - {"prctl"}:
        assert filtered(compiled, name, 1, 2, 3) == NOTIFIED, name
    for option in (24, 28):
        assert filtered(compiled, "prctl", option) == NOTIFIED


def test_a_rule_for_ipc_comes_before_those_for_the_calls_behind_it():
    compiled = made((), ["ipc: permit", "semget: deny[enosys]"])
    for name, args in (("ipc", (2,)), ("ipc", (24, 1)), ("semget", ()), ("shmctl", ())):
        assert filtered(compiled, name, *args) == ALLOW, name
    assert filtered(compiled, "ipc", 5) == errno_of(errno.EPERM)
    compiled = made((), ["semget: permit", "semop: deny[enosys]"])
    for version in (0, 1 << 16):
        assert filtered(compiled, "ipc", version | 2) == ALLOW
        assert filtered(compiled, "ipc", version | 1) == errno_of(errno.ENOSYS)
        assert filtered(compiled, "ipc", version | 23) == errno_of(errno.EPERM)
