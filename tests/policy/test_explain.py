"""What policy explain shows: the layer of every call and every rule."""

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import variants
from certexec.policy.decisions import SETTLED
from certexec.policy.explain import Tree, explain_call, explain_calls, explain_rules
from certexec.policy.model import Policy, Rule, Symbol
from certexec.policy.question import ask
from tests.policy.common import ALICE
from tests.policy.common import policy as parsed

PATH = Symbol("filename", -1, "match", "/usr")
FULL = {"full_log": True}
GRANT = {"privileged": True}


def rule(name: str, action: str = "permit", **more) -> Rule:
    code = errno.EPERM if action == "deny" else 0
    more.setdefault("simple", "expression" not in more)
    return Rule("native", name, action=action, errno=code, line=1, text="", **more)


def layers_of(*rules: Rule, emulation: str = "native") -> list[dict[str, list[str]]]:
    policy = Policy("/bin/program", emulation, 1)
    policy.rules = list(rules)
    found = list(explain_rules(Tree(policy)))
    assert [one.rule for one in found] == list(rules)
    return [one.layers for one in found]


def test_each_rule_has_the_layer_that_enforces_it():
    plain, forked, judged, denied = layers_of(
        rule("getpid"), rule("fork"), rule("mkdir", expression=PATH), rule("getuid", "deny")
    )
    assert plain == {"constant": ["getpid"]}
    assert forked == {"constant": ["fork"], "compare": ["clone"]}
    assert judged == {"supervised": ["mkdir", "mkdirat"]}
    assert denied == {"constant": ["getuid"]}


def test_a_rule_behind_a_constant_is_overruled():
    conditional, constant = layers_of(rule("mkdir", expression=PATH), rule("mkdir"))
    assert conditional == {"overruled": ["mkdir", "mkdirat"]}
    assert constant == {"constant": ["mkdir", "mkdirat"]}


def test_a_rule_for_what_certexec_settles_is_overruled():
    [never] = layers_of(rule("clone3"))
    assert never == {"overruled": ["clone3"]}
    [ending] = layers_of(rule("exit", "deny"))
    assert ending == {"overruled": ["exit", "exit_group"]}
    [ending] = layers_of(rule("exit"))
    assert ending == {"constant": ["exit", "exit_group"]}


def test_a_rule_without_a_call_here_is_inactive():
    assert layers_of(rule("pledge")) == [{"inactive": []}]


def test_a_rule_that_cannot_be_enforced_is_refused_with_the_reason():
    policy = parsed("native-mkdir: true then permit [detach]", "native-read: permit-now")
    found = list(explain_rules(Tree(policy)))
    for one in found:
        if one.why:
            assert list(one.layers) == ["refused"]
    assert found[1].layers == {"refused": ["read"]}
    assert "one call" in found[1].why


def test_each_use_of_a_call_is_shown_with_its_reason():
    policy = Policy("/bin/program", "native", 1)
    policy.rules = [rule("fork"), rule("getpid")]
    uses = [
        (use.call, use.use, use.layer, use.decision.kind, use.guard)
        for use in explain_calls(Tree(policy).whole)
    ]
    assert ("getpid", "", "constant", "permit", False) in uses
    assert ("clone", "no child may escape its tracer", "compare", "deny", True) in uses
    assert ("clone", "fork", "compare", "permit", False) in uses
    assert ("exit", "", "constant", "permit", False) in uses


def test_a_call_is_explained_variant_by_variant_with_its_rules_in_order():
    policy = parsed(
        'native-fsread: filename match "/usr" then permit',
        'native-open: filename eq "/x" then deny',
        'native-openat: filename eq "/etc" then permit',
    )
    shown = explain_call(Tree(policy), "open")
    assert [[rule.line for rule in rules] for _, _, rules in shown.variants] == [[3, 2], [3]]
    shown = explain_call(Tree(policy), "openat")
    assert (shown.number, shown.note) == (257, "")
    read, write = shown.variants
    assert [one.line for one in read[2]] == [4, 3, 2]
    assert [one.line for one in write[2]] == [4, 3]
    for _, uses, _ in shown.variants:
        assert [(use.layer, use.guard) for use in uses] == [("supervised", False)]


def test_guards_come_before_the_rules_and_say_why():
    policy = parsed("native-fork: permit", "native-prctl: permit")
    shown = explain_call(Tree(policy), "clone")
    assert [use.use for use in shown.guards] == ["no child may escape its tracer"]
    [test] = shown.guards[0].tests
    assert (test.argument, test.value, test.mask) == (0, 0x800000, 0x800000)
    labels = [variant.label for variant, _, _ in shown.variants]
    assert labels == ["fork", "vfork", "thread", "other"]
    prctl = explain_call(Tree(policy), "prctl")
    assert "certificate inside" in prctl.guards[0].use


def test_what_certexec_settles_says_why():
    policy = parsed("native-read: permit", "native-io_uring_setup: permit")
    tree = Tree(policy)
    assert "every program can end" in explain_call(tree, "exit").note
    assert "C libraries take clone" in explain_call(tree, "clone3").note
    assert "pass by" in explain_call(tree, "io_uring_setup").note
    assert explain_call(tree, "read").note == ""
    assert explain_call(tree, "write").note == ""


def test_the_options_of_signing_change_the_layers():
    policy = parsed("native-execve: permit", "native-read: deny")
    for options, execve, read in (
        ({}, "constant", "constant"), (FULL, "constant", "supervised"),
        (GRANT, "supervised", "constant"),
    ):
        first, second = explain_rules(Tree(policy, **options))
        assert first.layers == {execve: ["execve", "execveat"]}
        assert second.layers == {read: ["read"]}


def test_every_rule_and_every_call_has_a_layer():
    policy = parsed(
        "native-read: permit", 'native-fsread: filename match "/a" then permit',
        "native-clone: true then permit", "native-getrlimit: permit", "native-sendto: permit",
        'native-connect: sockaddr eq "/x" then deny', "native-fork: deny[eagain]",
    )
    for options in ({}, FULL, GRANT):
        tree = Tree(policy, **options)
        for one in explain_rules(tree):
            assert one.layers
        for use in explain_calls(tree.whole):
            assert use.layer in ("constant", "compare", "supervised", "refused")
            shown = explain_call(tree, use.call)
            assert sum(len(uses) for _, uses, _ in shown.variants) >= 1


def test_where_the_policies_of_a_tree_differ_the_supervisor_decides():
    own = parsed("native-read: permit", "native-write: permit", "native-execve: permit")
    other = parsed("native-read: permit", "native-write: deny")
    other.path = "/bin/other"
    for inherit, write, count in ((True, "constant", 1), (False, "supervised", 2)):
        tree = Tree(own, [own, other], inherit=inherit)
        read, written, execve = explain_rules(tree)
        assert tree.policies == count
        assert read.layers == {"constant": ["read"]}
        assert written.layers == {write: ["write"]}
        assert explain_call(tree, "read").differs is False
        shown = explain_call(tree, "write")
        assert shown.differs is (count == 2)
        [(_, [use], _)] = shown.variants
        assert (use.layer, use.decision.permitted) == ("constant", True)
        assert list(execve.layers) == ["constant" if inherit else "supervised"]


LINES = st.builds(
    "native-{}: {}".format,
    st.sampled_from(
        ["read", "open", "openat", "fsread", "fswrite", "stat", "fork", "clone", "getrlimit",
         "prlimit64", "unlink", "rmdir", "sigaction", "pread", "pread64", "send", "sendto"]
    ),
    st.sampled_from(["permit", "deny", "deny[eio]", "true then deny[enoent]", "true then permit"]),
)
ASKED = ("read", "openat", "stat", "unlinkat", "clone", "prlimit64", "rt_sigaction", "pread64")


@settings(deadline=None, max_examples=200)
@given(st.lists(LINES, max_size=8))
def test_what_is_explained_is_what_the_policy_answers(lines):
    policy = parsed(*lines)
    tree = Tree(policy)
    for name in ASKED:
        assert NUMBERS[name] not in SETTLED
        shown = explain_call(tree, name)
        assert [variant.label for variant, _, _ in shown.variants] == [
            variant.label for variant in variants(name)
        ]
        for variant, uses, rules in shown.variants:
            answer = ask(policy, f"{name}:{variant.label}" if variant.label else name, {}, ALICE)
            assert answer.rule is (rules[0] if rules else None)
            for use in uses:
                if use.layer in ("constant", "compare") or use.decision.denied:
                    assert use.decision.permitted is (answer.action == "permit")
                    assert use.decision.errno == answer.errno


def test_conditions_on_registers_are_compares_and_what_they_leave_is_supervised():
    policy = parsed(
        'native-socket: sockdom eq "AF_UNIX" then permit',
        'native-kill: signame eq "SIGHUP" and pidname eq "/bin/sh" then permit',
        'native-mkdir: filename match "/tmp" then permit',
        'native-setuid: uid eq "70" and uname eq "named" then permit',
        'native-setuid: uid eq "0" then deny[eacces]',
        'native-openat: oflags eq "ro" then permit',
        'native-openat: filename eq "/x" then deny',
        'native-getpid: permit, if user = root',
    )
    layers = [one.layers for one in explain_rules(Tree(policy))]
    assert layers == [
        {"compare": ["socket"]},
        {"supervised": ["kill"]},
        {"supervised": ["mkdir", "mkdirat"]},
        {"supervised": ["setuid"]},
        {"compare": ["setuid"]},
        {"compare": ["openat"], "supervised": ["openat2"]},
        {"supervised": ["openat", "openat2"]},
        {"supervised": ["getpid"]},
    ]
    alone = parsed('native-kill: signame eq "SIGHUP" then permit')
    assert [one.layers for one in explain_rules(Tree(alone))] == [{"compare": ["kill"]}]
    beside = parsed(
        'native-kill: signame eq "SIGHUP" then permit', 'native-mkdir: filename eq "/" then permit'
    )
    first = next(explain_rules(Tree(beside)))
    assert first.layers == {"compare": ["kill"], "supervised": ["kill"]}, "supervisors are spared"
    [(_, uses, rules)] = explain_call(Tree(policy), "socket").variants
    assert [(use.layer, use.decision.kind) for use in uses] == [
        ("compare", "permit"), ("compare", "deny"),
    ]
    assert [(test.argument, test.value) for test in uses[0].tests] == [(0, 1)]
    assert len(rules) == 1
