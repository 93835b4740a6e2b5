"""Rules to text and back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.format import (
    format_expression,
    format_policy,
    format_rule,
    quote,
    same_rule,
    tree,
)
from certexec.policy.model import TRUE, And, Not, Or, Predicate, Rule, Symbol
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS, notation, policy, rule

NAMES = st.sampled_from(["filename", "sockaddr", "x_y.z(1)/-$", "$a"])
TEXTS = st.text(alphabet="/ab*\\\"\n\r é#$-", max_size=6)
SYMBOLS = st.builds(
    Symbol, NAMES, st.integers(-1, 9), st.sampled_from(["match", "eq", "neq", "sub", "inpath"]),
    TEXTS,
) | st.just(TRUE)
EXPRESSIONS = st.recursive(
    SYMBOLS,
    lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner)
    | st.builds(Not, inner),
    max_leaves=6,
)


@st.composite
def rules(draw) -> Rule:
    action = draw(st.sampled_from(["permit", "deny", "ask"]))
    flags = {"permit": ["", "inherit", "detach"], "deny": ["", "eio", "eftype"], "ask": [""]}
    flag = draw(st.sampled_from(flags[action]))
    ids = st.none() | st.integers(0, 2**32 - 1)
    elevate = draw(st.none() | st.tuples(ids, ids).filter(lambda both: both != (None, None)))
    return Rule(
        "native", draw(st.sampled_from(["fsread", "open", "frobnicate"])), action=action,
        errno={"deny": {"": 1, "eio": 5, "eftype": 22}.get(flag, 0)}.get(action, 0),
        errno_name=flag if action == "deny" else "", inherit=flag == "inherit",
        detach=flag == "detach", log=draw(st.booleans()), elevate=elevate,
        expression=draw(EXPRESSIONS), line=1, text="",
        predicate=draw(
            st.none() | st.builds(
                Predicate, st.sampled_from(["user", "group"]),
                st.sampled_from(["=", "!=", "<", ">"]), st.integers(-(2**31), 2**31 - 1),
            )
        ),
    )


@settings(deadline=None)
@given(rules())
def test_a_formatted_rule_parses_to_the_same_rule(one):
    line = format_rule(one)
    body = line.partition(": ")[2]
    again = rule(body, name=line.partition(": ")[0])
    assert notation(again, root=True) == notation(one, root=True)
    assert again.errno == one.errno
    assert same_rule(again, one)
    assert format_rule(again) == line


@settings(deadline=None)
@given(EXPRESSIONS)
def test_formatting_keeps_the_tree(expression):
    for explicit in (True, False):
        again = rule(format_expression(expression, explicit=explicit) + " then permit").expression
        assert tree(again) == tree(expression)


@settings(deadline=None)
@given(TEXTS)
def test_quoting_is_undone_by_the_parser(text):
    parsed = rule(f"filename eq {quote(text)} then permit").expression
    assert isinstance(parsed, Symbol)
    assert parsed.data == text


def test_parentheses_stand_where_they_are_needed_or_help_the_reader():
    for text, shown in (
        ("true and true and true", "true and true and true"),
        ("true and true or not true", "true and ( true or not true )"),
        ("true or true and true", "true or ( true and true )"),
        ("( true and true ) or true", "( true and true ) or true"),
        ("( true or true ) or true", "( true or true ) or true"),
        ("not true and true", "not ( true and true )"),
        ("( not true ) and true", "( not true ) and true"),
        ("not ( not true ) and true", "not ( ( not true ) and true )"),
        ("not not true", "not not true"),
        ("true and not true", "true and not true"),
        ("( ( true ) )", "true"),
    ):
        expression = rule(text + " then permit").expression
        assert format_expression(expression) == shown
        assert tree(rule(shown + " then permit").expression) == tree(expression)


def test_without_help_for_the_reader_there_is_no_needless_parenthesis():
    for text in (
        "true and true or not true", "( true and true ) or true", "not true and true",
        "( not true ) and true", "not ( not true ) and true",
    ):
        expression = rule(text + " then permit").expression
        assert format_expression(expression, explicit=False) == text


def test_trees_show_how_a_rule_groups():
    parsed = rule('filename eq "a" and true or not sockaddr[1] sub "b" then permit')
    assert tree(parsed.expression) == "(and [filename:-1 a] (or [-:-1 ] (not [sockaddr:1 b])))"


def test_a_formatted_policy_parses_to_the_same_policy():
    lines = (
        "native-read: permit", "native-write: deny[eio]", "native-getpid: permit-now",
        'native-fsread: filename eq "/a" then permit log', "native-fsread: deny, if user = 5",
    )
    one = policy(*lines)
    again = parse_policy(format_policy(one), name="f", users=USERS, privileged=True).policies[0]
    assert [format_rule(each) for each in again.rules] == [format_rule(each) for each in one.rules]
    assert [each.simple for each in again.rules] == [True, True, True, False, False]
    assert format_rule(one.rules[4]) == "native-fsread: true then deny, if user = 5"
    one.detached = True
    assert format_policy(one).endswith("\ndetached\n")


def test_rules_differ_in_meaning_not_in_spelling():
    text = 'filename eq "/a" and true or true then deny[enoent] log, if user = root'
    for same in (
        text, text.replace("root", "0"), text.replace("then", "->"), text.replace("eno", "ENO"),
        '( filename eq "\\/a" and ( true or true ) ) then deny[enoent] log, if user = 0',
    ):
        assert same_rule(rule(text), rule(same))
    for other in (
        text.replace("eq", "neq"), text.replace("/a", "/b"), text.replace("and", "or"),
        text.replace("enoent", "eio"), text.replace(" log", ""),
        text.replace("deny[enoent]", "ask"), text.replace("root", "1"),
        text.replace("user", "group"), text.replace(", if user = root", ""),
        text.replace("filename eq", "filename[0] eq"), text.replace("=", "!="),
        text.replace("log", "log as root"), text.replace("deny[enoent]", "permit[inherit]"),
    ):
        assert not same_rule(rule(text), rule(other))
    assert not same_rule(rule("permit", name="native-read"), rule("true then permit"))
    assert not same_rule(rule("deny[eftype]"), rule("deny[einval]"))
