"""Conditions on registers: decided by the kernel where they can be, and everywhere as rules say."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel import bpf
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import arguments_of, choose_variant
from certexec.policy.compile import compile_table
from certexec.policy.decisions import Table
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.guards import DENY, KILL, NOTIFY, PERMIT
from certexec.policy.model import Policy, Subject
from certexec.policy.split import BRANCHES_MAX
from certexec.policy.translators import TRANSLATORS
from certexec.policy.tree import TreeOptions
from tests.policy.common import policy
from tests.policy.test_translators import KNOWN, literals

X86_64 = bpf.AUDIT_ARCH_X86_64
OPTIONS = TreeOptions(full_log=False, privileged=False, capable=False)
PASS, EPERM = (PERMIT, 0, ""), (DENY, errno.EPERM, "")
TOLD = (NOTIFY, 0, "rules")
UNSUPPORTED = (NOTIFY, errno.EPERM, "denied-until-supported")


def table(*lines: str, emulation: str = "native") -> Table:
    return Table(policy(*lines, emulation=emulation), OPTIONS)


def decide(found: Table, name: str, *args: int) -> tuple[str, int, str]:
    registers = [word & 2**64 - 1 for word in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    decision = found.decide(NUMBERS[name], registers)
    return decision.kind, decision.errno, decision.why


# ---- single rules --------------------------------------------------------------------------------


def test_the_kernel_alone_tells_kinds_of_sockets_apart():
    found = table(
        'native-socket: sockdom eq "AF_UNIX" then permit',
        'native-socket: sockdom eq "AF_INET" and socktype eq "SOCK_STREAM" then permit',
        'native-socket: sockdom match "AF_INET*" then deny[eafnosupport]',
    )
    assert not found.needs_listener
    flags = 0o2004000
    assert decide(found, "socket", 1, 5) == PASS
    assert decide(found, "socket", 1 | 1 << 32, 1) == PASS, "a domain is an int"
    for kind in (1, 1 | flags, 1 | 0o4000):
        assert decide(found, "socket", 2, kind) == PASS
        assert decide(found, "socket", 10, kind) == (DENY, errno.EAFNOSUPPORT, "")
    assert decide(found, "socket", 2, 2 | flags) == (DENY, errno.EAFNOSUPPORT, "")
    assert decide(found, "socket", 16, 3) == EPERM


@pytest.mark.parametrize("name", ["mmap", "mprotect", "pkey_mprotect"])
def test_the_kernel_alone_keeps_memory_from_being_writable_and_executable(name):
    found = table(
        f'native-{name}: prot sub "PROT_WRITE|PROT_EXEC" then deny[eacces]',
        f'native-{name}: prot sub "PROT_WRITE" and prot sub "PROT_EXEC" then deny[eacces]',
        f"native-{name}: true then permit",
    )
    assert not found.needs_listener
    for prot in range(16):
        wanted = (DENY, errno.EACCES, "") if prot & 6 == 6 else PASS
        assert decide(found, name, 0, 4096, prot) == wanted
    assert decide(found, name, 0, 4096, 0x01000006) == (DENY, errno.EACCES, "")
    assert len(found.of(NUMBERS[name])) == 2, "one test of two bits"


def test_signals_are_told_apart_by_name():
    found = table('native-kill: signame re "HUP|TERM" then permit')
    assert not found.needs_listener
    for number in range(66):
        assert decide(found, "kill", 77, number) == (PASS if number in (1, 15) else EPERM)
    unknown = table('native-kill: signame match "<unknown>*" then permit')
    assert decide(unknown, "kill", 77, 64) == PASS
    assert decide(unknown, "kill", 77, 9) == EPERM


def test_commands_of_fcntl_are_told_apart_by_name():
    found = table(
        'native-fcntl: cmd match "F_GET*" then permit',
        'native-fcntl: cmd eq "<unknown>: 1030" then permit',
    )
    passing = [cmd for cmd in range(1100) if decide(found, "fcntl", 3, cmd) == PASS]
    assert passing == [1, 3, 5, 9, 11, 1030]


def test_ids_and_modes_are_numbers():
    found = table(
        'native-setuid: uid eq "70" then permit', 'native-fchmod: mode eq "644" then permit',
        'native-fchmod: fd eq "7" and not mode match "4*" then permit',
        'native-fchown: uid eq "-1" and gid eq "50" then permit',
    )
    assert not found.needs_listener
    assert decide(found, "setuid", 70) == PASS
    assert decide(found, "setuid", 0) == EPERM
    assert decide(found, "fchmod", 3, 0o100644) == PASS
    assert decide(found, "fchmod", 3, 0o4644) == EPERM
    assert decide(found, "fchmod", 7, 0o4644) == EPERM
    assert decide(found, "fchmod", 7, 0o755) == PASS
    assert decide(found, "fchown", 3, 0xFFFFFFFF, 50) == PASS
    assert decide(found, "fchown", 3, 2**64 - 1, 50) == PASS
    assert decide(found, "fchown", 3, 0, 50) == EPERM


def test_the_effective_id_is_what_seteuid_names():
    found = table(
        'native-seteuid: uid eq "70" then permit', 'native-setegid: gid eq "1" then permit',
    )
    keep = 0xFFFFFFFF
    assert decide(found, "setresuid", keep, 70, keep) == PASS
    assert decide(found, "setresuid", keep, 0, keep) == EPERM
    assert decide(found, "setresuid", 70, 70, keep) == EPERM
    assert decide(found, "setresgid", keep, 1, keep) == PASS
    assert decide(found, "setresgid", 1, keep, keep) == EPERM
    assert decide(found, "setuid", 70) == EPERM


def test_setresuid_has_three_ids_and_a_denied_one_is_found_in_each_of_its_uses():
    found = table(
        *(f'native-setresuid: uid[{place}] eq "0" then deny[eacces]' for place in (0, 1, 2)),
        "native-setresuid: true then permit",
    )
    keep = 0xFFFFFFFF
    for ids in ((0, 5, 5), (5, 0, 5), (5, 5, 0), (keep, 0, keep)):
        assert decide(found, "setresuid", *ids) == (DENY, errno.EACCES, ""), ids
    for ids in ((5, 5, 5), (keep, 5, keep), (keep, keep, keep)):
        assert decide(found, "setresuid", *ids) == PASS


def test_the_order_of_rules_and_bare_rules_count_as_ever():
    lines = [
        'native-socket: sockdom eq "AF_INET" then deny[enoent]',
        'native-socket: sockdom match "AF_*" then permit',
        'native-socket: sockdom eq "AF_UNIX" then deny[eacces]',
    ]
    found = table(*lines)
    assert decide(found, "socket", 2) == (DENY, errno.ENOENT, "")
    assert decide(found, "socket", 1) == PASS
    assert decide(table(*lines, "native-socket: deny[eio]"), "socket", 1) == (DENY, errno.EIO, "")


def test_opens_are_told_apart_by_their_flags_before_any_name_is_read():
    found = table(
        'native-openat: oflags sub "t" then deny[eacces]',
        'native-openat: oflags eq "ro" then permit',
        'native-openat: filename match "/tmp" then permit',
    )
    assert decide(found, "openat", 0, 0, 0o1001) == (DENY, errno.EACCES, "")
    assert decide(found, "openat", 0, 0, 0o2000000) == PASS
    assert decide(found, "openat", 0, 0, 2) == TOLD
    named = table('native-openat: oflags eq "ro" and filename match "/tmp" then permit')
    assert decide(named, "openat", 0, 0, 1) == EPERM
    assert decide(named, "openat", 0, 0, 0) == TOLD


def test_what_registers_do_not_tell_is_the_supervisor_s():
    found = table('native-setuid: uid eq "70" and uname eq "named" then permit')
    assert decide(found, "setuid", 70) == TOLD
    assert decide(found, "setuid", 0) == EPERM
    found = table('native-kill: pidname eq "/bin/sh" and signame eq "SIGHUP" then permit')
    assert decide(found, "kill", 77, 1) == TOLD
    assert decide(found, "kill", 77, 9) == EPERM
    assert decide(found, "kill", 0, 1) == EPERM, "the own group is no program"
    assert decide(table("native-getpid: permit, if user = alice"), "getpid") == TOLD
    assert decide(table('native-setuid: uid match "1*" then permit'), "setuid", 5) == TOLD


def test_what_lies_in_memory_cannot_be_judged_beside_it():
    """The kernel would read it again."""
    found = table(
        "native-pivot_root: permit, if user = root",
        'native-open_tree_attr: filename eq "/" then permit, if user = root',
        'native-open_tree: true then deny, if user = root',
        'native-open_tree: filename eq "/x" then permit',
    )
    assert decide(found, "pivot_root", 1, 1) == TOLD
    assert decide(found, "open_tree_attr", 1, 1) == UNSUPPORTED
    assert decide(found, "open_tree", 1, 1) == UNSUPPORTED


def test_a_comparison_with_what_a_call_does_not_have_never_holds():
    found = table(
        'native-getpid: filename eq "/x" then permit', 'native-getuid: not fd eq "3" then permit',
        'native-fsread: oflags eq "ro" then permit', 'native-kill: signame[1] neq "x" then permit',
        'native-socketpair: prot neq "x" then permit',
    )
    assert not found.needs_listener
    assert decide(found, "getpid") == EPERM
    assert decide(found, "getuid") == PASS
    assert decide(found, "open", 0, 0) == EPERM
    assert decide(found, "kill", 0, 1) == EPERM
    assert decide(found, "socketpair", 1, 1) == EPERM


def test_a_rule_that_would_need_too_many_tests_goes_to_the_supervisor():
    mixed = "|".join(f"{mode:o}$" for mode in range(0, 4096, 5))
    found = table(f'native-fchmod: mode re "{mixed[:1500].rpartition("|")[0]}" then permit')
    assert decide(found, "fchmod", 3, 5) == TOLD
    assert len(found.of(NUMBERS["fchmod"])) < BRANCHES_MAX


def test_io_uring_passes_by_no_condition():
    found = table(
        'native-socket: sockdom eq "AF_UNIX" then permit', "native-io_uring_setup: permit"
    )
    assert decide(found, "io_uring_setup", 1, 0) == EPERM


def test_the_32_bit_names_mean_the_same_calls():
    found = table(
        'linux-mmap2: prot eq "PROT_READ" then permit',
        'linux-fcntl64: cmd eq "F_GETFD" then permit',
        'linux-socket: sockdom eq "AF_UNIX" then permit', emulation="linux",
    )
    assert decide(found, "mmap", 0, 1, 1) == PASS
    assert decide(found, "fcntl", 3, 1) == PASS
    assert decide(found, "socket", 1) == PASS
    assert decide(found, "socket", 2) == EPERM


# ---- any policy ----------------------------------------------------------------------------------

CALLS = {
    "socket": "sockdom socktype", "socketpair": "sockdom socktype", "mmap": "prot",
    "mprotect": "prot", "fcntl": "cmd", "kill": "pidname signame", "tgkill": "signame",
    "setuid": "uid uname", "setresuid": "uid uname", "seteuid": "uid uname", "setreuid": "uid",
    "fchmod": "mode fd", "fchown": "uid fd", "open": "oflags filename",
    "openat": "oflags filename", "chmod": "mode filename", "fsread": "filename oflags",
    "getpid": "fd", "open_tree": "filename", "sendto": "sockaddr",
}  # fmt: skip
"""Names in rules to the arguments that rules ask for; not all of them are there."""
TEXTS = {"filename": "/tmp/x", "sockaddr": "inet-[::1]:80", "pidname": "/bin/sh", "uname": "root"}


@st.composite
def expressions(draw, name: str, depth: int = 2) -> str:
    kinds = ["plain", "plain", "not", "and", "or", "true"]
    kind = draw(st.sampled_from(kinds)) if depth else "plain"
    if kind == "true":
        return "true"
    if kind == "not":
        return f"not ({draw(expressions(name, depth - 1))} )"
    if kind in ("and", "or"):
        left, right = draw(expressions(name, depth - 1)), draw(expressions(name, depth - 1))
        return f"({left} ) {kind} ({right} )"
    argument = draw(st.sampled_from(CALLS[name].split()))
    known = {"fd": "uid"}.get(argument, argument)
    data = draw(literals(known)) if known in KNOWN else TEXTS[argument]
    data = draw(st.sampled_from([data, data, TEXTS.get(argument, data)]))
    operator = draw(st.sampled_from(["eq", "eq", "neq", "sub", "nsub", "match", "inpath", "re"]))
    if operator == "re":
        data = "".join("\\" + one if one in "()|.[]*+?{}^$\\" else one for one in data)
        data = draw(st.sampled_from(["^", ""])) + data + draw(st.sampled_from(["", "$"]))
    elif operator == "match":
        data += draw(st.sampled_from(["", "*"]))
    place = draw(st.sampled_from(["", "", "[1]"]))
    quoted = data.replace("\\", "\\\\").replace('"', '\\"')
    return f'{argument}{place} {operator} "{quoted}"'


@st.composite
def lines(draw) -> str:
    name = draw(st.sampled_from(sorted(CALLS)))
    if draw(st.integers(0, 14)) == 0:
        return f"native-{name}: " + draw(st.sampled_from(["permit", "deny[eio]"]))
    action = draw(st.sampled_from(["permit", "permit", "deny", "deny[enoent]"]))
    who = draw(st.sampled_from(["", "", "", ", if user = 1000"]))
    return f"native-{name}: {draw(expressions(name))} then {action}{who}"


REGISTERS = st.one_of(
    *(st.sampled_from(values) for values in KNOWN.values()),
    st.integers(-2, 80).map(lambda one: one & 2**64 - 1), st.integers(0, 2**64 - 1),
)
ASKED = st.lists(
    st.tuples(
        st.sampled_from(sorted(set(CALLS) & set(NUMBERS))), st.tuples(*[REGISTERS] * 6)
    ),
    min_size=1, max_size=25,
)
SUBJECTS = (Subject(1000, 1000, "/root", "u", "/"), Subject(0, 0, "/root", "root", "/"))
UNTOLD = ("/tmp/x", "/bin/sh", "root", "inet-[::1]:80", "other")


def outcomes(parsed: Policy, name: str, args: tuple[int, ...]) -> set[tuple[str, int]]:
    """What rules say of a call with these registers, whatever lies in memory and whoever calls."""
    variant = choose_variant(name, args)
    rules = effective_rules(parsed, name, variant.label)
    found = set()
    for subject in SUBJECTS:
        for untold in UNTOLD:
            values: dict[str, list[str]] = {}
            for argument in arguments_of(name, variant):
                text = None
                if argument.in_register:
                    text = TRANSLATORS[argument.name].text(args[argument.register])
                values.setdefault(argument.name, []).append(untold if text is None else text)
            verdict = evaluate(rules, values, subject)
            if verdict is None:
                found.add(("deny", errno.EPERM))
            else:
                found.add((verdict.action, verdict.errno))
    return found


@settings(deadline=None, max_examples=600)
@given(st.lists(lines(), min_size=1, max_size=8), ASKED, st.booleans())
def test_the_filter_and_the_evaluator_agree(rules, asked, asks_unmatched):
    parsed = policy(*rules)
    parsed.asks_unmatched = asks_unmatched
    made = compile_table(Table(parsed, OPTIONS))
    simulator = Simulator(made.with_nonce(0x0123456789ABCDEF))
    for name, args in asked:
        decision = made.table.decide(NUMBERS[name], args)
        returned = simulator.run(NUMBERS[name], X86_64, 0, args)
        wanted = outcomes(parsed, name, args)
        if returned == bpf.SECCOMP_RET_ALLOW:
            assert decision.kind == PERMIT
            assert wanted == {("permit", 0)}, (name, args)
        elif returned == bpf.SECCOMP_RET_USER_NOTIF:
            assert decision.kind == NOTIFY
            if decision.permitted:
                assert wanted == {("permit", 0)}, (name, args)
            elif decision.why == "ask-unmatched":
                assert wanted == {("ask", 0)}, (name, args)
            else:
                assert asks_unmatched or decision.why != "unmatched"
                assert decision.why in ("rules", "denied-until-supported", "unmatched")
        else:
            assert returned == bpf.SECCOMP_RET_ERRNO | decision.errno
            assert decision.kind != KILL
            # F_SETFL, F_SETOWN, F_SETSIG and F_SETOWN_EX: certexec's own word comes first
            guarded = name == "fcntl" and args[1] & 0xFFFFFFFF in (4, 8, 10, 15)
            assert guarded or wanted == {("deny", decision.errno)}, (name, args)
