"""Which policies a tree can get to, and what one filter for all of them decides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel import bpf
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.compile import GATED, compile_reach
from certexec.policy.guards import DENY, EXEC, FORK, NOTIFY, PERMIT, Decision
from certexec.policy.reach import Reach, changes_policies, file_name
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from tests.policy.test_compile import NAMES_IN_RULES

OPTIONS = TreeOptions(full_log=False, privileged=False, capable=False, own_policies=True)


def policies(text: str):
    return parse_policy(text, name="test", users=None, privileged=False).policies


def policy(path: str, *rules: str) -> str:
    lines = [f"Policy: {path}, Emulation: native", *(f"\tnative-{rule}" for rule in rules)]
    return "\n".join([*lines, ""])


def reached(*texts: str) -> list[str]:
    own, *others = policies("".join(texts))
    return [one.path for one in Reach(own, others).policies]


def test_a_plain_permit_reaches_every_policy_and_a_path_only_its_own():
    others = (policy("/bin/a", "read: permit"), policy("/bin/b", "read: permit"))
    everything = ["/bin/own", "/bin/a", "/bin/b"]
    assert reached(policy("/bin/own", "execve: permit"), *others) == everything
    exact = policy("/bin/own", 'execve: filename eq "/bin/b" then permit')
    assert reached(exact, *others) == ["/bin/own", "/bin/b"]
    unsure = policy("/bin/own", 'execve: argv sub "x" then permit')
    assert reached(unsure, *others) == everything
    none = policy("/bin/own", "execve: deny[eperm]")
    assert reached(none, *others) == ["/bin/own"]


def test_reaching_goes_on_from_what_is_reached():
    assert reached(
        policy("/bin/own", 'execve: filename eq "/bin/a" then permit'),
        policy("/bin/c", "read: permit"),
        policy("/bin/b", 'execve: filename match "/bin/c" then permit'),
        policy("/bin/a", 'execve: filename eq "/bin/b" then permit'),
        policy("/bin/d", "read: permit"),
    ) == ["/bin/own", "/bin/a", "/bin/b", "/bin/c"]


def test_inherit_and_detach_reach_no_policy_of_the_programs_own():
    own = policy(
        "/bin/own", 'execve: filename eq "/bin/a" then permit[inherit]',
        'execve: filename eq "/bin/b" then permit[detach]',
    )  # fmt: skip
    first, *others = policies(own + policy("/bin/a", "read: permit") + policy("/bin/b"))
    reach = Reach(first, others)
    assert len(reach.policies) == 2 and reach.policies[reach.detached].detached
    assert changes_policies(first, inherit=False) and changes_policies(first, inherit=True)


@pytest.mark.parametrize(
    ("rule", "own", "inherited"),
    [
        ("execve: permit", True, False),
        ("execve: deny[eperm]", False, False),
        ("execve: true then permit[inherit]", False, False),
        ("execveat: permit", True, False),
        ("read: permit", False, False),
    ],
)
def test_only_an_exec_changes_policies(rule, own, inherited):
    [one] = policies(policy("/bin/own", rule))
    assert changes_policies(one, inherit=False) is own
    assert changes_policies(one, inherit=True) is inherited


def test_where_an_agent_is_asked_about_an_exec_every_policy_that_is_signed_is_reached():
    others = policy("/bin/a", "read: permit") + policy("/bin/b", "read: permit")
    for rule in ('execve: filename eq "/bin/b" then permit', "read: permit", "execveat: permit"):
        own, *rest = policies(policy("/bin/own", rule) + others)
        assert len(Reach(own, rest).policies) < 3 or rule == "execveat: permit"
        own.asks_unmatched = True
        assert len(Reach(own, rest).policies) == 3, rule
        assert changes_policies(own, inherit=False)
        assert not changes_policies(own, inherit=True)
    settled, *rest = policies(policy("/bin/own", "execve: deny[eperm]") + others)
    settled.asks_unmatched = True
    assert len(Reach(settled, rest).policies) == 1
    assert not changes_policies(settled, inherit=False)


def test_a_program_is_found_by_its_path_then_by_its_name():
    own, *others = policies(
        policy("/bin/own", "execve: permit") + policy("/bin/tool", "read: permit")
        + policy("*/tool", "read: permit")
    )
    reach = Reach(own, others)
    assert reach.policies[reach.find("/bin/tool")] is others[0]
    assert reach.policies[reach.find("/opt/tool")] is others[1]
    assert reach.find("/opt/other") == -1


def test_file_names_are_systraces():
    assert file_name("/usr/sbin/named") == "usr_sbin_named"
    assert file_name("/opt/sbcl-1.0.5/bin/sbcl") == "opt_sbcl_1_0_5_bin_sbcl"
    assert file_name("/opt/café²/x") == "opt_caf_____x"  # of two bytes each
    assert file_name("/\udce9t/é") == "t___"


RULES = st.lists(
    st.builds(
        lambda name, action: f"{name}: {action}", NAMES_IN_RULES,
        st.sampled_from(["permit", "deny[eperm]", "deny[enoent]"]),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_the_kernel_decides_alone_only_what_all_policies_decide_alike(rules, word):
    texts = [policy("/bin/own", "execve: permit", *rules[0])]
    texts += [policy(f"/bin/{number}", *each) for number, each in enumerate(rules[1:])]
    own, *others = policies("".join(texts))
    compiled = compile_reach(Reach(own, others), OPTIONS)
    simulator = Simulator(compiled.with_nonce(1))
    for number in NUMBERS.values():
        args = (word, 0, 0, 0, 0, 0)
        found = simulator.run(number, bpf.AUDIT_ARCH_X86_64, 0, args)
        each = {action(table.decide(number, args)) for table in compiled.tables}
        if number not in GATED:  # where the launcher's nonce is needed, and not given
            assert found == bpf.SECCOMP_RET_USER_NOTIF or each == {found}
            if each == {bpf.SECCOMP_RET_ALLOW} and number == NUMBERS["getpid"]:
                assert found == bpf.SECCOMP_RET_ALLOW


def action(decision: Decision) -> int:
    if decision.kind == PERMIT:
        return bpf.SECCOMP_RET_ALLOW
    if decision.kind == DENY:
        return bpf.SECCOMP_RET_ERRNO | decision.errno
    assert decision.kind == NOTIFY
    return bpf.SECCOMP_RET_USER_NOTIF


def test_in_such_a_tree_every_exec_and_every_birth_is_watched():
    own, *others = policies(
        policy("/bin/own", "execve: permit", "clone: permit", "fork: permit")
        + policy("/bin/a", "execve: permit", "clone: permit", "fork: permit")
    )
    compiled = compile_reach(Reach(own, others), OPTIONS)
    for table in compiled.tables:
        assert table.decide(NUMBERS["execve"], (0,) * 6).why == EXEC
        assert table.decide(NUMBERS["fork"], (0,) * 6).why == FORK
        assert table.decide(NUMBERS["clone"], (17, 0, 0, 0, 0, 0)).why == FORK
        thread = table.decide(NUMBERS["clone"], (0x10F00, 0, 0, 0, 0, 0))
        assert thread.kind == PERMIT
