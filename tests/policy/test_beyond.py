"""What goes beyond systrace: only behind the language line, and what it means there."""

import pytest

from certexec.errors import PolicyError
from certexec.kernel.bpf import AUDIT_ARCH_X86_64, SECCOMP_RET_KILL_PROCESS
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.compile import compile_policy, compile_reach
from certexec.policy.decisions import TreeOptions
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.guards import KILL, KILLED, KILLED_AND_LOGGED, KILLS
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.model import LANGUAGE, PolicyFile, Subject
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS

NOBODY = Subject(1, 1, "/", "nobody", "/")
HEADER = "Policy: /bin/x, Emulation: native"


def parse(*lines: str) -> PolicyFile:
    text = "".join(line + "\n" for line in lines)
    return parse_policy(text, name="test", users=USERS, privileged=True)


def extended(*lines: str) -> PolicyFile:
    return parse(f"Language: {LANGUAGE}", HEADER, *lines)


# ---- the marker ----------------------------------------------------------------------------------


def test_the_line_stands_before_all_else_and_says_which_language():
    assert parse("# a comment", "", "language: certexec 1", HEADER).extended
    assert not parse(HEADER).extended


@pytest.mark.parametrize(
    "lines",
    [("Language: certexec 2", HEADER), ("Language: systrace", HEADER), ("Language: ", HEADER),
     ("Language: certexec 1 ,", HEADER), ("Language:certexec 1", HEADER),
     (HEADER, "Language: certexec 1"), (HEADER, "detached", "Language: certexec 1"),
     ("Language: certexec 1", "Language: certexec 1", HEADER)],
)  # fmt: skip
def test_anything_else_is_a_syntax_error_as_it_is_for_systrace(lines):
    with pytest.raises(PolicySyntaxError):
        parse(*lines)


@pytest.mark.parametrize(
    "rule",
    ["native-open: kill", "native-open: true then kill", "native-open: kill, if user = 0",
     'native-open: filename eq "/x" then kill log',
     'native-connect: sockaddr in "inet-[10.0.0.0/8]:*" then permit'],
)  # fmt: skip
def test_without_it_nothing_new_is_in_the_language(rule):
    assert extended(rule).policies[0].rules
    with pytest.raises(PolicySyntaxError):
        parse(HEADER, rule)


@pytest.mark.parametrize("name", ["kill", "in"])
def test_the_new_words_stay_names_where_they_were_names(name):
    rule = f'native-open: {name} eq "x" then permit'
    for parsed in (parse(HEADER, rule), extended(rule)):
        assert parsed.policies[0].rules[0].expression.argument == name


def test_an_old_file_means_the_same_with_the_line():
    rules = ['native-open: filename match "/usr" then permit', "native-read: permit",
             "native-close: deny[enoent]", "native-stat: permit, if user = 0"]  # fmt: skip
    old, new = parse(HEADER, *rules), extended(*rules)
    assert [str(rule) for rule in old.policies[0].rules] == [
        str(rule) for rule in new.policies[0].rules
    ]


def test_fmt_keeps_the_line_and_what_it_brings():
    text = (
        "language: certexec 1 # ours\nPolicy: /bin/x, Emulation: native\nnative-ptrace:   kill\n"
        ' native-open: not filename match "/usr"  then  kill  log\n'
    )
    after = reformat(text.replace(":   kill", ": kill"), name="test", users=USERS)
    assert after.splitlines() == [
        "Language: certexec 1 # ours", "", "Policy: /bin/x, Emulation: native",
        "\tnative-ptrace: kill", '\tnative-open: not filename match "/usr" then kill log',
    ]
    assert reformat(after, name="test", users=USERS) == after


# ---- kill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["true then kill[eperm]", "true then kill as root"])
def test_a_kill_has_neither_an_error_nor_an_identity(rule):
    with pytest.raises(PolicySyntaxError):
        extended(f"native-open: {rule}")


def compiled(*rules: str, full_log: bool = False):
    policy = extended(*rules).policies[0]
    return compile_policy(policy, TreeOptions(full_log=full_log, privileged=False, capable=False))


def test_the_kernel_kills_alone_where_nobody_would_write_the_line():
    made = compiled("native-ptrace: kill", "native-read: permit")
    assert not made.needs_listener
    assert made.table.decide(NUMBERS["ptrace"], (0,) * 6) == KILLED
    action = Simulator(made.bpf).run(NUMBERS["ptrace"], AUDIT_ARCH_X86_64, 0, (0,) * 6)
    assert action == SECCOMP_RET_KILL_PROCESS


@pytest.mark.parametrize(
    ("rules", "full_log"),
    [(["native-ptrace: true then kill log"], False), (["native-ptrace: kill"], True),
     (["native-ptrace: kill", 'native-open: filename match "/usr" then permit'], False)],
)  # fmt: skip
def test_the_supervisor_kills_where_there_is_one(rules, full_log):
    made = compiled(*rules, full_log=full_log)
    assert made.needs_listener
    assert made.table.decide(NUMBERS["ptrace"], (0,) * 6) == KILLED_AND_LOGGED
    assert KILLED_AND_LOGGED.why == KILLS and KILLED_AND_LOGGED.denied


def test_a_bare_kill_decides_before_all_other_rules_of_its_call():
    policy = extended('native-open: filename eq "/x" then permit', "native-open: kill").policies[0]
    verdict = evaluate(
        effective_rules(policy, "open", "read"), {"filename": ["/x"], "oflags": ["ro"]}, NOBODY
    )
    assert verdict is not None and verdict.action == KILL


def test_what_kills_an_exec_permits_none():
    policy = extended("native-execve: true then kill").policies[0]
    assert not changes_policies(policy, inherit=False)
    reach = Reach(policy, extended().policies)
    assert len(reach.policies) == 1
    options = TreeOptions(full_log=False, privileged=False, capable=False, own_policies=True)
    made = compile_reach(reach, options)
    assert made.table.of(NUMBERS["execve"])[0].decision == KILLED_AND_LOGGED


def test_a_kill_that_memory_tells_apart_needs_a_supervisor():
    made = compiled("native-fstat: kill", "native-lstat: permit", "native-stat: permit")
    assert made.needs_listener


def test_a_condition_that_cannot_be_judged_is_refused_as_ever():
    with pytest.raises(PolicyError, match="cannot be judged yet"):
        compiled('native-open: pidname eq "x" then kill')
