"""What is parsed and not enforced refuses, and what is harmless does not."""

import pytest

from certexec.errors import PolicyError
from certexec.policy.syntax import parse_policy
from certexec.policy.unsupported import refuse_unsupported, unsupported_features, unsupported_in
from tests.policy.common import USERS, policy


def reasons(*lines: str, inherit: bool = False, emulation: str = "native") -> list[str]:
    parsed = policy(*lines, emulation=emulation)
    return [why for _, why in unsupported_in(parsed, inherit=inherit)]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("native-io_uring_setup: true then ask", "ask"),
        ("native-kill: true then permit as root", 'kill cannot be carried out "as"'),
        ('native-execve: filename eq "x" then permit as root', 'execve cannot be carried out'),
        ("native-execve: true then permit[detach]", "detach"),
        ("native-execve: true then permit[inherit]", "inherit"),
        ("native-read: permit-now", "one call only"),
        ("native-read: deny-now", "one call only"),
        ('native-fsread: true then permit "x', "never closed"),
    ],
)
def test_what_is_not_enforced_is_named(line, word):
    assert word in " ".join(reasons(line))


@pytest.mark.parametrize(
    "line",
    [
        "native-read: permit",
        "native-execve: true then deny log",
        'native-fsread: filename match "/usr" then permit',
        'native-open: filename eq "/a" and oflags eq "ro" then permit, if user = root',
        'native-connect: sockaddr match "inet-*:53" then permit',
        'native-rename: filename match "/tmp" and filename[1] match "/tmp" then permit',
        'native-sendto: sockaddr eq "x" then permit',
        'native-symlink: string eq "x" and filename eq "/y" then permit',
        "native-rename: permit, if user = root",
        "native-fswrite: permit, if user = root",
        'native-chown: uid eq "0" and gid neq "-1" then deny',
        "native-fsread: permit, if group != 0",
        "native-bind: true then permit as root",
        "native-execve: true then ask",
        'native-fswrite: filename match "/etc" then ask',
        "native-getpid: true then ask",
        "native-execve: true then deny as root",
        "native-issetugid: true then ask",
        'native-kqueue: filename eq "x" then permit as root',
        'native-chmod: mode eq "755" then permit',
        'native-kill: signame eq "SIGHUP" then permit',
        'native-kill: pidname match "/usr/bin/*" then permit',
        'native-socket: sockdom eq "AF_UNIX" then permit',
        'native-mmap: prot neq "PROT_EXEC" then permit',
        'native-seteuid: uid eq "0" and uname eq "root" then permit',
        "native-getpid: permit, if user = root",
        "native-pivot_root: permit, if user = root",
        'native-fcntl: not cmd eq "F_SETFL" then permit',
    ],
)
def test_what_is_enforced_inactive_or_denied_until_it_can_be_is_not(line):
    assert reasons(line) == []


def test_inherit_is_fine_where_the_certificate_says_so():
    assert reasons("native-execve: true then permit[inherit]", inherit=True) == []


def test_a_condition_that_a_bare_rule_overrules_is_not_missed():
    assert reasons('native-kill: signame eq "SIGHUP" then permit', "native-kill: deny") == []
    assert reasons("native-getpid: permit, if user = 0", "native-getpid: permit") == []


def test_detached_policies_are_refused_with_their_header():
    text = "Policy: /bin/x, Emulation: native\ndetached\n"
    parsed = parse_policy(text, name="f", users=USERS, privileged=True)
    [(where, why)] = unsupported_features(parsed)
    assert where is parsed.policies[0]
    assert "confines nothing" in why


def test_the_first_reason_refuses_with_its_line():
    parsed = policy("native-read: permit", "native-io_uring_enter: true then ask")
    with pytest.raises(PolicyError) as caught:
        refuse_unsupported(parsed, "x.policy")
    assert caught.value.reason == "policy-unsupported"
    assert caught.value.message.startswith("x.policy(3): ")
    refuse_unsupported(policy("native-read: permit"), "x.policy")
