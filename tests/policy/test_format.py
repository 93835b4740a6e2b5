"""Rules to text and back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.format import format_expression, format_policy, format_rule, quote, tree
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
    assert format_rule(again) == line


@settings(deadline=None)
@given(EXPRESSIONS)
def test_formatting_keeps_the_tree(expression):
    again = rule(format_expression(expression) + " then permit").expression
    assert tree(again) == tree(expression)


@settings(deadline=None)
@given(TEXTS)
def test_quoting_is_undone_by_the_parser(text):
    parsed = rule(f"filename eq {quote(text)} then permit").expression
    assert isinstance(parsed, Symbol)
    assert parsed.data == text


def test_parentheses_stand_only_where_they_are_needed():
    for text in (
        "true and true or not true", "( true and true ) or true", "not true and true",
        "( not true ) and true", "not ( not true ) and true",
    ):
        assert format_expression(rule(text + " then permit").expression) == text


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
