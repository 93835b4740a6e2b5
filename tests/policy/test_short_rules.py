"""Of all short sequences of words the original parser (systrace 1.6g, run) takes just these."""

import itertools

import pytest

from certexec.policy.syntax import PolicySyntaxError
from tests.policy.common import rule

WORDS = (
    "permit", "deny", "ask", "[", "]", "inherit", "eperm", "log", "as", "root", "7", ":", ",",
    "if", "user", "group", "=", "<", "then", "and", "or", "true", '"x"', "(", ")", "not", "match",
    "filename", "->",
)


def taken(head: str, length: int, root: bool) -> set[str]:
    found = set()
    for words in itertools.chain(*(itertools.product(WORDS, repeat=n) for n in range(length + 1))):
        tail = " ".join(words)
        try:
            rule(f"{head} {tail}" if head else tail, name="native-read", privileged=root)
        except PolicySyntaxError:
            continue
        found.add(tail)
    return found


@pytest.mark.parametrize(
    ("head", "length", "anybody", "root"),
    [
        ("", 2, {"permit", "deny"}, set()),
        (
            "true then", 2, {"permit", "deny", "ask", "permit log", "deny log", "ask log"}, set(),
        ),
        (
            "true then permit", 3, {"", "log", "[ inherit ]"},
            {"as root", "as 7", "log as root", "log as 7", "as : root", "as : 7"},
        ),
        ("true then permit as", 2, set(), {"root", "7", ": root", ": 7"}),
        ("true then permit , if user =", 2, {"root", "7"}, set()),
        (
            "not true", 2,
            {"then permit", "then deny", "then ask", "-> permit", "-> deny", "-> ask"}, set(),
        ),
        ("filename", 2, set(), set()),
        ("filename match", 1, set(), set()),
    ],
)
def test_just_these_words_go_on_with_a_rule(head, length, anybody, root):
    assert taken(head, length, root=False) == anybody
    assert taken(head, length, root=True) == anybody | root
