"""Asking a policy about one call: which rules are looked at, and when there is no answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy.calls import variants
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.model import Subject
from certexec.policy.question import ask, calls_of
from tests.policy.common import ALICE, policy

RULES = (
    'native-fsread: filename match "/usr" then permit',
    'native-fswrite: filename match "/tmp" then permit log',
    'native-open: filename eq "/usr/secret" then deny[enoent]',
    'native-stat: filename eq "/etc/passwd" then ask',
    "native-sigaction: permit",
    "native-fork: permit",
    'native-rename: filename match "/a" and filename[1] match "/b" then permit',
    'native-mkfifo: filename eq "/fifo" then deny[eio]',
    'native-connect: sockaddr eq "inet-[1.2.3.4]:80" then permit, if user = alice',
    'native-fsread: filename eq "$HOME/x" then permit',
)


def answer(name: str, *lines: str, emulation: str = "native", subject: Subject = ALICE, **values):
    texts = {key: value if isinstance(value, list) else [value] for key, value in values.items()}
    return ask(policy(*(lines or RULES), emulation=emulation), name, texts, subject)


def line(name: str, **values) -> tuple[str, int]:
    found = answer(name, **values)
    return found.action, found.rule.line - 1 if found.rule else 0


def refusal(name: str, *lines: str, **values) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        answer(name, *lines, **values)
    assert caught.value.reason == "usage"
    return caught.value


def test_an_alias_sees_its_own_rules():
    assert line("fsread", filename="/usr/lib") == ("permit", 1)
    assert line("fswrite", filename="/usr/lib") == ("deny", 0)
    assert line("fsread", filename="/usr/secret") == ("permit", 1)


def test_a_call_sees_its_own_rules_first_then_those_of_its_classic_name_and_its_alias():
    assert line("openat", filename="/usr/secret", oflags="ro") == ("deny", 3)
    assert line("openat:read", filename="/usr/lib") == ("permit", 1)
    assert line("newfstatat:follow", filename="/etc/passwd") == ("ask", 4)
    assert line("statx:nofollow", filename="/etc/passwd") == ("deny", 0)
    assert line("stat", filename="/usr/x") == ("permit", 1)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [("ro", 1), ("roa", 1), ("RO", 1), ("rw", 0), ("wo", 0), ("roc", 0), ("rot", 0), ("rwct", 0)],
)
def test_the_flags_of_an_open_tell_whether_it_reads_or_writes(flags, rule):
    assert line("open", filename="/usr/x", oflags=flags)[1] == rule


def test_the_other_names_of_calls_are_understood():
    assert line("native-fsread", filename="/usr") == ("permit", 1)
    assert line("sigaction") == ("permit", 5)
    assert line("rt_sigaction") == ("permit", 5)
    assert line("clone:fork") == ("permit", 6)
    assert line("mkfifo", filename="/fifo") == ("deny", 8)
    assert line("mkfifo", filename="/tmp/x") == ("permit", 2)
    assert line("__stat30", filename="/usr/x") == ("permit", 1)


def test_the_verdict_carries_error_log_and_rule():
    found = answer("mkfifo", filename="/fifo")
    assert (found.action, found.errno, found.log) == ("deny", 5, False)
    found = answer("fswrite", filename="/tmp/x")
    assert (found.action, found.errno, found.log) == ("permit", 0, True)
    found = answer("read")
    assert (found.action, found.errno, found.rule) == ("deny", 1, None)


def test_predicates_and_macros_are_about_the_subject():
    assert line("connect", sockaddr="inet-[1.2.3.4]:80") == ("permit", 9)
    other = Subject(0, 0, "/root", "root", "/")
    assert answer("connect", sockaddr="inet-[1.2.3.4]:80", subject=other).rule is None
    assert line("fsread", filename="/home/alice/x") == ("permit", 10)
    assert answer("fsread", filename="/home/alice/x", subject=other).rule is None


def test_a_second_argument_of_the_name_counts():
    assert line("rename", filename=["/a/x", "/b/x"]) == ("permit", 7)
    assert line("renameat2", filename=["/a/x", "/c/x"]) == ("deny", 0)


def test_what_was_not_said_and_matters_gives_no_answer():
    error = refusal("fsread")
    assert '"filename"' in error.message
    assert error.hint == 'add "filename=..."'
    assert '"filename[1]"' in refusal("rename", filename="/a/x").message
    assert refusal("connect").hint == 'add "sockaddr=..."'


def test_what_was_not_said_and_does_not_matter_is_not_missed():
    assert line("rename", filename="/z") == ("deny", 0)
    assert line("connect", subject=Subject(0, 0, "/", "root", "/")) == ("deny", 0)
    assert line("open", filename="/usr/secret", oflags="rw") == ("deny", 3)
    rules = ('native-open: oflags eq "ro" or true then permit', "native-openat: permit")
    assert answer("open:read", *rules).action == "permit"
    assert answer("openat", *rules).action == "permit"


def test_an_argument_that_the_call_does_not_have_makes_a_condition_false():
    rules = ('native-fsread: not sockaddr eq "x" then permit',)
    assert answer("fsread", *rules, filename="/x").action == "permit"
    rules = ('native-stat: sockaddr eq "x" then permit', 'native-fsread: oflags eq "ro" then deny')
    assert answer("stat", *rules, filename="/x").rule is None


def test_several_uses_with_one_answer_need_no_choice_and_others_do():
    assert line("openat", filename="/etc/x") == ("deny", 0)
    error = refusal("openat", filename="/usr/x")
    assert "read, write" in error.message
    assert "openat:read" in error.hint
    assert "oflags=" in error.hint
    error = refusal("clone")
    assert "fork, vfork, thread, other" in error.message
    assert "oflags" not in error.hint


def test_names_and_arguments_that_do_not_exist_are_refused():
    assert refusal("opennat").hint == 'did you mean "openat"?'
    assert "does not have" in refusal("issetugid").message
    assert "follow" in refusal("newfstatat:read").hint
    assert "only calls of Linux" in refusal("fsread:read").message
    assert "did you mean" in refusal("fsread", filname="/x").hint
    assert refusal("fsread", filename="/x", sockaddr="y").hint == "it has: filename"
    assert "filename[1]" in refusal("stat", filename=["/a", "/b"]).message
    with pytest.raises(PolicyError, match="no alias"):
        answer("fsread", "bsdos-read: permit", emulation="bsdos", filename="/x")


def test_an_ask_ends_the_rules_of_its_name_and_not_those_of_the_alias():
    rules = (
        'native-stat: filename match "/etc" then ask', 'native-stat: mode eq "1" then permit',
        'native-fsread: filename eq "/etc/x" then permit',
    )
    assert answer("stat", *rules, filename="/etc/x").rule.line == 4
    assert answer("stat", *rules, filename="/etc/y").action == "ask"


def test_a_name_means_the_calls_that_it_governs():
    one = policy("native-read: permit")
    assert calls_of(one, "openat") == ("openat",)
    assert calls_of(one, "native-sigaction") == ("rt_sigaction",)
    assert "openat" in calls_of(one, "fsread")
    with pytest.raises(PolicyError):
        calls_of(one, "frobnicate")


EXPRESSIONS = st.recursive(
    st.sampled_from(
        ["true", 'filename eq "/a"', 'filename match "/a"', 'oflags eq "ro"', 'sockaddr sub "a"']
    ),
    lambda inner: st.builds("( {} {} {} )".format, inner, st.sampled_from(["and", "or"]), inner)
    | st.builds("( not {} )".format, inner),
    max_leaves=4,
)
RULE_LINES = st.builds(
    "native-{}: {} then {}".format, st.sampled_from(["open", "openat", "fsread", "fswrite"]),
    EXPRESSIONS, st.sampled_from(["permit", "deny", "ask", "deny[eio] log"]),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(RULE_LINES, max_size=5), st.sampled_from([None, "/a", "/a/b", "/c"]),
    st.sampled_from([None, "ro", "rw"]),
)
def test_an_answer_is_the_evaluators_and_does_not_depend_on_what_was_not_said(lines, name, flags):
    one = policy(*lines)
    values = {
        key: [text] for key, text in (("filename", name), ("oflags", flags)) if text is not None
    }
    for use in variants("openat"):
        try:
            found = ask(one, f"openat:{use.label}", values, ALICE)
        except PolicyError as error:
            assert "depends on" in error.message
            assert len(values) < 2
            continue
        rules = effective_rules(one, "openat", use.label)
        for other in ({}, {"filename": ["/a"]}, {"filename": ["/zz"]}):
            for more in ({}, {"oflags": ["ro"]}, {"oflags": ["wo"]}):
                verdict = evaluate(rules, {**other, **more, **values}, ALICE)
                if {**other, **more, **values}.keys() != {"filename", "oflags"}:
                    continue
                assert found.action == ("deny" if verdict is None else verdict.action)
                assert found.rule is (None if verdict is None else verdict.rule)


def test_conditions_on_registers_are_answered():
    rules = (
        'native-kill: signame eq "SIGHUP" and not pidname eq "/sbin/init" then permit',
        'native-seteuid: uid eq "70" then permit',
        'native-setresuid: uid[1] eq "0" then deny[eacces]',
        'native-socket: sockdom eq "AF_INET" and socktype eq "SOCK_RAW" then deny',
        'native-getpid: fd eq "3" then permit',
    )
    assert answer("kill", *rules, signame="SIGHUP", pidname="/bin/sh").action == "permit"
    assert answer("kill", *rules, signame="SIGKILL").action == "deny"
    assert "pidname" in refusal("kill", *rules, signame="SIGHUP").message
    assert answer("seteuid", *rules, uid="70").action == "permit"
    assert answer("setresuid:effective", *rules, uid=["70", "70", "-1"]).action == "permit"
    assert answer("setresuid:other", *rules, uid=["5", "0", "0"]).errno == 13
    assert answer("socket", *rules, sockdom="AF_INET6").action == "deny"
    assert answer("getpid", *rules).rule is None, "it has no descriptor"
    assert "it has: none" in refusal("getpid", *rules, fd="3").hint
