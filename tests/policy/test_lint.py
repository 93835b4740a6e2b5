"""Warnings: each where it bites, none elsewhere."""

import pytest

from certexec.policy.lint import CODES, lint, policy_file_name
from certexec.policy.syntax import decode_policy, parse_policy
from certexec.policy.template import permit_all, starting_policy
from tests.policy.common import USERS, shared

HEADER = "Policy: /bin/x, Emulation: native\n"


def findings(*lines: str, header: str = HEADER):
    text = header + "".join(line + "\n" for line in lines)
    found = lint(parse_policy(text, name="f", users=USERS, privileged=True))
    assert {one.code for one in found} <= set(CODES)
    return found


def codes(*lines: str, header: str = HEADER) -> list[tuple[int, str]]:
    return [(one.line, one.code) for one in findings(*lines, header=header)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("filename eq \"/a\" and true or true then permit", "grouping"),
        ("filename eq \"/a\" or true and true then permit", "grouping"),
        ("not filename eq \"/a\" or true then permit", "grouping"),
        ("( true and true or true ) and true then permit", "grouping"),
        ('filename inpath "/usr/lib" then permit', "inpath"),
        ('filename eq "/tmp/*" then permit', "wildcard"),
        ('filename neq "/tmp/?" then permit', "wildcard"),
        ('filename match "inet-[::1]:5" then permit', "bracket"),
        ('filename match "/a\\.b" then permit', "backslash"),
        ('filename eq "etc/passwd" then permit', "relative"),
        ('filename match "<non-existent filename>: x" then permit', "relative"),
        ('sockaddr eq "x" then permit', "no-argument"),
        ('oflags eq "ro" then permit', "no-argument"),
        ('filename[1] eq "/x" then permit', "no-argument"),
        ("true then deny[eftype]", "errno"),
        ("true then permit[inherit]", "flag"),
        ("true then ask", "unsupported"),
    ],
)
def test_each_surprise_of_a_rule_is_found(body, code):
    assert (2, code) in codes("native-fsread: " + body)


@pytest.mark.parametrize(
    "body",
    [
        'filename eq "/a" and filename neq "/b" and true then permit',
        '( filename eq "/a" and true ) or true then permit',
        '( not filename eq "/a" ) or true then permit',
        "not ( true and true ) then permit",
        'filename match "/tmp/*" then permit',
        'filename match "/a\\\\[b\\"\\n" then permit',
        'filename match "$HOME/x" then permit',
        'filename match "" then permit',
        'filename eq "/<non-existent filename>: x" then deny[enoent]',
        'filename re "etc" then permit',
        'filename sub "etc" then permit',
        "true then deny[enoent]",
    ],
)
def test_sound_rules_pass(body):
    assert codes("native-fsread: " + body) == []


def test_the_grouping_shows_the_tree():
    [one] = findings('native-fsread: filename eq "/a" and true or true then permit')
    assert "(and [filename:-1 /a] (or [-:-1 ] [-:-1 ]))" in one.message


def test_brackets_of_an_address_are_found_and_escaped_ones_are_not():
    assert codes('native-connect: sockaddr match "inet-[::1]:53" then permit') == [(2, "bracket")]
    assert codes('native-connect: sockaddr match "inet-\\\\[::1\\\\]:53" then permit') == []
    assert codes('native-connect: sockaddr match "inet-\\[::1\\]:53" then permit') == [
        (2, "backslash"), (2, "bracket")
    ]
    assert codes('native-connect: sockaddr eq "inet-[::1]:53" then permit') == []


def test_names_that_mean_nothing_here_are_inactive():
    found = findings("native-opennat: permit", "native-issetugid: permit")
    assert [(one.line, one.code) for one in found] == [(2, "inactive"), (3, "inactive")]
    assert found[0].hint == 'did you mean "openat"?'
    assert "does not have" in found[1].message
    assert found[1].hint == ""
    header = "Policy: /bin/x, Emulation: bsdos\n"
    assert (2, "inactive") in codes("bsdos-fsread: permit", header=header)


def test_emulations_of_other_systems_are_told():
    header = "Policy: /bin/x, Emulation: {}\n"
    assert codes("linux64-read: permit", header=header.format("linux64")) == []
    [one] = findings("netbsd-read: permit", header=header.format("netbsd"))
    assert (one.line, one.code) == (1, "emulation")
    assert "1 of 1 rules" in one.message
    [one] = findings("martian-read: permit", header=header.format("martian"))
    assert "no system" in one.message


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (['native-stat: filename eq "/a" then deny', "native-stat: permit"], 2),
        (["native-read: permit", "native-read: deny"], 2),
        (["native-fsread: permit", 'native-fsread: filename eq "/a" then deny'], 3),
        (['native-fsread: filename match "/usr" then permit',
          'native-fsread: filename match "/usr/lib" then deny'], 3),
        (['native-fsread: filename match "/us*" then permit',
          'native-fsread: filename match "/usr/lib" then deny'], 3),
        (['native-fsread: sockaddr eq "x" then permit',
          'native-fsread: sockaddr eq "x" then deny'], 3),
        (["native-stat: permit, if user = 0", "native-stat: deny, if user = 0"], 3),
        (["native-pread64: permit", "native-pread: deny"], 2),
    ],
)
def test_rules_that_never_decide_are_found(lines, line):
    assert (line, "shadowed") in codes(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ['native-fsread: filename match "/usr/lib" then deny',
         'native-fsread: filename match "/usr" then permit'],
        ['native-fsread: filename match "/usr" then deny',
         'native-fsread: filename match "/usrx" then permit'],
        ['native-fsread: filename eq "/usr" then deny',
         'native-fsread: filename match "/usr" then permit'],
        ['native-fsread: filename match "$HOME" then deny',
         'native-fsread: filename match "$HOME/x" then permit'],
        ["native-stat: permit, if user = 0", "native-stat: deny, if user = 1"],
        ["native-pread64: permit", "native-pread: permit"],
        ["native-stat: permit", "native-lstat: deny"],
    ],
)
def test_rules_that_can_decide_are_left_alone(lines):
    assert "shadowed" not in {code for _, code in codes(*lines)}


def test_calls_that_will_be_denied_until_they_can_be_judged_are_told():
    [one] = findings('native-pivot_root: filename eq "/a" then permit')
    assert one.code == "pending"
    assert "pivot_root" in one.message
    assert codes("native-pivot_root: true then permit") == []


def test_colliding_policy_files_are_found():
    header = HEADER + "Policy: /usr/sbin/a_b, Emulation: native\n"
    text = header + "Policy: /usr/sbin/a/b, Emulation: native\n"
    found = lint(parse_policy(text, name="f", users=USERS, privileged=True))
    assert [(one.line, one.code) for one in found] == [(3, "collision")]
    assert policy_file_name("/usr/sbin/named") == "usr_sbin_named"
    assert policy_file_name("/opt/sbcl-1.0.5/bin/sbcl") == "opt_sbcl_1_0_5_bin_sbcl"


def test_a_file_without_a_policy_is_told():
    found = lint(parse_policy("# nothing\n", name="f", users=USERS, privileged=True))
    assert [(one.line, one.code) for one in found] == [(1, "empty")]


def test_detached_is_unsupported():
    assert (1, "unsupported") in codes("detached")


def test_the_policies_that_certexec_writes_have_no_warnings():
    for text in (starting_policy("/opt/x/y"), permit_all("/bin/true")):
        assert lint(parse_policy(text, name="f", users=USERS, privileged=False)) == []


def test_real_policies_can_be_linted():
    for path in shared("systrace-policies").iterdir():
        if path.name.startswith(("PROVENANCE", "manpage")):
            continue
        text = decode_policy(path.read_bytes())
        found = lint(parse_policy(text, name=path.name, users=USERS, privileged=True))
        assert {one.code for one in found} <= set(CODES)
