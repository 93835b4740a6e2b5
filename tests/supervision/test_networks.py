"""Networks and ports in rules, with real sockets."""

from __future__ import annotations

from tests.supervision.conftest import Cage


def test_only_addresses_of_the_network_and_ports_of_the_range_are_reached(cage: Cage) -> None:
    rules = [
        'connect: sockaddr in "inet-[127.0.0.0/30]:1024-65535" '
        'and not sockaddr in "inet-[127.0.0.2]:*" then permit',
        'bind: sockaddr re "^" then permit',
    ]
    code = """
with socket.create_server(("0.0.0.0", 0)) as server:
    port = server.getsockname()[1]
    for family, host in ((2, "127.0.0.1"), (2, "127.0.0.2"), (2, "127.0.0.3"), (2, "127.0.0.4"),
                         (10, "::ffff:127.0.0.1"), (10, "::ffff:127.0.0.4"), (10, "::1")):
        with socket.socket(family) as one:
            one.settimeout(5)
            print(why(one.connect, (host, port)))
    with socket.socket() as one:
        print(why(one.connect, ("127.0.0.1", 1023)))
"""
    said = cage.beyond().says(code, rules=rules).split()
    assert said == ["ok", "EPERM", "ok", "EPERM", "ok", "EPERM", "EPERM", "EPERM"]
