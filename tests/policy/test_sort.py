"""Sorting moves rules only where their order means nothing."""

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.reformat import reformat
from certexec.policy.sort import shape, sorted_order
from certexec.policy.syntax import parse_policy
from tests.policy.common import ALICE, USERS, policy

HEADER = "Policy: /bin/x, Emulation: native\n"


def sort(*lines: str) -> list[str]:
    text = HEADER + "".join(f"\t{line}\n" for line in lines)
    shown = reformat(text, name="f", users=USERS, sort=True)
    return [line.strip() for line in shown.splitlines()[1:]]


def test_names_then_operands_give_the_order():
    lines = [
        'native-fsread: filename match "/usr" then permit',
        "native-write: permit",
        'native-fsread: filename eq "/etc" then permit',
        "native-read: permit",
        'native-connect: sockaddr eq "/dev/log" then permit',
    ]
    assert sort(*lines) == [lines[4], lines[2], lines[0], lines[3], lines[1]]


def test_it_is_the_order_of_sort_where_all_rules_say_the_same():
    lines = [
        'native-fsread: filename match "/usr" then permit', "native-read: permit",
        'native-fsread: filename eq "/usr/b" then permit', "native-fsread: permit",
        'native-fsread: filename sub "a b" and filename eq "/z" then permit', "native-a: permit",
        'native-fsread: filename eq "/usr/B" then permit', "native-fsreadx: permit",
    ]
    done = subprocess.run(
        ["sort", "-k1,1", "-k4"], input="".join(line + "\n" for line in lines), text=True,
        capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"},
    )
    assert sort(*lines) == done.stdout.splitlines()


@pytest.mark.parametrize(
    "lines",
    [
        ('native-fsread: filename match "/b" then deny',
         'native-fsread: filename match "/a" then permit'),
        ('native-fsread: filename match "/b" then deny[enoent]',
         'native-fsread: filename match "/a" then deny[eio]'),
        ('native-fsread: filename match "/b" then permit log',
         'native-fsread: filename match "/a" then permit'),
        ('native-fsread: filename match "/b" then ask',
         'native-fsread: filename match "/a" then permit'),
        ('native-open: filename match "/b" then permit as root',
         'native-open: filename match "/a" then permit'),
        ("native-pread64: permit", "native-pread: deny"),
        ("native-read: permit", "native-read: deny"),
        ('native-stat: filename match "/b" then deny', "native-stat: permit"),
    ],
)
def test_rules_with_other_answers_do_not_pass_each_other(lines):
    assert sort(*lines) == list(lines)


def test_comments_go_with_their_rules_and_the_top_stays():
    text = (
        "# file\n" + HEADER + "# top\n\n# of write\n\tnative-write: permit # w\n\n"
        "\t# of read\n\tnative-read: permit\n# end\n\nPolicy: /bin/y, Emulation: native\n"
        "\tnative-b: permit\n# of a\n\tnative-a: permit\n"
    )
    assert reformat(text, name="f", users=USERS, sort=True) == (
        "# file\n" + HEADER + "# top\n\n\t# of read\n\tnative-read: permit\n"
        "# of write\n\tnative-write: permit # w\n# end\n\nPolicy: /bin/y, Emulation: native\n"
        "# of a\n\tnative-a: permit\n\tnative-b: permit\n"
    )


def test_the_shape_tells_what_sorting_must_keep():
    one = policy("native-fsread: true then permit", "native-fsread: true then deny").rules
    two = policy("native-fsread: true then deny", "native-fsread: true then permit").rules
    assert shape(one) != shape(two)
    more = policy("native-read: permit", *map(str, one)).rules
    assert shape(more) == {**shape(one), **shape(more[:1])}
    assert sorted_order(one, [str(rule) for rule in one]) == [0, 1]


RULES = st.builds(
    "native-{}: {}".format,
    st.sampled_from(["open", "openat", "fsread", "fswrite", "pread", "pread64", "stat"]),
    st.sampled_from(["permit", "deny", "deny[eio]"]) | st.builds(
        'filename {} "{}" then {}'.format, st.sampled_from(["eq", "match", "sub"]),
        st.sampled_from(["/a", "/b", "/a/b"]),
        st.sampled_from(["permit", "deny", "deny[enoent]", "ask", "permit log"]),
    ),
)
CALLS = [("openat", "read"), ("openat", "write"), ("open", "read"), ("pread64", ""), ("stat", "")]


@settings(deadline=None, max_examples=300)
@given(st.lists(RULES, max_size=8))
def test_sorting_changes_no_verdict(lines):
    def verdicts(text: str) -> list[object]:
        [one] = parse_policy(text, name="f", users=USERS, privileged=True).policies
        found: list[object] = []
        for call, variant in CALLS:
            for name in ("/a", "/b", "/a/b", "/c"):
                rules = effective_rules(one, call, variant)
                verdict = evaluate(rules, {"filename": [name]}, ALICE)
                found.append(verdict and (verdict.action, verdict.errno, verdict.log))
        return found

    text = HEADER + "".join(line + "\n" for line in lines)
    assert verdicts(reformat(text, name="f", users=USERS, sort=True)) == verdicts(text)
