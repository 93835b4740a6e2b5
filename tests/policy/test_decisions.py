"""The table of decisions: what each rule becomes, and what certexec adds to keep a tree inside."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy import decisions, guards
from certexec.policy.calls import SUPERVISED, governing_names
from certexec.policy.compile import compile_policy
from certexec.policy.decisions import ALWAYS, OPENS, Table
from certexec.policy.guards import (
    DENY,
    NESTED,
    NOTIFY,
    PERMIT,
    PERMITTED,
    Clause,
    Decision,
    tells_of_changes,
)
from certexec.policy.model import Not, Policy, Predicate, Rule, Symbol
from certexec.policy.tree import TreeOptions

CONDITION = Symbol("filename", -1, "match", "/usr")
ADDRESS = Symbol("sockaddr", -1, "match", "inet-*:80")
TRUE = Symbol("", -1, "true", "")
LOWEST = (0,) * 6
NAMED = (1,) * 6
"""Registers of a call with a name, or an address, in each place where one can be."""


def rule(name: str, action: str = "permit", **more) -> Rule:
    more.setdefault("errno", errno.EPERM if action == "deny" else 0)
    return Rule("native", name, action=action, line=1, text="", **more)


def permit(name: str) -> list[Rule]:
    return [rule(name, simple=True)]


def deny(name: str, code: int = errno.EPERM, **more) -> list[Rule]:
    return [rule(name, "deny", errno=code, simple=True, **more)]


def judged(name: str) -> list[Rule]:
    addressed = name in ("connect", "bind") or name.startswith("send")
    return [rule(name, expression=ADDRESS if addressed else CONDITION)]


def true(name: str, action: str = "permit", **more) -> list[Rule]:
    return [rule(name, action, expression=TRUE, **more)]


def table(
    *rules: list[Rule], full_log=False, privileged=False, capable=False, may_exec=True,
    elevations=(), asks_unmatched=False,
):  # fmt: skip
    policy = Policy("/bin/program", "native", 1)
    policy.asks_unmatched = asks_unmatched
    policy.rules = [one for each in rules for one in each]
    options = TreeOptions(
        full_log=full_log, privileged=privileged, capable=capable, may_exec=may_exec,
        elevations=elevations,
    )  # fmt: skip
    return Table(policy, options)


def decide(found: Table, name: str, *args: int) -> tuple[str, int, str]:
    padded = (*args, *LOWEST)[:6]
    decision = found.decide(NUMBERS[name], [word & 2**64 - 1 for word in padded])
    return decision.kind, decision.errno, decision.why


def logged(found: Table, name: str) -> bool:
    return found.decide(NUMBERS[name], LOWEST).log


PASS = (PERMIT, 0, "")
EPERM = (DENY, errno.EPERM, "")


GOVERNED_BY_OTHERS = {
    name for name in NUMBERS if set(governing_names(name)) != {name}
} | {"clone3", "prctl", "landlock_restrict_self"}
"""Calls on which more than one name, or certexec itself, has a say."""


def told(why: str, code: int = 0) -> tuple[str, int, str]:
    return NOTIFY, code, why


# ---- rules ----


def test_a_policy_of_constants_needs_no_listener():
    found = table(permit("getpid"), deny("getuid", errno.ENOENT))
    assert not found.needs_listener
    assert decide(found, "getpid") == PASS
    assert decide(found, "getuid") == (DENY, errno.ENOENT, "")
    assert decide(found, "socket") == EPERM
    assert found.decide(100_000, LOWEST) == Decision(DENY, errno.EPERM)


def test_under_the_full_log_every_denial_is_told():
    found = table(permit("getpid"), deny("getuid", errno.ENOENT), full_log=True)
    assert found.needs_listener
    assert decide(found, "getpid") == PASS
    assert decide(found, "getuid") == told("denied", errno.ENOENT)
    assert decide(found, "socket") == told("unmatched", errno.EPERM)
    assert found.decide(100_000, LOWEST).why == "unmatched"


def test_the_log_flag_makes_permits_and_denials_told():
    found = table(true("getpid", log=True), true("getuid", "deny", log=True))
    assert decide(found, "getpid") == told("log")
    assert decide(found, "getuid") == told("denied", errno.EPERM)
    assert logged(found, "getpid")
    assert found.needs_listener


@pytest.mark.parametrize("name", SUPERVISED)
def test_conditional_rules_on_a_call_that_is_carried_out_are_judged(name):
    found = table(judged(name))
    assert decide(found, name, *NAMED) == told("rules"), name
    assert found.needs_listener


@pytest.mark.parametrize("name", ["open_tree", "pivot_root", "open_tree_attr"])
def test_conditional_rules_on_any_other_call_deny_it_and_are_logged(name):
    found = table(judged(name))
    assert decide(found, name) == told("denied-until-supported", errno.EPERM)
    assert logged(found, name)


def test_an_alias_reaches_those_calls_too():
    found = table([rule("fswrite", expression=CONDITION)])
    assert decide(found, "truncate") == told("rules")
    assert decide(found, "mkdir") == told("rules")
    assert decide(found, "rename") == EPERM


def test_an_unconditional_rule_on_the_own_name_wins_wherever_it_stands():
    found = table(judged("stat"), deny("stat"), true("fsread"))
    assert decide(found, "stat") == EPERM
    assert not found.clauses[NUMBERS["stat"]][0].decision.why


def test_an_unconditional_rule_on_an_alias_keeps_its_place():
    assert decide(table(judged("fsread"), true("fsread", "deny")), "stat") == told("rules")
    assert decide(table(true("fsread", "deny"), judged("fsread")), "stat") == EPERM


def test_the_rules_of_the_own_name_come_before_those_of_the_alias():
    found = table(true("fsread"), true("stat", "deny", errno=errno.ENOENT))
    assert decide(found, "stat") == (DENY, errno.ENOENT, "")
    assert decide(table(true("fsread"), judged("stat")), "stat") == told("rules")


def test_a_rule_with_a_predicate_is_not_a_constant():
    one = rule("stat", expression=TRUE, predicate=Predicate("user", "=", 0))
    assert decide(table([one]), "stat") == told("rules")


def test_an_address_that_is_not_there_is_decided_without_looking():
    found = table([rule("sendto", expression=ADDRESS)], permit("getpid"))
    assert decide(found, "sendto", 3, 0, 0, 0, 0) == EPERM
    assert decide(found, "sendto", 3, 0, 0, 0, 77) == told("rules")
    otherwise = [rule("sendto", expression=Not(ADDRESS))]
    assert decide(table(otherwise), "sendto", 3, 0, 0, 0, 0) == PASS


def test_nor_is_a_name_that_is_not_there():
    found = table(judged("utimensat"), permit("futimens"))
    assert decide(found, "utimensat", 3, 0, 0, 0) == PASS
    assert decide(found, "utimensat", 3, 1, 0, 0) == told("rules")
    assert decide(found, "futimesat", 3, 0) == PASS
    denied = table(judged("utimensat"), deny("futimens", errno.EROFS))
    assert decide(denied, "utimensat", 3, 0) == (DENY, errno.EROFS, "")
    one = rule("futimens", expression=TRUE, predicate=Predicate("user", "=", 0))
    assert decide(table([one]), "utimensat", 3, 0) == told("rules"), "who asks counts"


def test_nor_does_asking_permit_anything():
    assert decide(table(true("getpid", "ask")), "getpid") == told("ask")
    assert decide(table(true("stat", "ask")), "stat") == told("rules")
    found = table(true("getpid", "ask"), permit("kill"), permit("prctl"))
    assert found.needs_listener
    assert not found.decide(NUMBERS["getpid"], LOWEST).permitted
    assert decide(found, "kill", 1, 9) == told("supervisor-protection")
    assert decide(table(true("prctl", "ask")), "prctl", 0x43584543)[0] != PERMIT


def test_where_somebody_is_asked_nobody_in_the_tree_meets_at_the_agents_socket():
    for name in ("connect", "bind"):
        found = table(true("getpid", "ask"), permit(name))
        assert decide(found, name) == told("supervisor-protection")
        assert decide(table(permit(name)), name) == PASS


def test_what_io_uring_does_cannot_be_asked_about():
    found = table(true("io_uring_enter", "ask"), permit("getpid"))
    assert decide(found, "io_uring_enter")[2] == "denied-until-supported"
    assert "says nothing of what it then does" in refused(true("io_uring_enter", "ask"))


def test_what_no_rule_matches_may_be_asked_about_and_is_judged_where_the_supervisor_can():
    found = table(permit("getpid"), deny("getuid"), judged("stat"), asks_unmatched=True)
    assert found.needs_listener
    assert decide(found, "getpid") == PASS and decide(found, "getuid") == EPERM
    assert decide(found, "getppid") == told("ask-unmatched")
    for name in ("stat", "openat", "mkdir", "execve", "connect", "mount"):
        assert decide(found, name) == told("rules")
    for name in ("connect", "bind"):
        with_it = table(permit(name), asks_unmatched=True)
        assert decide(with_it, name) == told("supervisor-protection")


def test_what_cannot_be_asked_about_is_denied_and_logged():
    found = table(asks_unmatched=True)
    unasked = told("unmatched", errno.EPERM)
    names = ("io_uring_setup", "io_uring_enter", "pivot_root", "open_tree", "open_tree_attr")
    assert all(decide(found, name) == unasked for name in names)
    assert found.decide(100_000, LOWEST) == Decision(NOTIFY, errno.EPERM, "unmatched")
    alone = table(true("pivot_root", predicate=Predicate("user", "=", 0)), asks_unmatched=True)
    assert decide(alone, "pivot_root") == told("rules")  # who is not 0 is denied: see evaluate
    assert "questions about what no rule matches" in refused(
        *(permit(name) for name in URING), asks_unmatched=True
    )


def test_certexecs_own_stays_in_front_of_every_question():
    found = table(asks_unmatched=True)
    plain = table(permit("getpid"), full_log=True)
    assert decide(found, "clone3") == decide(plain, "clone3") == (DENY, errno.ENOSYS, "")
    assert decide(found, "clone", 0x00800000)[:2] == EPERM[:2]
    assert decide(found, "prctl", 4, 0)[:2] == EPERM[:2]
    assert decide(found, "prctl", 0x43584543) == told(NESTED)
    assert decide(found, "landlock_restrict_self") == (DENY, errno.EOPNOTSUPP, "")
    assert decide(table(asks_unmatched=True, may_exec=False), "execve") == (
        DENY, errno.EACCES, "",
    )  # fmt: skip
    assert all(decide(found, NAMES[number])[0] == PERMIT for number in ALWAYS)


@given(
    st.sets(st.sampled_from(sorted(set(NUMBERS) - set(GOVERNED_BY_OTHERS)))),
    st.fixed_dictionaries(
        dict.fromkeys(("full_log", "privileged", "capable", "may_exec"), st.booleans())
    ),
)
def test_a_question_permits_nothing_that_was_denied(permitted, options):
    rules = [permit(name) for name in permitted if not name.startswith("io_uring")]
    plain = table(*rules, **options)
    asking = table(*rules, asks_unmatched=True, **options)
    for name in NUMBERS:
        for args in (LOWEST, NAMED):
            before = plain.decide(NUMBERS[name], args)
            after = asking.decide(NUMBERS[name], args)
            assert before.permitted or not after.permitted or NUMBERS[name] in ALWAYS, name
            assert not before.permitted or after.permitted or name == "landlock_restrict_self", name


def test_uses_of_one_call_are_told_apart_by_registers():
    found = table(permit("fork"), permit("rmdir"))
    assert not found.needs_listener
    assert decide(found, "clone", 0x01200011) == PASS
    assert decide(found, "clone", 0x3D0F00) == EPERM
    assert decide(found, "unlinkat", -100, 0, 0x200) == PASS
    assert decide(found, "unlinkat", -100, 0, 0) == EPERM


# ---- opens ----

RDONLY, WRONLY, RDWR, CREAT, TRUNC, TMPFILE = 0, 1, 2, 0o100, 0o1000, 0o20200000


@pytest.mark.parametrize(("name", "place"), [("open", 1), ("openat", 2)])
def test_constant_aliases_of_an_open_are_told_apart_by_its_flags(name, place):
    found = table(true("fsread"), true("fswrite", "deny", errno=errno.EROFS), permit("fstat"),
                  permit("newfstatat"), permit("statx"))  # fmt: skip
    assert not found.needs_listener
    before = [0] * place
    for flags in (RDONLY, RDONLY | 0o2000000, RDONLY | 0o200000):
        assert decide(found, name, *before, flags) == PASS
    for flags in (WRONLY, RDWR, WRONLY | CREAT, 3, RDONLY | CREAT, RDONLY | TRUNC, TMPFILE):
        assert decide(found, name, *before, flags) == (DENY, errno.EROFS, "")
        assert decide(found, name, *before, flags | 0xABC << 32) == (DENY, errno.EROFS, "")


def test_unmatched_writing_is_denied_beside_permitted_reading():
    found = table(true("fsread"))
    assert decide(found, "openat", 0, 0, RDONLY) == PASS
    assert decide(found, "openat", 0, 0, WRONLY) == EPERM
    assert decide(found, "creat") == EPERM
    assert decide(table(true("fswrite")), "creat") == PASS


def test_reading_by_rules_leaves_constant_writing_to_the_kernel():
    found = table(judged("fsread"), true("fswrite", "deny"))
    assert decide(found, "openat", 0, 0, RDONLY) == told("rules")
    assert decide(found, "openat", 0, 0, WRONLY | CREAT) == EPERM


def test_openat2_hides_its_flags_so_it_is_absent_or_judged():
    assert decide(table(true("fsread")), "openat2") == (DENY, errno.ENOSYS, "")
    assert decide(table(true("fsread"), judged("mkdir")), "openat2") == told("rules")
    assert decide(table(true("fsread"), judged("fswrite")), "openat2") == told("rules")
    assert decide(table(true("fsread"), true("fswrite")), "openat2") == PASS
    assert decide(table(permit("openat2")), "openat2") == PASS


@pytest.mark.parametrize(("name", "place"), [("newfstatat", 3), ("statx", 2)])
def test_a_permitted_fstat_is_looked_for_in_its_modern_clothes(name, place):
    args = [0] * place
    found = table(permit("fstat"))
    assert decide(found, name, *args, 0x1000) == told("rules")
    assert decide(found, name, *args, 0) == EPERM
    assert found.needs_listener
    assert not table(permit("fstat"), true("fsread")).needs_listener
    assert decide(table(permit("fstat"), true("fsread")), name, *args, 0x1000) == PASS


@pytest.mark.parametrize(("name", "place"), [("newfstatat", 3), ("statx", 2)])
def test_a_denied_fstat_is_denied_there_too(name, place):
    args = [0] * place
    alone = table(true("fsread"))
    assert not alone.needs_listener
    assert decide(alone, name, *args, 0x1000) == EPERM
    assert decide(alone, name, *args, 0x100) == PASS
    supervised = table(true("fsread"), judged("mkdir"))
    assert decide(supervised, name, *args, 0x1000) == told("rules")


# ---- certexec's own ----


def test_a_program_can_always_end_and_return_from_a_handler():
    names = {"exit", "exit_group", "rt_sigreturn", "restart_syscall"}
    assert {NAMES[number] for number in ALWAYS} == names
    for name in names:
        assert decide(table(deny(name), full_log=True), name) == PASS


def test_clone3_is_absent_and_untraced_clones_are_refused():
    found = table(permit("clone"), permit("clone3"))
    assert decide(found, "clone3") == (DENY, errno.ENOSYS, "")
    assert decide(found, "clone", 0x01200011) == PASS
    assert decide(found, "clone", 0x01200011 | 0x00800000) == EPERM


@pytest.mark.parametrize("command", [0x5412, 0x541C])
def test_no_program_types_into_a_terminal_for_others(command):
    for found in (table(permit("ioctl")), table(permit("ioctl"), full_log=True)):
        for sent in (command, command | 1 << 32, command | 0xFFFFFFFF << 32):
            assert decide(found, "ioctl", 0, sent) == EPERM  # the kernel looks at the low word
        assert decide(found, "ioctl", 0, 0x5401) == PASS
    assert decide(table(asks_unmatched=True), "ioctl", 0, command) == EPERM
    free = Policy("/bin/program", "native", 1)
    free.detached = True
    options = TreeOptions(full_log=False, privileged=False, capable=False, own_policies=True)
    assert decide(Table(free, options), "ioctl", 0, command) == PASS


def test_a_launcher_inside_a_tree_learns_that_it_is_inside():
    for found in (table(permit("prctl")), table(deny("prctl"))):
        assert decide(found, "prctl", 0x43584543) == (DENY, errno.EBUSY, "")
        assert decide(found, "prctl", 0x43584543 | 1 << 32) == (DENY, errno.EBUSY, "")
    supervised = table(full_log=True)
    assert decide(supervised, "prctl", 0x43584543) == (NOTIFY, 0, NESTED)
    assert decide(supervised, "prctl", 0x43584543 | 1 << 32) == (NOTIFY, 0, NESTED)
    assert decide(table(permit("prctl")), "prctl", 15) == PASS


PROTECTED = [
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open",
    "pidfd_send_signal", "pidfd_getfd", "ptrace", "process_vm_readv", "process_vm_writev",
    "process_madvise", "prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr",
    "sched_setaffinity", "setpriority", "ioprio_set", "kcmp", "migrate_pages", "move_pages",
]  # fmt: skip


@pytest.mark.parametrize("name", PROTECTED)
def test_no_supervised_program_reaches_its_supervisor_unseen(name):
    assert decide(table(permit(name)), name, 77, 88) == PASS
    for options in ({}, {"privileged": True}, {"capable": True}):
        found = table(permit(name), judged("mkdir"), **options)
        assert decide(found, name, 77, 88) == told("supervisor-protection")
        assert decide(found, name, -1, 0) == told("supervisor-protection")
    denied = table(deny(name, errno.ESRCH), judged("mkdir"))
    assert decide(denied, name, 77) == (DENY, errno.ESRCH, "")


@pytest.mark.parametrize(
    ("name", "args", "passes"),
    [
        ("kill", (0, 15), True),
        ("kill", (-1, 15), False),
        ("kill", (1 << 32, 15), True),
        ("tgkill", (0, 0, 9), False),
        ("prlimit64", (0, 7), True),
        ("sched_setaffinity", (0, 8), True),
        ("setpriority", (0, 0, 5), True),
        ("setpriority", (1, 0, 5), True),
        ("setpriority", (2, 0, 5), False),
        ("setpriority", (0, 9, 5), False),
        ("ioprio_set", (1, 0), True),
        ("ioprio_set", (2, 0), True),
        ("ioprio_set", (3, 0), False),
        ("ptrace", (0, 0), True),
        ("ptrace", (1 << 32, 9), False),
        ("ptrace", (16, 9), False),
        ("move_pages", (0, 1), True),
        ("pidfd_open", (0,), False),
    ],
)
def test_what_concerns_only_the_caller_stays_in_the_kernel(name, args, passes):
    found = table(permit(name), judged("mkdir"))
    assert decide(found, name, *args) == (PASS if passes else told("supervisor-protection"))


def test_a_logged_protected_call_is_always_told():
    found = table(true("kill", log=True))
    assert decide(found, "kill", 0, 15) == told("supervisor-protection")
    assert logged(found, "kill")


def test_a_protected_call_stays_protected_in_each_of_its_variants():
    found = table(permit("getrlimit"), judged("mkdir"))
    assert decide(found, "prlimit64", 0, 7, 0, 99) == PASS
    assert decide(found, "prlimit64", 77, 7, 0, 99) == EPERM
    assert decide(found, "prlimit64", 0, 7, 88, 99) == EPERM


def test_no_asynchronous_signal_ends_or_stops_the_supervisor():
    found = table(permit("fcntl"), judged("mkdir"))
    assert decide(found, "fcntl", 3, 10, 9) == EPERM
    assert decide(found, "fcntl", 3, 10, 19) == EPERM
    assert decide(found, "fcntl", 3, 10, 34) == PASS
    assert decide(found, "fcntl", 3, 2, 9) == PASS
    assert decide(table(permit("fcntl")), "fcntl", 3, 10, 9) == PASS


def test_a_supervised_unprivileged_program_stays_readable():
    found = table(permit("prctl"), judged("mkdir"))
    assert decide(found, "prctl", 4, 0) == EPERM
    assert decide(found, "prctl", 4 | 1 << 32, 0) == EPERM
    assert decide(found, "prctl", 4, 1) == PASS
    assert decide(table(permit("prctl")), "prctl", 4, 0) == PASS
    assert decide(table(permit("prctl"), judged("mkdir"), privileged=True), "prctl", 4, 0) == PASS


@pytest.mark.parametrize("name", ["execve", "execveat"])
def test_exec_is_a_constant_unless_identities_differ(name):
    assert decide(table(permit(name)), name) == PASS
    found = table(permit(name), privileged=True)
    assert decide(found, name) == told("exec")
    assert found.needs_listener
    for options in ({}, {"privileged": True}):
        refused = table(permit(name), may_exec=False, **options)
        assert decide(refused, name) == (DENY, errno.EACCES, "")
    assert not table(permit(name), privileged=True, may_exec=False).needs_listener
    assert decide(table(deny(name, errno.ENOENT), privileged=True), name)[1] == errno.ENOENT


CHANGES = (
    ("setresuid",), ("setuid",), ("setfsgid",), ("setgroups",), ("capset",), ("execve",),
    ("execveat",), ("prctl", 24), ("prctl", 28),
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_supervisor_with_rights_of_its_own_is_told_who_may_have_others(change):
    name, *args = change
    both = (permit(name), judged("connect"))
    assert decide(table(*both), name, *args) == PASS, "nobody can change anything"
    assert decide(table(permit(name), capable=True), name, *args) == PASS, "nobody to tell"
    found = table(*both, capable=True)
    expected = "rights"
    assert decide(found, name, *args) == told(expected)
    assert decide(table(permit("prctl"), judged("connect"), capable=True), "prctl", 15) == PASS
    assert tells_of_changes(found.of)
    assert not tells_of_changes(table(*both).of)
    passes = [Clause([guards.Test(0, 5)], PERMITTED), *found.of(NUMBERS[name])]
    blind = {**found.clauses, NUMBERS[name]: passes if not args else [Clause((), PERMITTED)]}
    assert not tells_of_changes(lambda number: blind.get(number) or found.of(number))


@pytest.mark.parametrize("name", OPENS)
def test_a_capable_program_opens_nothing_that_its_supervisor_has_not_seen(name):
    both = true("fsread"), true("fswrite"), permit("fstat")
    assert decide(table(*both, capable=True), name) == PASS, "nobody to protect"
    assert decide(table(*both, judged("connect")), name) == PASS
    for options in ({"capable": True}, {"privileged": True}):
        found = table(*both, judged("connect"), **options)
        assert decide(found, name, 0, 0, 0) == told("supervisor-protection")
        assert decide(found, name, 2, 2, 2) == told("supervisor-protection")


def test_nor_by_the_constant_half_of_its_opens():
    found = table(true("fsread"), true("fswrite", "deny"), judged("connect"), capable=True)
    assert decide(found, "openat", 0, 0, RDONLY) == told("supervisor-protection")
    assert decide(found, "openat", 0, 0, WRONLY) == EPERM


@pytest.mark.parametrize(
    "name", ["openat", "mkdir", "unlinkat", "connect", "bind", "renameat2", "linkat", "truncate"]
)
def test_a_landlock_domain_that_would_not_bind_the_supervisor_is_refused(name):
    found = table(permit("landlock_restrict_self"), judged(name))
    assert decide(found, "landlock_restrict_self") == (DENY, errno.EOPNOTSUPP, "")


@pytest.mark.parametrize("name", ["chdir", "chroot"])
def test_no_two_processes_share_a_directory_that_is_judged(name):
    shared, thread = 0x200, 0x10000
    found = table(permit("clone"), judged(name))
    assert decide(found, "clone", shared | 17) == EPERM
    assert decide(found, "clone", shared | thread | 0x100) == PASS
    assert decide(found, "clone", 17) == PASS
    assert decide(table(permit("clone"), permit(name)), "clone", shared | 17) == PASS


def test_a_landlock_domain_that_binds_is_left_alone():
    for rules in ((), judged("stat")):
        found = table(permit("landlock_restrict_self"), rules)
        assert decide(found, "landlock_restrict_self") == PASS


URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")


@pytest.mark.parametrize("name", URING)
def test_io_uring_is_refused_unless_everything_that_it_does_is_permitted(name):
    assert decide(table(permit("getpid")), name) == EPERM
    assert decide(table(permit(name)), name) == EPERM
    everything = [permit(one) for one in NUMBERS if one != "connect"]
    assert decide(table(*everything), name) == EPERM
    assert decide(table(*everything, permit("connect")), name) == PASS
    assert decide(table(*everything, permit("connect"), full_log=True), name) == PASS
    watched = table(*everything, permit("connect"), privileged=True)
    assert decide(watched, name) == told("denied-until-supported", errno.EPERM)


@pytest.mark.parametrize("judged_name", ["openat", "connect", "rename", "pivot_root"])
@pytest.mark.parametrize("name", URING)
def test_io_uring_beside_rules_that_it_evades_is_not_a_policy(name, judged_name):
    with pytest.raises(PolicyError) as caught:
        table(permit(name), judged(judged_name))
    assert caught.value.reason == "policy-unsupported"


@given(
    st.dictionaries(
        st.sampled_from(sorted(set(NUMBERS) - set(URING))), st.sampled_from([permit, deny])
    ),
    st.sets(st.sampled_from([*SUPERVISED, "pivot_root"])),
    st.fixed_dictionaries(
        dict.fromkeys(("full_log", "privileged", "capable", "may_exec"), st.booleans())
    ),
)
def test_the_listener_is_needed_exactly_when_something_is_told(kinds, conditional, options):
    constant = [make(name) for name, make in kinds.items()]
    found = table(*constant, *map(judged, conditional), **options)
    all_ = [found.default]
    all_ += [clause.decision for list_ in found.clauses.values() for clause in list_]
    assert found.needs_listener == any(decision.kind == NOTIFY for decision in all_)
    for name in set(NUMBERS) - set(kinds) - conditional:
        if NUMBERS[name] not in ALWAYS and name not in GOVERNED_BY_OTHERS:
            assert decide(found, name)[0] != PERMIT, name
    for name, make in kinds.items():
        if make is deny and NUMBERS[name] not in ALWAYS and name not in GOVERNED_BY_OTHERS:
            assert found.decide(NUMBERS[name], LOWEST).denied


def test_rules_without_a_say_ask_for_no_supervisor():
    for name in ("exit", "rt_sigreturn", "clone3"):
        assert not table(true(name, log=True)).needs_listener


@given(
    st.lists(
        st.one_of(
            st.sampled_from(sorted(set(NUMBERS) - set(URING))).map(permit),
            st.sampled_from(["open", "stat", "mkdir", "fork", "fsread", "fcntl"]).map(permit),
            st.sampled_from(["open", "stat", "mkdir", "exit", "connect"]).map(judged),
            st.sampled_from(["open", "stat", "clone", "sendto"]).map(deny),
            st.sampled_from(["open", "stat", "clone", "execve", "fsread", "fswrite"]).map(true),
        ),
        max_size=12,
    )
)
def test_a_bare_rule_decides_as_the_effective_rules_do(rules):
    quick = table(*rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "_bare_rule", lambda policy, name: None)
        slow = table(*rules)
    assert quick.needs_listener == slow.needs_listener
    for number, clauses in slow.clauses.items():
        shown = [(clause.decision, [vars_of(test) for test in clause.tests]) for clause in clauses]
        found = quick.clauses[number]
        assert shown == [(one.decision, [vars_of(test) for test in one.tests]) for one in found]


def vars_of(test) -> tuple[int, ...]:
    return test.argument, test.word, test.mask, test.value


# ---- what is refused ----


def refused(*rules: list[Rule], asks_unmatched=False) -> str:
    policy = Policy("/bin/program", "native", 1)
    policy.asks_unmatched = asks_unmatched
    policy.rules = [one for each in rules for one in each]
    with pytest.raises(PolicyError) as caught:
        compile_policy(policy, TreeOptions(full_log=False, privileged=False, capable=False))
    assert caught.value.reason == "policy-unsupported"
    return caught.value.message


def test_a_rule_that_cannot_be_enforced_is_refused_with_its_line():
    assert "policy(1)" in refused(true("io_uring_setup", "ask"))
    assert "no such thing" in refused([rule("stat", expression=CONDITION, flaw="no such thing")])


@pytest.mark.parametrize(
    "name", ["getpid", "kill", "setuid", "execve", "chdir", "mount", "open_tree", "pivot_root"]
)
def test_what_the_kernel_does_cannot_be_done_as_somebody_else(name: str):
    one = [rule(name, expression=TRUE, elevate=(0, None))]
    assert f'{name} cannot be carried out "as" somebody else' in refused(one)
    granted = table(one, elevations=[(0, None)])
    assert decide(granted, name)[2] == "denied-until-supported"


def test_a_call_as_somebody_else_is_carried_out_only_where_it_is_granted():
    one = [rule("mkdir", expression=TRUE, elevate=(0, None))]
    assert decide(table(one, elevations=[(0, None)]), "mkdir") == told("rules")
    for others in ([], [(1, None)], [(0, 0)], [(None, 0)]):
        assert decide(table(one, elevations=others), "mkdir")[2] == "denied-until-supported"
    # a denied call has no need for anybody's rights
    no = [rule("mkdir", expression=TRUE, action="deny", errno=2, elevate=(0, None))]
    assert decide(table(no), "mkdir") == ("deny", 2, "")


def test_a_program_that_must_not_be_got_at_cannot_open_itself():
    for options in ({"privileged": True, "may_exec": False}, {}):
        made = table(permit("prctl"), **options)
        assert (decide(made, "prctl", 4, 1) == EPERM) is bool(options)
        assert decide(made, "prctl", 4, 0) == PASS
        assert decide(made, "prctl", 38, 1) == PASS


def test_and_would_be_denied_if_it_were_not():
    for one in (
        rule("pivot_root", expression=CONDITION, predicate=Predicate("user", "=", 0)),
        rule("chmod", expression=TRUE, elevate=(0, None)),
        rule("execve", expression=TRUE, detach=True),
        rule("getpid", flaw="no such thing"),
    ):
        assert decide(table([one], permit("getuid")), one.syscall)[2] == "denied-until-supported"


def test_what_a_constant_overrules_is_not_refused():
    prot = Symbol("prot", -1, "eq", "PROT_READ")
    assert decide(table([rule("mmap", expression=prot)], permit("mmap")), "mmap") == PASS


def test_rules_of_other_systems_are_inactive_whatever_they_say():
    policy = Policy("/bin/program", "netbsd", 1)
    policy.rules = [Rule("netbsd", "pledge", action="ask", errno=0, line=1, text="")]
    options = TreeOptions(full_log=False, privileged=False, capable=False)
    assert not compile_policy(policy, options).needs_listener


MOVES = {
    "unshare": [(0x20000,), (0x10000000,), (0x10020000 | 0x200,)],
    "clone": [(0x20000 | 17,), (0x10000000 | 17,)],
    "setns": [(3, 0), (3, 0x20000)],
    "chroot": [(1,)],
    "pivot_root": [(1, 1)],
}


@pytest.mark.parametrize("name", MOVES)
def test_who_moves_in_a_supervised_tree_is_told_of(name):
    found = table(judged("open"), permit(name))
    for args in MOVES[name]:
        assert decide(found, name, *args) == told("move"), args
    if name in ("unshare", "clone"):
        assert decide(found, name, 0x200 | 17) == PASS
    alone = table(permit(name))
    assert not alone.needs_listener
    assert decide(alone, name, *MOVES[name][0]) == PASS
    refused = table(judged("open"), deny(name))
    assert decide(refused, name, *MOVES[name][0]) == EPERM


def test_the_32_bit_forms_of_what_changes_rights_are_told_of_too():
    from certexec.kernel.syscalls_i386 import NUMBERS_I386
    from certexec.policy.foreign import MEANINGS

    words = ("setuid", "setgid", "setre", "setfs", "setgroups", "capset", "execve", "prctl")
    names = [
        name for name in NUMBERS_I386
        if name.startswith(words)
    ]
    assert {"setuid32", "setgroups", "setgroups32", "execveat"} <= set(names)
    for name in names:
        assert MEANINGS[NUMBERS_I386[name]].number in guards.CHANGING, name
