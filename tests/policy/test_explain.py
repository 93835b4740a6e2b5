"""What policy explain shows: the layer of every call and every rule."""

import errno

from certexec.policy.decisions import Table, TreeOptions
from certexec.policy.explain import explain_calls, explain_rules
from certexec.policy.model import Policy, Rule, Symbol

PATH = Symbol("filename", -1, "match", "/usr")


def rule(name: str, action: str = "permit", **more) -> Rule:
    code = errno.EPERM if action == "deny" else 0
    more.setdefault("simple", "expression" not in more)
    return Rule("native", name, action=action, errno=code, line=1, text="", **more)


def layers_of(*rules: Rule, emulation: str = "native") -> list[dict[str, list[str]]]:
    policy = Policy("/bin/program", emulation, 1)
    policy.rules = list(rules)
    options = TreeOptions(full_log=False, privileged=False, capable=False)
    found = list(explain_rules(policy, Table(policy, options)))
    assert [one for one, _ in found] == list(rules)
    return [layers for _, layers in found]


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


def test_a_rule_without_a_call_here_is_inactive():
    assert layers_of(rule("pledge")) == [{"inactive": []}]


def test_each_use_of_a_call_is_shown_with_its_reason():
    policy = Policy("/bin/program", "native", 1)
    policy.rules = [rule("fork"), rule("getpid")]
    options = TreeOptions(full_log=False, privileged=False, capable=False)
    uses = [
        (use.call, use.use, use.layer, use.decision.kind)
        for use in explain_calls(Table(policy, options))
    ]
    assert ("getpid", "", "constant", "permit") in uses
    assert ("clone", "no child may escape its tracer", "compare", "deny") in uses
    assert ("clone", "fork", "compare", "permit") in uses
    assert ("exit", "", "constant", "permit") in uses
