"""What permitted calls would do that other rules forbid: refused where no rule can tell."""

import errno

import pytest

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.compile import table_for
from certexec.policy.foreign_table import ForeignTable
from certexec.policy.guards import DENY, NOTIFY, PERMIT, PROTECTION
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from tests.policy.common import USERS

PASS, EPERM, LOOKED_AT = (PERMIT, ""), (DENY, ""), (NOTIFY, PROTECTION)
CALLS = ("fcntl: permit", "ioctl: permit", "setsockopt: permit", "getsockopt: permit")
NAMES = 'fsread: filename match "/usr" then permit'
F_SETFL, F_SETOWN, F_SETSIG, F_SETOWN_EX = 4, 8, 10, 15
O_ASYNC, O_NONBLOCK = 0x2000, 0x800


def table(*rules: str, emulation: str = "native"):
    lines = [f"Policy: /bin/x, Emulation: {emulation}"]
    lines += [f"\t{emulation}-{rule}" for rule in rules]
    file = parse_policy("\n".join(lines) + "\n", name="test", users=USERS, privileged=True)
    return table_for(file.policies[0], TreeOptions(full_log=False, privileged=False, capable=False))


def decide(found, name: str, *args: int) -> tuple[str, str]:
    decision = found.decide(NUMBERS[name], (*args, *[0] * 6)[:6])
    assert decision.kind != DENY or decision.errno == errno.EPERM
    return decision.kind, decision.why


def test_nobody_else_is_named_for_signals_where_kill_is_not_permitted():
    for kill in ((), ("kill: deny[eperm]",), ('kill: signame eq "SIGTERM" then permit',)):
        found = table(*CALLS, *kill)
        for command in (F_SETOWN, F_SETOWN | 1 << 32, F_SETOWN_EX):
            assert decide(found, "fcntl", 0, command, 1) == EPERM
        for request in (0x8901, 0x8902, 0x8901 | 1 << 32):
            assert decide(found, "ioctl", 0, request) == EPERM
        assert decide(found, "fcntl", 0, F_SETSIG, 9) == decide(found, "fcntl", 0, F_SETFL) == PASS
        assert decide(found, "ioctl", 0, 0x8903) == PASS


def test_a_supervisor_can_tell_that_who_is_named_is_the_caller():
    found = table(*CALLS, NAMES)
    assert decide(found, "fcntl", 0, F_SETOWN, 1) == LOOKED_AT
    assert decide(found, "fcntl", 0, F_SETOWN_EX, 1) == decide(found, "ioctl", 0, 0x8901) == EPERM


def test_nobody_is_told_of_what_comes_where_no_kill_is_permitted():
    """On a terminal the kernel itself would name others."""
    for more in ((), (NAMES,)):
        found = table(*CALLS, *more)
        assert decide(found, "fcntl", 0, F_SETFL, O_ASYNC | O_NONBLOCK) == EPERM
        assert decide(found, "ioctl", 0, 0x5452) == EPERM
        assert decide(found, "fcntl", 0, F_SETFL, O_NONBLOCK) == PASS
        assert decide(found, "fcntl", 0, 3, O_ASYNC) == decide(found, "ioctl", 0, 0x5421) == PASS
    found = table(*CALLS, 'kill: signame eq "SIGTERM" then permit')
    assert decide(found, "fcntl", 0, F_SETFL, O_ASYNC) == decide(found, "ioctl", 0, 0x5452) == PASS


def test_where_kill_is_permitted_so_is_what_comes_to_it():
    for more in ((), (NAMES,)):
        found = table(*CALLS, "kill: permit", *more)
        for command in (F_SETOWN, F_SETOWN_EX):
            assert decide(found, "fcntl", 0, command, 1) == PASS
        assert decide(found, "fcntl", 0, F_SETFL, O_ASYNC) == PASS
        for request in (0x8901, 0x8902, 0x5452):
            assert decide(found, "ioctl", 0, request) == PASS


def test_a_rule_that_asks_for_the_command_knows_what_it_permits():
    found = table(*CALLS[1:], 'fcntl: cmd eq "F_SETOWN" then permit')
    assert decide(found, "fcntl", 0, F_SETOWN, 1) == PASS
    assert decide(found, "fcntl", 0, F_SETOWN_EX, 1) == EPERM  # no rule permits it
    found = table(
        NAMES, 'fcntl: cmd eq "F_SETOWN" then permit', 'fcntl: cmd eq "F_SETFL" then permit'
    )
    assert decide(found, "fcntl", 0, F_SETFL, O_ASYNC) == PASS
    assert decide(found, "fcntl", 0, F_SETOWN, 1) == LOOKED_AT  # it does not know whom
    found = table('fcntl: cmd eq "F_SETLK" then deny[eacces]', "fcntl: true then permit")
    assert decide(found, "fcntl", 0, F_SETOWN, 1) == EPERM


def test_what_is_denied_anyway_stays_as_the_rules_say():
    found = table("fcntl: deny[enosys]", "ioctl: deny[enosys]", "setsockopt: deny[enosys]")
    for call in (("fcntl", 0, F_SETOWN), ("ioctl", 0, 0x8901), ("setsockopt", 0, 41, 57, 0, 1)):
        assert found.decide(NUMBERS[call[0]], (*call[1:], *[0] * 6)[:6]).errno == errno.ENOSYS


ROUTES = [(0, 4), (41, 57), (41, 6), (132, 100), (132, 107), (132, 110)]


@pytest.mark.parametrize("connect", [(), ('connect: sockaddr match "inet-*" then permit',)])
def test_no_option_routes_packets_by_way_of_others_or_connects(connect):
    found = table(*CALLS, *connect)
    for level, option in ROUTES:
        assert decide(found, "setsockopt", 3, level, option, 0, 24) == EPERM
        assert decide(found, "setsockopt", 3, level | 1 << 32, option, 0, 24) == EPERM
        assert decide(found, "setsockopt", 3, level, option, 0, 0) == PASS  # cleared
        assert decide(found, "setsockopt", 3, level, option + 1, 0, 24) == PASS
    assert decide(found, "getsockopt", 3, 132, 111) == EPERM
    assert decide(found, "getsockopt", 3, 0, 4) == decide(found, "getsockopt", 3, 41, 57) == PASS


def test_where_every_address_is_permitted_so_is_the_way_to_it():
    for more in ((), (NAMES,)):
        found = table(*CALLS, "connect: permit", *more)
        for level, option in ROUTES:
            assert decide(found, "setsockopt", 3, level, option, 0, 24) == PASS
        assert decide(found, "getsockopt", 3, 132, 111) == PASS


def test_the_32_bit_calls_are_closed_but_what_lies_in_an_array_is_left():
    own = table(*CALLS, "socketcall: permit", emulation="linux")
    found = ForeignTable(own)
    assert not found.needs_listener
    assert decide(own, "setsockopt", 3, 41, 57, 0, 24) == PASS
    for number, *args in ((55, 0, F_SETOWN, 1), (221, 0, F_SETOWN_EX, 1), (54, 0, 0x8901)):
        assert found.decide(number, (*args, *[0] * 6)[:6]).kind == DENY
