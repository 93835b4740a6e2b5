"""The table of decisions: what each rule becomes, and what certexec adds to keep a tree inside."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy import guards
from certexec.policy.decisions import ALWAYS, EMULATED, OPENS, Table, TreeOptions
from certexec.policy.guards import DENY, NOTIFY, PERMIT, PERMITTED, Decision
from certexec.policy.model import Rule, Symbol

CONDITION = Symbol("filename", -1, "match", "/usr")
LOWEST = (0,) * 6


def rule(name: str, action: str = "permit", **more) -> Rule:
    code = errno.EPERM if action == "deny" else 0
    more.setdefault("errno", code)
    return Rule("native", name, action=action, line=1, text="", **more)


def permit(name: str) -> tuple[int, list]:
    return NUMBERS[name], [(name, [rule(name, simple=True)])]


def deny(name: str, code: int = errno.EPERM, **more) -> tuple[int, list]:
    return NUMBERS[name], [(name, [rule(name, "deny", errno=code, simple=True, **more)])]


def judged(name: str) -> tuple[int, list]:
    return NUMBERS[name], [(name, [rule(name, expression=CONDITION)])]


def opened(name: str, read: list[Rule], write: list[Rule]) -> tuple[int, list]:
    return NUMBERS[name], [(name, []), ("fsread", read), ("fswrite", write)]


def true(action: str = "permit", **more) -> Rule:
    return rule("fsread", action, expression=Symbol("", -1, "true", ""), **more)


def table(*entries, full_log=False, privileged=False, capable=False, may_exec=True) -> Table:
    options = TreeOptions(
        full_log=full_log, privileged=privileged, capable=capable, may_exec=may_exec
    )
    return Table(dict(entries), options)


def decide(found: Table, name: str, *args: int) -> tuple[str, int, str]:
    padded = (*args, *LOWEST)[:6]
    decision = found.decide(NUMBERS[name], [word & 2**64 - 1 for word in padded])
    return decision.kind, decision.errno, decision.why


PASS = (PERMIT, 0, "")
EPERM = (DENY, errno.EPERM, "")


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
    found = table(
        (NUMBERS["getpid"], [("getpid", [true(log=True)])]),
        (NUMBERS["getuid"], [("getuid", [true("deny", log=True)])]),
    )
    assert decide(found, "getpid") == told("log")
    assert decide(found, "getuid") == told("denied", errno.EPERM)
    assert found.decisions[NUMBERS["getpid"]].log
    assert found.needs_listener


def test_conditional_rules_on_a_call_that_is_carried_out_are_judged():
    for number in EMULATED:
        name = NAMES[number]
        found = table(judged(name))
        assert decide(found, name) == told("rules"), name
        assert found.needs_listener


@pytest.mark.parametrize("name", ["rename", "chmod", "execve", "sendto", "symlink", "truncate"])
def test_conditional_rules_on_any_other_call_deny_it_and_are_logged(name):
    found = table(judged(name))
    assert decide(found, name) == told("denied-until-supported", errno.EPERM)
    assert found.decisions[NUMBERS[name]].log


def test_an_unconditional_rule_on_the_own_name_wins_wherever_it_stands():
    own = [rule("stat", expression=CONDITION), rule("stat", "deny", simple=True)]
    found = table((NUMBERS["stat"], [("stat", own), ("fsread", [true()])]))
    assert decide(found, "stat") == EPERM
    assert not found.needs_listener


def test_an_unconditional_rule_on_an_alias_keeps_its_place():
    later = [rule("fsread", expression=CONDITION), rule("fsread", "deny", simple=True)]
    found = table((NUMBERS["stat"], [("stat", []), ("fsread", later)]))
    assert decide(found, "stat") == told("rules")
    first = list(reversed(later))
    assert decide(table((NUMBERS["stat"], [("stat", []), ("fsread", first)])), "stat") == EPERM


def test_the_rules_of_the_own_name_come_before_those_of_the_alias():
    entries = [("stat", [true("deny", errno=errno.ENOENT)]), ("fsread", [true()])]
    assert decide(table((NUMBERS["stat"], entries)), "stat") == (DENY, errno.ENOENT, "")
    conditional = [("stat", [rule("stat", expression=CONDITION)]), ("fsread", [true()])]
    assert decide(table((NUMBERS["stat"], conditional)), "stat") == told("rules")


def test_a_rule_with_a_predicate_is_not_a_constant():
    one = true()
    one.predicate = object()
    assert decide(table((NUMBERS["stat"], [("stat", [one])])), "stat") == told("rules")


def test_a_rule_that_elevates_is_never_a_plain_permit():
    one = true(elevate=(0, None))
    assert decide(table((NUMBERS["chmod"], [("chmod", [one])])), "chmod") == told(
        "denied-until-supported", errno.EPERM
    )


def test_asking_is_like_no_rule():
    assert decide(table((NUMBERS["stat"], [("stat", [true("ask")])])), "stat") == EPERM


# ---- opens ----

RDONLY, WRONLY, RDWR, CREAT, TRUNC = 0, 1, 2, 0o100, 0o1000
PATH, TMPFILE = 0o10000000, 0o20200000
WRITING = [WRONLY, RDWR, WRONLY | CREAT, TRUNC, TMPFILE | RDWR, 3]


@pytest.mark.parametrize(("name", "place"), [("open", 1), ("openat", 2)])
def test_constant_aliases_of_an_open_are_told_apart_by_its_flags(name, place):
    found = table(opened(name, [true()], [true("deny", errno=errno.EROFS)]))
    assert not found.needs_listener
    before = [0] * place
    assert decide(found, name, *before, RDONLY | 0o2000000) == PASS
    assert decide(found, name, *before, PATH) == PASS
    for flags in WRITING:
        assert decide(found, name, *before, flags) == (DENY, errno.EROFS, "")
        assert decide(found, name, *before, flags | 0xABC << 32) == (DENY, errno.EROFS, "")


@pytest.mark.parametrize("allowed", ["read", "write"])
def test_what_registers_cannot_tell_gets_the_stricter_answer_without_a_supervisor(allowed):
    both = ([true()], [true("deny")]) if allowed == "read" else ([true("deny")], [true()])
    found = table(opened("openat", *both))
    assert decide(found, "openat", 0, 0, CREAT) == EPERM
    assert decide(found, "openat", 0, 0, PATH | RDWR) == EPERM
    assert not found.needs_listener


def test_and_is_judged_where_there_is_one():
    found = table(opened("openat", [true()], [true("deny")]), judged("mkdir"))
    assert decide(found, "openat", 0, 0, RDONLY) == PASS
    assert decide(found, "openat", 0, 0, WRONLY) == EPERM
    assert decide(found, "openat", 0, 0, CREAT) == told("rules")


def test_unmatched_writing_is_denied_beside_permitted_reading():
    found = table(opened("openat", [true()], []))
    assert decide(found, "openat", 0, 0, RDONLY) == PASS
    assert decide(found, "openat", 0, 0, WRONLY) == EPERM


def test_reading_by_rules_leaves_constant_writing_to_the_kernel():
    found = table(opened("openat", [rule("fsread", expression=CONDITION)], [true("deny")]))
    assert decide(found, "openat", 0, 0, RDONLY) == told("rules")
    assert decide(found, "openat", 0, 0, WRONLY | CREAT) == EPERM


def test_openat2_hides_its_flags_so_it_is_absent_or_judged():
    kernel_only = table(opened("openat2", [true()], [true("deny")]))
    assert decide(kernel_only, "openat2") == (DENY, errno.ENOSYS, "")
    supervised = table(opened("openat2", [true()], [true("deny")]), judged("mkdir"))
    assert decide(supervised, "openat2") == told("rules")
    assert decide(table(opened("openat2", [true()], [true()])), "openat2") == PASS


def test_creat_only_writes():
    entries = [("creat", []), ("fswrite", [true()])]
    assert decide(table((NUMBERS["creat"], entries)), "creat") == PASS


@pytest.mark.parametrize(("name", "place"), [("newfstatat", 3), ("statx", 2)])
def test_a_permitted_fstat_is_looked_for_in_its_modern_clothes(name, place):
    args = [0] * place
    found = table(permit("fstat"))
    assert decide(found, name, *args, 0x1000) == told("rules")
    assert decide(found, name, *args, 0) == EPERM
    assert found.needs_listener
    both = table(permit("fstat"), permit("newfstatat"), permit("statx"))
    assert not both.needs_listener
    assert not table(permit("getpid")).needs_listener


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


def test_a_launcher_inside_a_tree_learns_that_it_is_inside():
    for found in (table(permit("prctl")), table(deny("prctl")), table(full_log=True)):
        assert decide(found, "prctl", 0x43584543) == (DENY, errno.EBUSY, "")
        assert decide(found, "prctl", 0x43584543 | 1 << 32) == (DENY, errno.EBUSY, "")
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
    found = table((NUMBERS["kill"], [("kill", [true(log=True)])]))
    assert decide(found, "kill", 0, 15) == told("supervisor-protection")
    assert found.decisions[NUMBERS["kill"]].log


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


def test_a_capable_program_opens_nothing_that_its_supervisor_has_not_seen():
    opens = [opened(name, [true()], [true()]) for name in ("open", "openat", "openat2")]
    opens.append((NUMBERS["creat"], [("fswrite", [true()])]))
    for name in ("open", "openat", "openat2", "creat"):
        assert decide(table(*opens, capable=True), name) == PASS, "nobody to protect"
        assert decide(table(*opens, judged("mkdir")), name) == PASS
        for options in ({"capable": True}, {"privileged": True}):
            found = table(*opens, judged("mkdir"), **options)
            assert decide(found, name, 0, 0, 0) == told("supervisor-protection")
            assert decide(found, name, 2, 2, 2) == told("supervisor-protection")


def test_nor_by_the_constant_half_of_its_opens():
    entries = opened("openat", [true()], [true("deny")])
    found = table(entries, judged("mkdir"), capable=True)
    assert decide(found, "openat", 0, 0, RDONLY) == told("supervisor-protection")
    assert decide(found, "openat", 0, 0, WRONLY) == EPERM


@pytest.mark.parametrize("name", ["openat", "mkdir", "unlinkat", "connect", "bind"])
def test_a_landlock_domain_that_would_not_bind_the_supervisor_is_refused(name):
    found = table(permit("landlock_restrict_self"), judged(name))
    assert decide(found, "landlock_restrict_self") == (DENY, errno.EOPNOTSUPP, "")


def test_a_landlock_domain_that_binds_is_left_alone():
    for entries in ((), (judged("stat"),)):
        found = table(permit("landlock_restrict_self"), *entries)
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


@pytest.mark.parametrize("judged_name", ["openat", "connect", "rename"])
@pytest.mark.parametrize("name", URING)
def test_io_uring_beside_rules_that_it_evades_is_not_a_policy(name, judged_name):
    with pytest.raises(PolicyError) as caught:
        table(permit(name), judged(judged_name))
    assert caught.value.reason == "policy-unsupported"


@given(
    st.dictionaries(
        st.sampled_from(sorted(set(NUMBERS) - set(URING))), st.sampled_from([permit, deny, judged])
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_listener_is_needed_exactly_when_something_is_told(
    kinds, full_log, privileged, capable, may_exec
):
    found = table(
        *(make(name) for name, make in kinds.items()),
        full_log=full_log, privileged=privileged, capable=capable, may_exec=may_exec,
    )  # fmt: skip
    decisions = [found.default, *found.decisions.values()]
    decisions += [guard.decision for list_ in found.guards.values() for guard in list_]
    assert found.needs_listener == any(decision.kind == NOTIFY for decision in decisions)
    for name, make in kinds.items():
        decision = found.decisions[NUMBERS[name]]
        if make is deny and NUMBERS[name] not in ALWAYS:
            assert decision.denied
        if make is judged and NUMBERS[name] not in ALWAYS and name != "clone3":
            # never a plain permit, whatever the options
            assert decision != PERMITTED
    assert set(found.decisions) == set(NAMES)


def test_every_open_is_among_the_emulated_calls():
    assert set(OPENS) <= EMULATED
    assert {NAMES[number] for number in guards.OPEN_FLAGS_ARGUMENT} == {"open", "openat"}
