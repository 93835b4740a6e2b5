"""Two policies as one: it permits what either permits, never more, and says where it does less."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.cli.presets import load_presets
from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import variants
from certexec.policy.cases import Cases
from certexec.policy.difference import compare, say
from certexec.policy.evaluate import effective_rules
from certexec.policy.lexer import split_comment
from certexec.policy.merge import merge
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS
from tests.policy.test_difference import EXTENDED, HEADER, RULE

COMMENTED = st.builds("{}{}".format, RULE, st.sampled_from(["", " # why", "", ""]))
LINES = st.lists(COMMENTED | st.sampled_from(["# a comment", ""]), max_size=5)


def text(lines, header=EXTENDED) -> str:
    return header + "".join(f"\t{line}\n" for line in lines)


def merged(one, two, header=EXTENDED):
    return merge(
        (text(one, header), text(two, header)), names=("one", "two"), users=USERS,
        presets=load_presets(),
    )


def read(given_text: str):
    return parse_policy(given_text, name="x", users=USERS, privileged=True).policies[0]


def comments(*texts: str) -> set[str]:
    found = {split_comment(line)[1].strip() for each in texts for line in each.splitlines()}
    return found - {""}


@settings(deadline=None, max_examples=60)
@given(LINES, LINES)
def test_it_permits_what_either_permits_and_keeps_comments(one, two):
    made = merged(one, two)
    first, second, both = (read(each) for each in (text(one), text(two), made.text))
    less = "\n".join(made.narrower)
    for call in ("openat", "stat", "connect", "execve", "mmap", "read", "mkdir", "creat"):
        assert call in NUMBERS
        for variant in variants(call):
            rules = [effective_rules(each, call, variant.label) for each in (first, second, both)]
            for case in Cases([rule for each in rules for rule in each], call, variant):
                one_said, two_said, said = (say(each, call, case).rank for each in rules)
                assert said <= max(one_said, two_said)
                if f": {call} permits less" not in less and f": {call}:" not in less:
                    assert said == max(one_said, two_said), (call, case.values)
    assert comments(text(one), text(two)) <= comments(made.text)
    assert reformat(made.text, name="x", users=USERS) == made.text


@settings(deadline=None, max_examples=25)
@given(LINES)
def test_a_policy_merged_with_itself_or_with_nothing_stays_what_it_is(lines):
    for other in (lines, []):
        made = merged(lines, other)
        assert not made.narrower
        assert not any(one.changes for one in compare(read(text(lines)), read(made.text)))


def test_lists_are_put_together():
    made = merged(
        ['native-fsread: filename match "/etc" then permit # ours', "native-read: permit"],
        ["# theirs", 'native-fsread: filename match "/usr" then permit', "native-write: permit"],
        HEADER,
    )
    assert made.text == HEADER + (
        '\tnative-fsread: filename match "/etc" then permit # ours\n# theirs\n'
        '\tnative-fsread: filename match "/usr" then permit\n\tnative-read: permit\n'
        "\tnative-write: permit\n"
    )
    assert (made.conflicts, made.narrower) == ([], [])


def test_what_one_denied_stays_denied_in_its_own_permits():
    one = ['native-fsread: filename match "/etc/ssl" then deny[enoent]',
           'native-fsread: filename match "/etc" then permit']  # fmt: skip
    made = merged(one, ['native-fsread: filename eq "/usr/x" then permit'], HEADER)
    [permit] = [line for line in made.text.splitlines() if '"/etc"' in line]
    assert permit.strip() == (
        'native-fsread: filename match "/etc" and not filename match "/etc/ssl" then permit'
    )
    assert not made.conflicts
    made = merged(one, ['native-fsread: filename eq "/etc/ssl/x" then permit'], HEADER)
    [conflict] = made.conflicts
    assert "one(3) says deny[enoent], two(3) says permit: permit counts" in conflict.replace(
        "one(2)", "one(3)").replace("two(2)", "two(3)")  # fmt: skip


def test_a_bare_permit_wins_and_a_bare_denial_is_for_the_rest():
    made = merged(["native-connect: permit"], ['native-connect: sockaddr eq "/x" then deny'])
    assert "\tnative-connect: permit\n" in made.text and len(made.conflicts) == 1
    made = merged(["native-connect: deny[econnrefused]"],
                  ['native-connect: sockaddr eq "/x" then permit'])  # fmt: skip
    assert made.text.endswith(
        '\tnative-connect: sockaddr eq "/x" then permit\n'
        "\tnative-connect: true then deny[econnrefused]\n"
    )


def test_where_it_permits_less_it_says_so():
    made = merged(["native-open: deny"], ['native-fsread: filename match "/etc" then permit'])
    told = "\n".join(made.narrower)
    assert "openat:read permits less: permit became deny" in told


def test_what_restricts_one_holds_for_both():
    made = merged(["no-dotdot", "native-read: permit"], ["native-write: permit"])
    assert "\tno-dotdot\n" in made.text and '"no-dotdot" of one holds for both' in made.narrower[0]
    after = 'after native-fsread: filename eq "/x" then only read'
    made = merged([after, "native-read: permit"], [after, "native-write: permit"])
    assert made.text.count("after") == 1 and not made.narrower
    made = merged(["exec-in /usr/bin", "native-execve: permit"],
                  ['native-execve: filename eq "/opt/x" then permit'])  # fmt: skip
    both = read(made.text)
    assert both.exec_in is None
    assert not made.narrower
    made = merged(["landlock", "adopt /a"], ["adopt /a, /b"])
    assert "landlock" not in made.text and "\tadopt /a, /b\n" in made.text


def test_programs_of_one_file_alone_are_kept():
    two = HEADER.replace("/bin/x", "/bin/y") + "\tnative-read: permit # y\n"
    made = merge((HEADER + "\tnative-write: permit\n", two), names=("one", "two"), users=USERS,
                 presets={})  # fmt: skip
    assert made.text == HEADER + (
        "\tnative-write: permit\n\nPolicy: /bin/y, Emulation: native\n"
        "\tnative-read: permit # y\n"
    )


def test_includes_are_written_out():
    made = merged(["include base 1"], ["native-mount: permit"])
    assert "include" not in made.text.replace("# include base 1", "")
    assert "\tnative-arch_prctl: permit\n" in made.text and "\tnative-mount: permit\n" in made.text


def test_detached_policies():
    made = merge((HEADER + "detached\n", HEADER + "\tnative-read: permit\n"), names=("a", "b"),
                 users=USERS, presets={})  # fmt: skip
    assert made.text.endswith("detached\n") and read(made.text).detached
    assert made.narrower


def test_policies_for_different_systems_are_not_merged():
    with pytest.raises(PolicyError) as caught:
        merge((HEADER, HEADER.replace("native", "netbsd")), names=("a", "b"), users=USERS,
              presets={})  # fmt: skip
    assert caught.value.reason == "usage"


def test_a_result_that_would_permit_more_is_not_given_away(monkeypatch):
    monkeypatch.setattr("certexec.policy.merge._without", lambda item, earlier, actions: item)
    with pytest.raises(PolicyError) as caught:
        merged(['native-fsread: filename match "/etc/ssl" then deny',
                'native-fsread: filename match "/etc" then permit'],
               ['native-fsread: filename eq "/usr/x" then permit'])  # fmt: skip
    assert caught.value.reason == "internal" and "would permit more" in caught.value.message
