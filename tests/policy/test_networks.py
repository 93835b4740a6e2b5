"""The operator "in": networks and ports, exactly, and only in files that say so."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.policy import networks
from certexec.policy.evaluate import prepare
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE, PolicyFile, Subject
from certexec.policy.syntax import parse_policy
from certexec.run.emulate_sockets import sockaddr_text
from tests.policy.common import USERS

NOBODY = Subject(1, 1, "/", "nobody", "/")


def extended(*rules: str) -> PolicyFile:
    lines = [f"Language: {LANGUAGE}", "Policy: /bin/x, Emulation: native", *rules, ""]
    return parse_policy("\n".join(lines), name="test", users=USERS, privileged=True)


def holds(condition: str, address: str) -> bool:
    rule = extended(f"native-connect: {condition} then permit").policies[0].rules[0]
    return prepare(rule.expression)({"sockaddr": [address.encode()]}, NOBODY)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("inet-[10.0.0.0/8]:*", "inet-[10.255.0.1]:1", "inet-[11.0.0.1]:1"),
        ("inet-[10.0.0.0/8]:80-443", "inet-[10.0.0.1]:80", "inet-[10.0.0.1]:79"),
        ("inet-[10.0.0.0/8]:80-443", "inet-[10.0.0.1]:443", "inet-[10.0.0.1]:444"),
        ("inet-[10.1.2.3]:53", "inet-[10.1.2.3]:53", "inet-[10.1.2.4]:53"),
        ("inet-[0.0.0.0/0]:*", "inet-[255.255.255.255]:65535", "inet-[::1]:1"),
        ("inet-[::/0]:*", "inet-[2001:db8::1]:1", "inet-[10.0.0.1]:1"),
        ("inet-[2001:db8::/33]:*", "inet-[2001:db8:7fff::1]:1", "inet-[2001:db8:8000::1]:1"),
        ("inet-[::ffff:10.0.0.0/104]:*", "inet-[10.9.9.9]:1", "inet-[11.0.0.1]:1"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", "/run/socket"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", "inet-[127.0.0.1]:65536"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", "inet-[127.0.0.1]:-1"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", "/run/inet-[127.0.0.1]:1"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", "family(16)"),
        ("inet-[127.0.0.0/8]:*", "inet-[127.0.0.1]:0", ""),
    ],
)
def test_an_address_is_in_the_network_or_not(network, inside, outside):
    assert holds(f'sockaddr in "{network}"', inside)
    assert not holds(f'sockaddr in "{network}"', outside)
    assert not holds(f'not sockaddr in "{network}"', inside)
    assert holds(f'not sockaddr in "{network}"', outside)


def test_it_joins_with_other_conditions():
    condition = 'sockaddr in "inet-[10.0.0.0/8]:*" and not sockaddr in "inet-[10.1.0.0/16]:*"'
    assert holds(condition, "inet-[10.2.0.1]:1")
    assert not holds(condition, "inet-[10.1.0.1]:1")


def test_a_mapped_address_is_judged_as_the_ipv4_address_that_packets_go_to():
    mapped = bytes([10, 0]) + (80).to_bytes(2, "big") + bytes(4)
    mapped += bytes(10) + b"\xff\xff" + bytes([10, 1, 2, 3]) + bytes(4)
    text = sockaddr_text(mapped)
    assert holds('sockaddr in "inet-[10.0.0.0/8]:80"', text)
    assert not holds('sockaddr in "inet-[::/0]:80"', text)


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128),
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535),
)
def test_it_agrees_with_the_standard_library(address, bits, other, first, last, port):
    bits = min(bits, address.max_prefixlen)
    network = ipaddress.ip_network((address, bits), strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and bits >= 96:
        network = ipaddress.ip_network((mapped, bits - 96), strict=False)
    first, last = sorted((first, last))
    for one in (other, network.network_address, network.broadcast_address):
        expected = one in network and first <= port <= last
        test = networks.make_test(f"inet-[{address}/{bits}]:{first}-{last}".encode())
        assert test(f"inet-[{one}]:{port}".encode()) is expected


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.0/8", "inet-10.0.0.0/8:80", "inet-[10.0.0.0/33]:80", "inet-[10.0.0/8]:80",
     "inet-[10.0.0.0/]:80", "inet-[10.0.0.0/-1]:80", "inet-[10.0.0.0/8]:", "inet-[10.0.0.0/8]",
     "inet-[10.0.0.0/8]:443-80", "inet-[10.0.0.0/8]:65536", "inet-[10.0.0.0/8]:8*",
     "inet-[host/8]:80", "inet-[::/129]:80", "inet-[fe80::1%eth0]:80", "inet-[10.0.0.0/8/8]:1",
     "inet-[10.0.0.0/8]:1-2-3", "inet-[10.0.0.0/٨]:1", "inet-[10.0.0.0/8]:*\\n"],
)  # fmt: skip
def test_what_is_no_network_is_a_syntax_error(text):
    with pytest.raises(PolicySyntaxError) as caught:
        extended(f'native-connect: sockaddr in "{text}" then permit')
    assert caught.value.column == len("native-connect: sockaddr in ") + 1


def test_only_addresses_lie_in_networks():
    with pytest.raises(PolicySyntaxError, match='"in" is about addresses'):
        extended('native-open: filename in "inet-[10.0.0.0/8]:*" then permit')


@pytest.mark.parametrize(
    ("text", "hint"),
    [("inet-[10.0.0.1/8]:80", 'write "inet-[10.0.0.0/8]:80"'),
     ("inet-[::ffff:10.0.0.0/104]:*", 'write "inet-[10.0.0.0/8]:*"'),
     ("inet-[2001:db8::1/32]:1-2", 'write "inet-[2001:db8::/32]:1-2"')],
)  # fmt: skip
def test_lint_tells_of_bits_behind_the_prefix_and_of_mapped_networks(text, hint):
    found = lint(extended(f'native-connect: sockaddr in "{text}" then permit'))
    assert [(one.code, one.hint) for one in found] == [("address", hint)]


def test_lint_is_silent_about_good_ones():
    rule = 'native-connect: sockaddr in "inet-[10.0.0.0/8]:*" then permit'
    assert lint(extended(rule)) == []


def test_without_the_language_line_it_is_the_syntax_error_that_it_was():
    text = 'Policy: /bin/x, Emulation: native\nnative-connect: sockaddr in "x" then permit\n'
    with pytest.raises(PolicySyntaxError, match='found "in" where an operator') as caught:
        parse_policy(text, name="test", users=USERS, privileged=True)
    assert "Language: certexec 1" in caught.value.hint
