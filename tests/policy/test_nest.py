"""Policies laid over one another: what all permit, and nothing else."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.kernel.userdb import SystemUsers
from certexec.policy import guards
from certexec.policy.combine import Combined
from certexec.policy.decisions import Table
from certexec.policy.guards import (
    EXEC,
    JUDGED,
    KILLED,
    KILLED_AND_LOGGED,
    LOG,
    NARROWED,
    NESTED,
    NOTIFY,
    PERMITTED,
    PROTECTION,
    RULES,
    Decision,
    deny,
)
from certexec.policy.model import Policy
from certexec.policy.nest import Intersection, LauncherTable, exact_names, meet
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions

OPTIONS = TreeOptions(full_log=False, privileged=False, capable=False, own_policies=True)
LOGGED = Decision(NOTIFY, 0, LOG, log=True)
WATCHED = Decision(NOTIFY, 0, EXEC)
SPARED = Decision(NOTIFY, 0, PROTECTION)
EVERY = [
    PERMITTED, LOGGED, WATCHED, SPARED, NARROWED, JUDGED, KILLED, KILLED_AND_LOGGED,
    deny(errno.EPERM), deny(errno.ENOENT, guards.DENIED, log=True), deny(errno.EPERM, "unmatched"),
    Decision(NOTIFY, 0, guards.FORK), Decision(NOTIFY, 0, guards.MOVE),
]  # fmt: skip


def policy(*rules: str) -> Policy:
    text = "Policy: /bin/x, Emulation: native\n" + "".join(f"\tnative-{one}\n" for one in rules)
    return parse_policy(text, name="x", users=SystemUsers(), privileged=True).policies[0]


@pytest.mark.parametrize("one", EVERY, ids=repr)
@pytest.mark.parametrize("other", EVERY, ids=repr)
def test_nothing_is_permitted_that_one_of_two_does_not_permit(
    one: Decision, other: Decision
) -> None:
    both = meet([one, other])
    assert both.permitted == (one.permitted and other.permitted)
    assert both.denied == (one.denied or other.denied)
    # what rules have to judge is judged by them, unless it is denied anyway
    assert (both.why == RULES) == (RULES in (one.why, other.why) and not both.denied)
    if both.permitted:
        assert both.log == (one.log or other.log)
        if EXEC in (one.why, other.why) and PROTECTION not in (one.why, other.why):
            assert both.why == EXEC
    if guards.KILL in (one.kind, other.kind) or guards.KILLS in (one.why, other.why):
        assert both.kind == guards.KILL or both.why == guards.KILLS


def test_a_reason_that_nobody_knows_here_is_no_permission() -> None:
    strange = Decision(NOTIFY, 0, "strange")
    assert meet([PERMITTED, strange]) == meet([strange, JUDGED]) == strange


RULES_OF = st.lists(
    st.tuples(
        st.sampled_from(["read", "open", "kill", "chdir", "clone", "socket", "prctl", "execve"]),
        st.sampled_from([
            ": permit", ": deny[enoent]", ': filename eq "/x" then permit',
            ": true then permit log",
        ]),
    ).map("".join).filter(
        lambda one: "filename" not in one or one.startswith(("open", "chdir", "execve"))
    ),
    max_size=6,
)  # fmt: skip


@given(RULES_OF, RULES_OF, st.sampled_from(sorted(NAMES)), st.tuples(*[st.integers(0, 9)] * 6))
def test_the_intersection_decides_as_both_tables_do(
    one: list[str], other: list[str], number: int, args: tuple[int, ...]
) -> None:
    tables = [Table(policy(*rules), OPTIONS) for rules in (one, other)]
    both = Intersection(tables).decide(number, args)
    each = [table.decide(number, args) for table in tables]
    assert both.permitted == all(decision.permitted for decision in each)
    assert both.denied == any(decision.denied for decision in each)


def test_the_kernel_denies_the_launcher_nothing_that_it_calls() -> None:
    launcher = LauncherTable()
    strict = [Table(policy("exit_group: permit"), OPTIONS), Table(policy("exit: permit"), OPTIONS)]
    whole = Combined(strict, launcher)
    assert whole.tables[-1] is launcher
    for number in launcher.clauses.keys() - {NUMBERS["prctl"]}:
        assert not any(clause.decision.denied for clause in whole.of(number)), NAMES[number]
    question = whole.of(NUMBERS["prctl"])[0]
    assert (question.decision.why, question.tests[0].value) == (NESTED, 0x43584543)
    # and what it does not call is as if it were not there
    without = Combined(strict)
    for number in set(NAMES) - launcher.clauses.keys():
        assert [c.decision for c in whole.of(number)] == [c.decision for c in without.of(number)]


def test_what_all_policies_permit_stays_with_the_kernel() -> None:
    plain = [Table(policy("write: permit", "mmap: permit"), OPTIONS)] * 2
    whole = Combined(plain, LauncherTable())
    assert [one.decision for one in whole.of(NUMBERS["write"])] == [PERMITTED]
    assert whole.of(NUMBERS["umask"])[0].decision.why == guards.BY_POLICY


def test_the_launcher_may_do_nothing_else() -> None:
    launcher = LauncherTable()
    permitted = {NAMES[n] for n in NAMES if launcher.decide(n, (0,) * 6).permitted}
    assert permitted == {
        "getresuid", "getresgid", "setfsuid", "setfsgid", "fstat", "fcntl", "pread64", "mmap",
        "close", "umask", "getpriority", "write", "rt_sigprocmask", "prlimit64", "setpriority",
        "openat", "execveat", "exit_group", "rt_sigreturn", "restart_syscall",
    }  # fmt: skip
    prctl = NUMBERS["prctl"]
    assert launcher.decide(prctl, (0x43584543, 0, 0, 0, 0, 0)).why == NESTED
    assert launcher.decide(prctl, (38, 1, 0, 0, 0, 0)).denied
    # somebody else's limits are looked at as everybody's
    assert launcher.decide(NUMBERS["prlimit64"], (77, 0, 0, 0, 0, 0)).why == PROTECTION


def test_only_names_that_are_given_exactly_are_looked_for() -> None:
    found = exact_names(policy(
        'execve: filename eq "/a.cert" then permit',
        'execveat: filename match "/b.cert" and argv match "x*" then permit',
        'execve: filename match "/c/*" then permit',
        'execve: filename eq "$HOME/d.cert" then permit',
        'execve: filename eq "e.cert" then permit',
        'execve: filename sub "/f.cert" then permit',
        'execve: filename eq "/g.cert" then deny[eperm]',
        'fsread: filename eq "/h.cert" then permit',
        'execve: filename eq "/i.cert" or filename eq "/a.cert" then permit[detach]',
        'execve: argv eq "/j.cert" then permit',
    ))  # fmt: skip
    assert found == ["/a.cert", "/b.cert", "/i.cert"]
