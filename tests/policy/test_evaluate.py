"""Verdicts: which rules count, in which order, and what they say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.evaluate import (
    UNMATCHED_ASK,
    can_be_asked,
    constant_rule,
    effective_rules,
    evaluate,
    prepare,
    subject_of,
    uses,
)
from certexec.policy.model import TRUE, And, Not, Or, Predicate, Rule, Subject, Symbol
from tests.policy.common import ALICE, policy, rule

ROOT = Subject(0, 0, "/root", "root", "/")


def decide(parsed, syscall, subject=ALICE, variant=None, **values):
    rules = effective_rules(parsed, syscall, variant)
    return evaluate(rules, {name: list(texts) for name, texts in values.items()}, subject)


def verdict(parsed, syscall, path="/x", variant=None, subject=ALICE, **values):
    found = decide(parsed, syscall, subject, variant, filename=[path], **values)
    return None if found is None else (found.action, found.errno)


PERMIT = ("permit", 0)
EPERM = ("deny", 1)


def test_the_first_rule_that_applies_decides():
    parsed = policy(
        'native-fsread: filename eq "/usr/x" then deny[enoent]',
        'native-fsread: filename match "/usr" then permit',
        "native-fsread: true then deny",
    )
    assert verdict(parsed, "stat", "/usr/x") == ("deny", 2)
    assert verdict(parsed, "stat", "/usr/y") == PERMIT
    assert verdict(parsed, "stat", "/etc") == EPERM
    assert verdict(parsed, "mkdir", "/usr/y") is None


def test_a_verdict_names_its_rule_and_says_whether_to_log():
    parsed = policy("native-stat: true then deny[eio] log")
    found = decide(parsed, "stat")
    assert found is not None
    assert found.rule is parsed.rules[0]
    assert found.log
    assert found.errno == 5


def test_a_bare_rule_of_a_call_comes_before_all_others_wherever_it_stands():
    parsed = policy('native-stat: filename match "/secret" then deny', "native-stat: permit")
    assert verdict(parsed, "stat", "/secret") == PERMIT
    assert effective_rules(parsed, "stat") == (parsed.rules[1],)


def test_of_several_bare_rules_the_last_counts():
    parsed = policy("native-read: deny[eio]", "native-read: permit", "native-read: deny[enosys]")
    assert effective_rules(parsed, "read") == (parsed.rules[2],)


def test_a_bare_rule_of_an_alias_keeps_its_place():
    parsed = policy('native-fsread: filename match "/secret" then deny', "native-fsread: permit")
    assert verdict(parsed, "stat", "/secret") == EPERM
    assert verdict(parsed, "stat", "/x") == PERMIT


def test_own_rules_come_before_those_of_the_classic_name_and_of_the_alias():
    parsed = policy(
        'native-fsread: filename match "/a" then deny[eio]',
        "native-open: permit",
        'native-openat: filename match "/a/b" then deny[enoent]',
    )
    assert verdict(parsed, "openat", "/a/b", variant="read") == ("deny", 2)
    assert verdict(parsed, "openat", "/a", variant="read") == PERMIT
    assert verdict(parsed, "open", "/a/b", variant="read") == PERMIT
    assert verdict(parsed, "stat", "/a/b") == ("deny", 5)


def test_reading_and_writing_opens_have_their_own_aliases():
    parsed = policy("native-fsread: permit", "native-fswrite: deny[erofs]")
    assert verdict(parsed, "openat", variant="read") == PERMIT
    assert verdict(parsed, "openat", variant="write") == ("deny", 30)
    assert verdict(parsed, "creat") == ("deny", 30)


def test_a_call_with_several_uses_needs_to_know_which():
    parsed = policy("native-fstat: permit")
    with pytest.raises(KeyError):
        effective_rules(parsed, "newfstatat")
    with pytest.raises(KeyError):
        effective_rules(parsed, "newfstatat", "sideways")
    assert verdict(parsed, "newfstatat", variant="fd") == PERMIT
    assert verdict(parsed, "newfstatat", variant="follow") is None
    found = {variant.label: rules for variant, rules in uses(parsed, "newfstatat")}
    assert found == {"fd": (parsed.rules[0],), "nofollow": (), "follow": ()}


def test_an_alias_sees_no_argument_but_filename():
    parsed = policy('native-fswrite: oflags sub "w" then permit', "native-open: true then ask")
    assert verdict(parsed, "open", variant="write", oflags=["wo"]) == ("ask", 0)
    own = policy('native-open: oflags sub "w" then permit')
    assert verdict(own, "open", variant="write", oflags=["wo"]) == PERMIT


def test_a_matched_ask_still_looks_at_the_alias():
    parsed = policy(
        "native-open: true then ask log",
        "native-open: true then deny",
        'native-fsread: filename match "/usr" then permit',
    )
    assert verdict(parsed, "open", "/usr", variant="read") == PERMIT
    assert verdict(parsed, "open", "/etc", variant="read") == ("ask", 0)
    found = decide(parsed, "open", variant="read", filename=["/etc"])
    assert found is not None
    assert found.rule is parsed.rules[0]


def test_an_argument_that_is_missing_makes_its_condition_false_even_for_neq():
    for body in ('sockaddr neq "x" then deny', 'sockaddr nsub "x" then deny',
                 'filename[1] neq "y" then deny'):
        assert verdict(policy("native-stat: " + body), "stat") is None
    parsed = policy('native-stat: not sockaddr eq "x" then deny')
    assert verdict(parsed, "stat") == EPERM


def test_an_offset_picks_one_of_several_arguments_of_a_name():
    parsed = policy('native-rename: filename eq "/a" and filename[1] eq "/b" then permit')
    assert decide(parsed, "rename", filename=["/a", "/b"]) is not None
    assert decide(parsed, "rename", filename=["/b", "/a"]) is None
    assert decide(parsed, "rename", filename=["/a"]) is None
    first = policy('native-rename: filename[0] eq "/a" then permit')
    assert decide(first, "rename", filename=["/a", "/b"]) is not None


def test_argument_names_are_compared_without_regard_to_case():
    assert verdict(policy('native-stat: FileName eq "/x" then permit'), "stat") == PERMIT


def test_predicates_are_about_the_subject():
    parsed = policy("native-stat: permit, if user = root", "native-stat: deny, if group > 500")
    assert verdict(parsed, "stat", subject=ROOT) == PERMIT
    assert verdict(parsed, "stat") == EPERM


@pytest.mark.parametrize(
    ("relation", "number", "uid", "holds"),
    [
        ("=", 5, 5, True), ("=", 5, 6, False), ("!=", 5, 6, True), ("!=", 5, 5, False),
        ("<", 5, 4, True), ("<", 5, 5, False), (">", 5, 6, True), (">", 5, 5, False),
        ("=", -1, 2**32 - 1, True), (">", 0, 2**31, False), ("<", 0, 2**32 - 1, True),
    ],
)
def test_predicates_compare_signed_numbers(relation, number, uid, holds):
    subject = Subject(uid, 7, "", "", "")
    assert Predicate("user", relation, number).holds(subject) is holds
    assert Predicate("group", "=", 7).holds(subject)


def test_macros_follow_the_subject():
    parsed = policy('native-stat: filename match "$HOME" then permit')
    assert verdict(parsed, "stat", "/home/alice/x") == PERMIT
    assert verdict(parsed, "stat", "/root/x") is None
    assert verdict(parsed, "stat", "/root/x", subject=ROOT) == PERMIT
    assert verdict(parsed, "stat", "/root/x") is None


def test_a_macro_in_a_regular_expression_is_compiled_for_the_subject():
    parsed = policy('native-stat: filename re "^$HOME/[0-9]+$" then permit')
    assert verdict(parsed, "stat", "/home/alice/12") == PERMIT
    odd = Subject(1, 1, "/(", "u", "/")
    assert verdict(parsed, "stat", "/(/12", subject=odd) is None


def test_bytes_that_are_not_text_are_compared_as_they_are():
    parsed = policy('native-stat: filename eq "/\udcff" then permit')
    assert verdict(parsed, "stat", "/\udcff") == PERMIT
    assert verdict(parsed, "stat", b"/\xff") == PERMIT
    assert verdict(parsed, "stat", "/ÿ") is None


def test_subjects_whom_nobody_knows_have_a_name_and_a_home():
    subject = subject_of(77, 8, home=None, user=None, cwd="/w")
    assert (subject.user, subject.home) == ("unknown(77)", "/var/empty")
    known = subject_of(0, 0, home="/root", user="root", cwd="/w")
    assert (known.user, known.home) == ("root", "/root")


def test_constant_rules_need_no_look_at_arguments():
    parsed = policy(
        "native-read: permit", 'native-stat: filename eq "/a" then permit',
        "native-access: true then deny", "native-lstat: permit, if user = 0",
        "native-mkdir: true then ask",
    )
    assert constant_rule(effective_rules(parsed, "read")) == (True, parsed.rules[0])
    assert constant_rule(effective_rules(parsed, "stat")) == (False, None)
    assert constant_rule(effective_rules(parsed, "access")) == (True, parsed.rules[2])
    assert constant_rule(effective_rules(parsed, "lstat")) == (False, None)
    assert constant_rule(effective_rules(parsed, "mkdir")) == (False, None)
    assert constant_rule(effective_rules(parsed, "write")) == (True, None)


def test_socket_calls_of_the_32_bit_table_obey_socketcall_first():
    parsed = policy(
        'linux-connect: sockaddr match "inet-*" then deny', "linux-connect: permit",
        emulation="linux",
    )
    assert decide(parsed, "connect", sockaddr=["inet-[::1]:1"]).action == "deny"
    assert decide(parsed, "connect", sockaddr=["/dev/log"]).action == "permit"
    overall = policy(
        "linux-connect: deny", "linux-socketcall: permit", emulation="linux"
    )
    assert decide(overall, "connect", sockaddr=["x"]).action == "permit"


def test_deep_expressions_are_evaluated_without_deep_recursion():
    assert prepare(rule("not " * 501 + "true then permit").expression)({}, ALICE) is False
    wide = rule(" and ".join(["true"] * 200) + " then permit").expression
    assert prepare(wide)({}, ALICE) is True
    left = "( " * 150 + "true" + " and true )" * 150 + " then permit"
    assert prepare(rule(left).expression)({}, ALICE) is True


# ---- against an evaluator that only knows the definitions ----

SYMBOLS = st.builds(
    Symbol,
    st.sampled_from(["filename", "FILENAME", "sockaddr"]),
    st.sampled_from([-1, 0, 1, 2]),
    st.sampled_from(["eq", "neq", "sub", "nsub", "match", "inpath"]),
    st.sampled_from(["", "/", "/a", "/A", "/a/b", "b", "$HOME"]),
) | st.just(TRUE)
EXPRESSIONS = st.recursive(
    SYMBOLS,
    lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner)
    | st.builds(Not, inner),
    max_leaves=8,
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "filename": st.lists(st.sampled_from(["", "/", "/a", "/A", "/a/b", "/home/alice"]),
                             max_size=2),
        "sockaddr": st.lists(st.sampled_from(["/a", "inet-[1.2.3.4]:5"]), max_size=1),
    },
)
RULES = st.lists(
    st.builds(
        Rule, st.just("native"), st.sampled_from(["stat", "fsread"]),
        action=st.sampled_from(["permit", "deny"]), errno=st.integers(1, 5), line=st.just(1),
        text=st.just(""), expression=EXPRESSIONS,
        predicate=st.none() | st.builds(
            Predicate, st.just("user"), st.sampled_from(["=", "!=", "<", ">"]), st.integers(0, 1)
        ),
    ),
    max_size=4,
)


def naive(expression, values, subject) -> bool:
    if isinstance(expression, Not):
        return not naive(expression.operand, values, subject)
    if isinstance(expression, And):
        return all([naive(expression.left, values, subject),
                    naive(expression.right, values, subject)])
    if isinstance(expression, Or):
        return any([naive(expression.left, values, subject),
                    naive(expression.right, values, subject)])
    if expression.operator == "true":
        return True
    texts = values.get(expression.argument.lower(), [])
    index = 0 if expression.offset == -1 else expression.offset
    if index >= len(texts):
        return False
    value, data = texts[index], expression.data.replace("$HOME", subject.home)
    return {
        "eq": value.lower() == data.lower(), "neq": value.lower() != data.lower(),
        "sub": data in value, "nsub": data not in value,
        "match": value == data or value.startswith(data + "/"),
        "inpath": value == "/" and data != "" if len(value) == 1 else (
            value != "" and (data + "/").startswith(value + "/")
        ),
    }[expression.operator]


@settings(deadline=None)
@given(RULES, CALLS, st.sampled_from([ALICE, ROOT]))
def test_verdicts_agree_with_the_definitions(rules, values, subject):
    expected = None
    for one in rules:
        seen = {"filename": values.get("filename", [])} if one.syscall == "fsread" else values
        if one.predicate is not None and not {
            "=": subject.uid == one.predicate.number, "!=": subject.uid != one.predicate.number,
            "<": subject.uid < one.predicate.number, ">": subject.uid > one.predicate.number,
        }[one.predicate.relation]:
            continue
        if naive(one.expression, seen, subject):
            expected = one
            break
    found = evaluate(rules, values, subject)
    assert (None if found is None else found.rule) is expected


# ---- what no rule matches ----


def asking(*lines):
    parsed = policy(*lines)
    parsed.asks_unmatched = True
    return parsed


def test_where_an_agent_is_asked_what_no_rule_matches_is_a_question():
    parsed = asking(
        'native-fsread: filename match "/usr" then permit', "native-getpid: permit",
        "native-getuid: deny[eio]", 'native-mkdir: filename eq "/no" then deny',
    )
    assert verdict(parsed, "stat", "/usr/x") == PERMIT
    assert verdict(parsed, "stat", "/etc") == ("ask", 0)
    assert verdict(parsed, "mkdir", "/no") == EPERM
    found = decide(parsed, "mkdir", filename=["/yes"])
    assert found is not None and found.rule is UNMATCHED_ASK
    assert effective_rules(parsed, "getpid") == (parsed.rules[1],)
    assert effective_rules(parsed, "getuid") == (parsed.rules[2],)
    assert effective_rules(parsed, "getppid") == (UNMATCHED_ASK,)
    assert constant_rule(effective_rules(parsed, "getppid")) == (False, None)


def test_a_rule_that_asks_is_the_one_that_asks():
    parsed = asking('native-stat: filename match "/etc" then ask')
    found = decide(parsed, "stat", filename=["/etc"])
    assert found is not None and found.rule is parsed.rules[0]
    by_alias = asking("native-fsread: true then ask")
    found = decide(by_alias, "stat", filename=["/etc"])
    assert found is not None and found.rule is by_alias.rules[0]


def test_an_alias_decides_before_anybody_is_asked_about_the_rest():
    parsed = asking('native-stat: filename eq "/a" then ask', "native-fsread: true then permit")
    assert verdict(parsed, "stat", "/a") == PERMIT


def test_what_goes_on_unseen_is_never_asked_about():
    assert not any(map(can_be_asked, ("io_uring_setup", "io_uring_enter", "pivot_root")))
    parsed = asking('native-pivot_root: filename eq "/" then permit')
    assert effective_rules(parsed, "pivot_root") == (parsed.rules[0],)
    assert verdict(parsed, "pivot_root", "/x") is None
    assert verdict(asking(), "io_uring_setup") is None
