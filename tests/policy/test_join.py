"""Broken lines made whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.join import join_lines
from certexec.policy.syntax import decode_policy, parse_policy
from tests.policy.common import USERS, shared, vectors


@pytest.mark.parametrize(
    ("text", "joined", "origins"),
    [
        ("a \\\n  b \\\n\tc\nd\n", "a b c\nd\n", [1, 4, 5]),
        ("a\\  \n\\\nb\n", "a b\n", [1, 4]),
        ('x eq "/usr/\\\n   lib" then \\\n permit\n', 'x eq "/usr/lib" then permit\n', [1, 4]),
        ('x eq "a\\"b\\\nc" \\\nd\n', 'x eq "a\\"bc" d\n', [1, 4]),
        ("a \\ # one\n b # two\n", "a b # one # two\n", [1, 3]),
        ("# a comment \\\nb\n", "# a comment \\\nb\n", [1, 2, 3]),
        ("a # b \\\nc\n", "a # b \\\nc\n", [1, 2, 3]),
        ("a \\\n\nb\n", "a\nb\n", [1, 3, 4]),
        ("a \\\r\n b\r\n", "a b\n", [1, 3]),
        ("a \\\nb", "a b", [1]),
        ("a \\\n", "a \\\n", [1, 2]),
        ("a \\", "a \\", [1]),
        ("", "", [1]),
        ('a "x\\\\"\nb\n', 'a "x\\\\"\nb\n', [1, 2, 3]),
    ],
)
def test_lines_that_end_in_a_backslash_go_on(text, joined, origins):
    assert join_lines(text) == (joined, origins)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", " ", "#", '"', "\\", "\n", "\t", "\r", "é"])).map("".join))
def test_every_line_of_the_result_begins_in_a_line_of_the_text(text):
    joined, origins = join_lines(text)
    assert len(origins) == len(joined.split("\n"))
    assert origins == sorted(set(origins))
    assert origins[0] == 1
    if "\\" not in text:
        assert joined == text
    assert set(joined) <= set(text) | {" "}


def test_sound_policies_stay_as_they_are():
    for case in vectors("structures.json"):
        if "\\" not in case["text"]:
            assert join_lines(case["text"])[0] == case["text"]


def test_the_shared_file_becomes_a_policy():
    text = decode_policy(
        shared("systrace-vectors", "files", "backslash_continuation").read_bytes()
    )
    joined, _ = join_lines(text)
    [policy] = parse_policy(joined, name="joined", users=USERS, privileged=False).policies
    assert len(policy.rules) >= 1
