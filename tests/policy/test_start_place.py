"""Lint tells which rules reach the keys at home by $CWD, and no others."""

import pytest

from certexec.policy.exposure import Exposure
from certexec.policy.start_place import lint_starts
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS

HEADER = "Policy: /bin/x, Emulation: native\n"


def policy(*rules: str):
    text = HEADER + "".join(f"\tnative-{rule}\n" for rule in rules)
    return parse_policy(text, name="x", users=USERS, privileged=True).policies[0]


@pytest.mark.parametrize(
    "rule",
    [
        'fsread: filename match "$CWD" then permit',
        'fsread: filename match "$CWD/*" then permit',
        'fswrite: filename match "$CWD/.*" then permit',
        'fsread: filename match "$CWD" and not filename match "$CWD/.ssh" then permit',
        'fsread: filename re "^$CWD" then permit',
        'openat: filename match "$CWD" then permit',
        'rename: filename match "$CWD" and filename[1] match "$CWD" then permit',
    ],
)
def test_a_rule_that_reaches_what_is_hidden_at_home_is_named(rule):
    [finding] = lint_starts(policy("read: permit", rule))
    assert (finding.line, finding.code) == (3, "start")
    assert "in the home directory, too" in finding.message and '"/."' in finding.hint


@pytest.mark.parametrize(
    "rules",
    [
        ['fsread: filename match "$CWD" and filename nsub "/." then permit'],
        ['fsread: filename match "$CWD" and not filename sub "/." then permit'],
        ['fsread: filename sub "/." then deny', 'fsread: filename match "$CWD" then permit'],
        ['fsread: filename match "$HOME" then permit', 'fsread: filename match "$CWD" then permit'],
        ['fsread: filename match "$CWD/out" then permit'],
        ['fsread: filename eq "$CWD" then permit'],
        ['fsread: filename match "$CWD" then deny'],
        ['fsread: filename match "/srv" then permit'],
    ],
)
def test_what_is_left_out_or_permitted_anyway_is_not_named(rules):
    assert lint_starts(policy(*rules)) == []


def test_the_figure_judges_the_start_as_a_home():
    def open_checks(rule: str) -> set[str]:
        return {one.check.word for one in Exposure(policy(rule)).reasons if one.open}

    assert {"read-home", "read-secrets"} <= open_checks(
        'fsread: filename match "$CWD" then permit'
    )
    assert {"write-home", "write-startup"} <= open_checks(
        'fswrite: filename match "$CWD" then permit'
    )
    tight = 'fsread: filename match "$CWD" and filename nsub "/." then permit'
    assert open_checks(tight) == {"read-home"}
