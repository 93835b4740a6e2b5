"""Every "yes" is true: whatever texts come, what is implied holds and what never holds does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.evaluate import prepare
from certexec.policy.implication import implies, never_holds
from certexec.policy.model import TRUE, And, Not, Or, Symbol
from tests.policy.common import ALICE, expressions, rule

DATA = ["/a", "/A", "/é", "/É", "/a/b", "/a/bc", "/ab", "/1", "/1/2", "a", "", "/", "/a*", "*",
        "/a/*", "$HOME"]  # fmt: skip
VALUES = ["/a", "/A", "/é", "/É", "/a/b", "/a/B", "/a/bc", "/a/b/c", "/ab", "/1", "/1/2", "", "/",
          "a", "/home"]  # fmt: skip
SYMBOLS = st.builds(
    Symbol, st.sampled_from(["filename", "FileName", "x"]), st.sampled_from([-1, 0, 1]),
    st.sampled_from(["match", "eq", "neq", "sub", "nsub", "inpath"]), st.sampled_from(DATA),
) | st.just(TRUE)
EXPRESSIONS = expressions(SYMBOLS)
CALLS = [{}] + [
    {"filename": [first.encode(), second.encode()]} for first in VALUES for second in ("/a", "/1")
] + [{"filename": [first.encode()], "x": [b"/a/b"]} for first in VALUES]


def expression(text: str):
    return rule(text + " then permit").expression


@settings(deadline=None, max_examples=500)
@given(EXPRESSIONS, EXPRESSIONS)
def test_what_is_implied_holds(one, two):
    if not implies(one, two):
        return
    first, second = prepare(one), prepare(two)
    for values in CALLS:
        assert second(values, ALICE) or not first(values, ALICE)


@settings(deadline=None, max_examples=500)
@given(EXPRESSIONS)
def test_what_never_holds_does_not(one):
    if never_holds(one):
        test = prepare(one)
        assert not any(test(values, ALICE) for values in CALLS)


@settings(deadline=None)
@given(EXPRESSIONS)
def test_a_condition_implies_itself_and_true(one):
    assert implies(one, TRUE)
    assert implies(one, one) or isinstance(one, (And, Or, Not))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('filename match "/a/b"', 'filename match "/a"'),
        ('filename match "/a/b"', 'filename match "/a*"'),
        ('filename match "/a/b"', 'filename sub "/b"'),
        ('filename eq "/A"', 'FileName[0] eq "/a"'),
        ('filename eq "/a"', 'filename neq "/b"'),
        ('filename eq "/1/2"', 'filename match "/1"'),
        ('filename sub "abc"', 'filename sub "b"'),
        ('filename nsub "b"', 'filename nsub "abc"'),
        ('filename eq "/a" and true', 'filename eq "/a"'),
        ('filename eq "/a"', 'filename eq "/a" or filename eq "/b"'),
        ('filename eq "/a" or filename eq "/b"', 'filename eq "/b" or filename eq "/a"'),
        ('not filename match "/a"', 'not filename match "/a/b"'),
        ('filename eq "/a"', 'not filename eq "/b"'),
        ('filename re "x" and filename inpath "/a"', 'filename inpath "/a"'),
    ],
)
def test_what_is_seen(one, two):
    assert implies(expression(one), expression(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('filename match "/ab"', 'filename match "/a"'),
        ('filename match "/a*"', 'filename match "/a"'),
        ('filename eq "/a"', 'filename match "/a"'),
        ('filename sub "b"', 'filename sub "abc"'),
        ('filename eq "$HOME"', 'filename neq "/a"'),
        ('filename eq "/a"', 'filename[1] eq "/a"'),
        ('filename eq "/a" or filename eq "/b"', 'filename eq "/a"'),
        ("true", 'filename match "*"'),
    ],
)
def test_what_is_not_so(one, two):
    assert not implies(expression(one), expression(two))


def test_long_chains_are_compared_quickly_and_deep_nests_not_at_all():
    many = " or ".join(f'filename eq "/{index}"' for index in range(60))
    other = " and ".join(f'filename neq "/{index}"' for index in range(60))
    assert implies(expression(many), expression(many))
    assert not implies(expression(other), expression(many))
    deep = expression("not " * 400 + "true")
    assert not implies(deep, expression('filename eq "/a"'))
    assert not never_holds(deep)
