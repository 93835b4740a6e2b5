"""Dead rules: taking one out changes nothing; and what a log shows of rules at work."""

import pytest
from hypothesis import given, settings

from certexec.policy.dead_rules import lint_exactly, unused
from certexec.policy.difference import compare
from certexec.policy.lint import lint
from certexec.policy.model import PolicyFile, Subject
from certexec.policy.reachable import writable_code, written_and_executed
from certexec.policy.template import starting_policy
from tests.policy.common import ALICE
from tests.policy.test_difference import RULES, parsed


def warned(*lines: str, extended: bool = False) -> list[tuple[int, str]]:
    file = PolicyFile("x", [parsed(*lines, extended=extended)], extended)
    found = lint_exactly(file, lint(file))
    return [(finding.line - 1, finding.code) for finding in found]


@settings(deadline=None, max_examples=150)
@given(RULES)
def test_a_rule_that_never_decides_can_be_taken_out(lines):
    policy = parsed(*lines, extended=True)
    file = PolicyFile("x", [policy], extended=True)
    dead = {
        finding.line for finding in lint_exactly(file, [])
        if finding.code in ("shadowed", "never")
    }
    if dead:
        kept = [line for number, line in enumerate(lines, 3) if number not in dead]
        assert not any(one.changes for one in compare(policy, parsed(*kept, extended=True)))


def test_what_several_rules_do_together_is_seen():
    lines = (
        'native-fsread: filename match "/a" or filename match "/b" then permit',
        'native-fsread: not filename match "/b" then deny',
        'native-fsread: filename sub "c" then permit',
    )
    assert warned(*lines) == [(3, "shadowed")]
    assert warned('native-fsread: filename eq "/a" and filename re "^/b" then permit') == [
        (1, "never")
    ]
    assert warned(
        "native-fsread: filename eq \"/a\" then permit, if user < 5",
        "native-fsread: filename eq \"/a\" then permit, if user > 4",
        "native-fsread: filename eq \"/a\" then deny[enoent]",
    ) == [(3, "shadowed")]


def test_what_cannot_be_told_is_not_warned_about():
    assert not warned('native-mkdir: filename re "^/(a)\\\\1$" then permit',
                      'native-mkdir: filename eq "/aa" then deny[enoent]')  # fmt: skip


def test_what_lint_said_already_is_not_said_again():
    lines = ('native-fsread: filename match "/a" then permit',
             'native-fsread: filename match "/a/1" then deny')  # fmt: skip
    file = PolicyFile("x", [parsed(*lines)])
    found = lint(file)
    assert [one.code for one in found] == ["shadowed"]
    assert not lint_exactly(file, found)


# ---- writing and executing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "example"),
    [
        (['native-fswrite: filename match "/tmp" then permit', "native-execve: permit"], "/tmp"),
        (["native-fswrite: true then permit", "native-execve: permit"], "/a"),
        (['native-fswrite: filename match "/tmp" then permit',
          'native-execve: filename match "/tmp/bin" then permit'], "/tmp/bin"),
        (['native-fswrite: filename match "/home/*/x" then permit',
          'native-execve: filename re "^/[a-z]+/b/" then permit'], "/home/b/x"),
        (['native-open: filename eq "/a" and oflags sub "c" then permit',
          'native-execve: filename eq "/A" and argv eq "x" then permit'], "/a"),
        (['native-rename: filename[1] match "/usr/bin" then permit',
          'native-execve: filename match "/usr/bin/x" then permit'], "/usr/bin/x"),
        (['native-fswrite: filename match "$HOME" then permit',
          'native-execve: filename match "$HOME/bin" then permit'], "/home/user/bin"),
    ],
)  # fmt: skip
def test_what_may_be_written_and_executed_is_found(lines, example):
    path, _ = written_and_executed(parsed(*lines))
    assert path == example
    assert (0, "write-exec") in warned(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ['native-fswrite: filename match "/tmp" then permit',
         'native-execve: filename match "/usr" then permit'],
        ['native-fswrite: filename match "/tmp" then permit'],
        ["native-execve: permit"],
        ['native-fswrite: filename match "/tmp" then permit',
         'native-execve: filename match "/tmp" then deny', "native-execve: true then deny"],
        ['native-fswrite: filename match "/tmp" then permit, if user = 0',
         'native-execve: filename match "/tmp" then permit, if user > 0'],
        ['native-open: filename match "/tmp" and oflags eq "ro" then permit',
         "native-execve: permit"],
    ],
)
def test_what_stays_apart_is_not_warned_about(lines):
    assert written_and_executed(parsed(*lines)) is None


def test_memory_that_is_writable_and_executable():
    assert writable_code(parsed("native-mmap: permit"))[0] == "mmap"
    closed = 'native-mmap: not ( prot sub "WRITE" and prot sub "EXEC" ) then permit'
    assert writable_code(parsed(closed)) is None
    half = (closed, "native-mprotect: permit")
    assert writable_code(parsed(*half))[0] == "mprotect"
    assert (0, "wx-memory") in warned(*half)
    assert not warned("native-mmap: permit", "native-mprotect: permit"), "nobody asks for it"
    odd = 'native-mmap: prot neq "PROT_READ|PROT_WRITE|PROT_EXEC" then permit'
    name, prot = writable_code(parsed(odd))
    assert name == "mmap" and "PROT_WRITE" in prot and "PROT_EXEC" in prot


def test_the_starting_policy_is_warned_about_in_nothing():
    from certexec.policy.syntax import parse_policy
    from tests.policy.common import USERS

    file = parse_policy(starting_policy("/bin/x"), name="x", users=USERS, privileged=True)
    assert not lint_exactly(file, lint(file))


# ---- the log -------------------------------------------------------------------------------------

POLICY = (
    'native-fsread: filename match "/etc" then permit',
    'native-fsread: filename match "/usr" then permit log',
    'native-fsread: filename match "$CWD" then permit',
    'native-connect: sockaddr match "inet-*:80" then permit',
    "native-connect: true then deny[econnrefused] log",
    "native-read: permit",
)


def seen(*calls: tuple[str, dict[str, str], str], policy=None) -> list[int]:
    told = [(name, {key: [text] for key, text in texts.items()}, ALICE, verdict)
            for name, texts, verdict in calls]  # fmt: skip
    found = unused(policy or parsed(*POLICY), told)
    return [finding.line - 1 for finding in found]


def test_only_what_a_log_would_show_is_called_unused():
    assert seen() == [2, 5], "the rules that say log"
    assert seen(("stat", {"filename": "/usr/x"}, "permit")) == [5]
    # a permitted call by a rule without log: this one has all of them
    assert seen(("openat", {"filename": "/etc/x", "oflags": "ro"}, "permit")) == [2, 4, 5, 6]
    assert seen(("openat", {"filename": "/etc/x", "oflags": "ro"}, "permit"),
                ("connect", {"sockaddr": "inet-[192.0.2.1]:80"}, "permit"),
                ("connect", {"sockaddr": "inet-[192.0.2.1]:81"}, "deny")) == [2, 6]  # fmt: skip


def test_a_log_that_shows_nothing_is_told():
    policy = parsed("native-read: permit")
    [finding] = unused(policy, [("openat", {"filename": ["/x"]}, ALICE, "deny")])
    assert finding.code == "unused" and "--log-all" in finding.hint


def test_a_log_may_say_anything():
    odd = [("no-such-call", {}, ALICE, "permit"), ("read", {"x": ["y"]}, ALICE, "?"),
           ("openat", {}, Subject(-1, -1, "", "", ""), "permit")]  # fmt: skip
    unused(parsed(*POLICY), odd)
