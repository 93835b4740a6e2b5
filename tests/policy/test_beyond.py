"""What goes beyond systrace: only behind the language line, and what it means there."""

import pytest

from certexec.errors import PolicyError
from certexec.kernel.bpf import AUDIT_ARCH_X86_64, SECCOMP_RET_KILL_PROCESS
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import call_of
from certexec.policy.compile import compile_policy, compile_reach
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.explain import Tree, explain_rules
from certexec.policy.guards import JUDGED, KILL, KILLED, KILLED_AND_LOGGED, KILLS
from certexec.policy.landlock import landlocked
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE, PolicyFile, Subject
from certexec.policy.question import ask
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
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


def test_a_flaw_is_refused_as_ever():
    with pytest.raises(PolicyError, match="one call only"):
        compiled("native-open: permit-now")


# ---- exec-in -------------------------------------------------------------------------------------


def exec_verdict(policy, path: str, call: str = "execve") -> str:
    verdict = evaluate(effective_rules(policy, call), {"filename": [path], "argv": ["x"]}, NOBODY)
    return "none" if verdict is None else f"{verdict.action} {verdict.errno}"


@pytest.mark.parametrize("call", ["execve", "execveat"])
@pytest.mark.parametrize(
    "rules", [["native-execve: permit", "native-execveat: permit"], ["native-execve: true then "
              "permit[inherit]"], ['native-execve: argv eq "x" then permit']],
)  # fmt: skip
def test_only_what_lies_below_the_directories_is_executed(rules, call):
    policy = extended(*rules, "exec-in /usr/bin, /opt/a[b]*").policies[0]
    for path in ("/usr/bin/x", "/usr/bin/below/x", "/opt/a[b]*/x"):
        assert exec_verdict(policy, path, call) == "permit 0"
    for path in ("/usr/binx", "/usr/x", "/opt/ab/x", "/opt/ab1/x", "", "/x/usr/bin/x",
                 "/<non-existent filename>: /usr/bin/x"):  # fmt: skip
        assert exec_verdict(policy, path, call) == "deny 13"


def test_exec_in_permits_nothing():
    policy = extended("exec-in /", "native-execve: true then deny").policies[0]
    assert exec_verdict(policy, "/usr/bin/x") == "deny 1"
    assert exec_verdict(extended("exec-in /").policies[0], "/usr/bin/x") == "none"


def test_every_exec_comes_to_the_supervisor_then():
    made = compiled("exec-in /usr/bin", "native-execve: permit", "native-execveat: permit")
    for name in ("execve", "execveat"):
        assert made.table.of(NUMBERS[name])[0].decision == JUDGED


@pytest.mark.parametrize(
    ("line", "column"),
    [("exec-in", 8), ("exec-in usr/bin", 9), ("exec-in /usr/bin,", 9), ("exec-in /usr/", 9),
     ("exec-in /usr/../bin", 9), ("exec-in /bin, /usr//bin", 15), ("exec-in /bin, .", 15),
     ("no-dotdot yes", 10)],
)  # fmt: skip
def test_what_is_no_directive_is_a_syntax_error(line, column):
    with pytest.raises(PolicySyntaxError) as caught:
        extended(line)
    assert caught.value.line == 3


@pytest.mark.parametrize("line", ["exec-in /usr/bin", "no-dotdot"])
def test_a_directive_stands_once_below_a_header_and_behind_the_language(line):
    with pytest.raises(PolicySyntaxError, match="stands twice"):
        extended(line, line)
    with pytest.raises(PolicySyntaxError, match="before the first header"):
        parse(f"Language: {LANGUAGE}", line, HEADER)
    with pytest.raises(PolicySyntaxError, match="emulation|not a rule"):
        parse(HEADER, line)


def test_exec_in_is_told_of_by_explain_and_lint():
    policy = extended("exec-in /usr/bin", "native-execve: permit").policies[0]
    first = next(explain_rules(Tree(policy)))
    assert first.rule is policy.exec_in and first.layers == {"supervised": ["execve", "execveat"]}
    assert lint(extended("exec-in /usr/bin", "native-execve: permit")) == []
    found = lint(extended("exec-in /usr/bin"))
    assert [(one.line, one.code) for one in found] == [(3, "flag")]


# ---- no-dotdot -----------------------------------------------------------------------------------


def test_every_call_with_a_name_is_looked_at():
    rules = [f"native-{name}: permit" for name in NUMBERS if not name.startswith("io_uring")]
    made = compiled("no-dotdot", *rules)
    for name in NUMBERS:
        arguments = [argument.name for argument in call_of(name).arguments]
        for clause in made.table.of(NUMBERS[name]):
            if "filename" in arguments and clause.reason not in ("fd", "flush", "end", "all"):
                assert clause.decision.why in ("rules", "denied-until-supported"), name


def test_nor_does_a_call_pass_that_is_judged_by_who_calls():
    made = compiled("no-dotdot", "native-pivot_root: permit, if user = root")
    assert made.table.of(NUMBERS["pivot_root"])[0].decision.why == "denied-until-supported"


def test_landlock_looks_at_no_names():
    rules = ("landlock", 'native-fsread: filename match "/usr" then permit')
    assert landlocked(extended(*rules).policies[0], 7, None)[0] is not None
    assert landlocked(extended("no-dotdot", *rules).policies[0], 7, None)[0] is None


def test_what_is_denied_stays_denied():
    made = compiled("no-dotdot", "native-open: deny[enoent]")
    assert made.table.of(NUMBERS["open"])[0].decision.errno == 2


def test_policy_test_says_so():
    policy = extended("no-dotdot", "native-fsread: permit").policies[0]
    answer = ask(policy, "fsread", {"filename": ["/a/../b"]}, NOBODY)
    assert (answer.action, answer.rule and answer.rule.line) == ("deny", 3)
    assert ask(policy, "fsread", {"filename": ["/a/..b/c.."]}, NOBODY).action == "permit"


def test_fmt_keeps_directives():
    text = f"Language: {LANGUAGE}\n{HEADER}\nnative-open: permit\nexec-in  /usr/bin ,/bin # all\n"
    text += "no-dotdot\nnative-close: permit\n"
    after = reformat(text, name="test", users=USERS)
    assert "\texec-in /usr/bin, /bin # all\n\tno-dotdot\n" in after
    assert reformat(after, name="test", users=USERS) == after
    ordered = reformat(after, name="test", users=USERS, sort=True)
    assert "\tno-dotdot\n\tnative-close: permit\n\tnative-open: permit\n" in ordered
