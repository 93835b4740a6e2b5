"""Misspelt words: near is what one slip of the fingers makes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.policy.spelling import close_word, distance

WORDS = st.text("abc", max_size=5)


@pytest.mark.parametrize(
    ("one", "two", "count"),
    [
        ("permit", "permit", 0), ("permitt", "permit", 1), ("permt", "permit", 1),
        ("premit", "permit", 1), ("parmit", "permit", 1), ("", "ask", 3), ("then", "deny", 3),
        ("ca", "abc", 3),
    ],
)  # fmt: skip
def test_the_distance_counts_slips(one, two, count):
    assert distance(one, two) == count


@given(WORDS, WORDS)
def test_the_distance_is_the_same_both_ways_and_nothing_only_between_equals(one, two):
    assert distance(one, two) == distance(two, one) <= max(len(one), len(two))
    assert (distance(one, two) == 0) is (one == two)


def test_the_nearest_word_counts_and_of_equally_near_ones_the_first():
    assert close_word("thn", ("then", "ten")) == "then"
    assert close_word("ten", ("then", "ten")) == "ten"
    assert close_word("Dney", ("permit", "deny")) == "deny"
    assert close_word("prmti", ("permit",)) == "permit"
    assert close_word("dxyy", ("deny",)) == ""
    assert close_word("anything", ()) == ""


def test_a_long_word_takes_no_time():
    begin = time.process_time()
    assert close_word("permit" * 100_000, ("permit",)) == ""
    assert time.process_time() - begin < 0.1
