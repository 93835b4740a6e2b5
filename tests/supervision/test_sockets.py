"""Connections go where the policy lets them, by whatever name or number the address is given."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.execution.world import ALICE, SUPERVISED
from tests.isolation import skip_or_fail
from tests.supervision.conftest import Cage
from tests.supervision.test_asking import ALICES, people

__all__ = ["people"]


@pytest.fixture
def denied(place: Path) -> Path:
    """A listening socket that no rule speaks of, in a directory beside the permitted one."""
    for name in ("permitted", "private"):
        (place / name).mkdir()
        os.chown(place / name, ALICE, ALICE)
    path = place / "private" / "socket"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(64)
    os.chown(path, ALICE, ALICE)
    return path


def rules(place: Path) -> tuple[str, ...]:
    return (
        *(rule for rule in SUPERVISED if rule.startswith("fs")),
        f'connect: sockaddr match "{place}/permitted/*" then permit',
        f'bind: sockaddr match "{place}/permitted/*" then permit',
    )


def test_dots_links_and_directories_do_not_lead_to_another_socket(
    cage: Cage, place: Path, denied: Path
) -> None:
    code = f"""
os.chdir({str(place)!r})
os.symlink("../private/socket", "permitted/link")
os.symlink("../private", "permitted/way")
def tried(name):
    with socket.socket(socket.AF_UNIX) as client:
        return why(client.connect, name)
print(tried({str(denied)!r}), tried("{place}/permitted/../private/socket"),
      tried("{place}/permitted/link"), tried("{place}/permitted/way/socket"),
      tried("private/socket"), tried("{place}//private/socket"))
os.chdir("permitted")
print(tried("../private/socket"), tried("link"))
def made(name):
    with socket.socket(socket.AF_UNIX) as server:
        return why(server.bind, name)
print(made("{place}/permitted/../private/a"), made("{place}/permitted/way/b"), made("way/c"),
      made("../private/d"))
print(made("{place}/permitted/mine"), made("mine2"), sorted(os.listdir("../private")))
"""
    said = cage.says(code, rules=rules(place))
    assert said.split("\n")[:3] == [" ".join(["EPERM"] * 6), "EPERM EPERM", " ".join(["EPERM"] * 4)]
    assert said.split("\n")[3] == "ok ok ['socket']"


def test_a_socket_in_the_permitted_directory_is_reached_by_every_name(
    cage: Cage, place: Path, denied: Path
) -> None:
    code = f"""
os.chdir({str(place)!r})
with socket.socket(socket.AF_UNIX) as server:
    server.bind("permitted/mine")
    server.listen()
    print(server.getsockname())
    os.symlink("mine", "permitted/link")
    for name in ("{place}/permitted/mine", "permitted/mine", "{place}/permitted/link",
                 "permitted/../permitted/link", "{place}//permitted/mine"):
        with socket.socket(socket.AF_UNIX) as client:
            print(why(client.connect, name), end=" ")
"""
    said = cage.says(code, rules=rules(place)).split("\n")
    assert said[1].split() == ["ok"] * 5


def test_roots_own_links_stand_for_what_they_lead_to(cage: Cage, place: Path) -> None:
    """Policies say "/dev/log", which is a link on most machines."""
    real = cage.world.directory("roots-place")
    os.symlink("socket", real / "log")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(real / "socket"))
        server.listen()
        os.chmod(real / "socket", 0o666)
        code = f"""
with socket.socket(socket.AF_UNIX) as client:
    print(why(client.connect, "{real}/log"))
with socket.socket(socket.AF_UNIX) as client:
    print(why(client.connect, "{real}/socket"))
"""
        permit = (
            *(rule for rule in SUPERVISED if rule.startswith("fs")),
            f'connect: sockaddr eq "{real}/log" then permit',
        )
        assert cage.says(code, rules=permit).split() == ["ok", "EPERM"]


def test_an_ipv4_address_in_an_ipv6_one_is_that_ipv4_address(cage: Cage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        deny = (
            *(rule for rule in SUPERVISED if rule.startswith("fs")),
            'connect: sockaddr sub "[127.0.0.1]:" then deny[eacces]',
            'connect: sockaddr re "^" then permit',
        )
        code = f"""
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
    with socket.socket(family) as client:
        print(why(client.connect, (host, {port})))
"""
        assert cage.says(code, rules=deny).split() == ["EACCES", "EACCES"]
        assert cage.bare(code).split() == ["ok", "ok"]


def test_a_bind_never_goes_through_the_supervisors_own_descriptors(
    cage: Cage, place: Path
) -> None:
    code = f"""
held = os.open({str(place)!r}, os.O_RDONLY)
for number in (held, 5, 77):
    os.dup2(held, number)
    with socket.socket(socket.AF_UNIX) as server:
        print(why(server.bind, f"/proc/self/fd/{{number}}/s{{number}}"))
"""
    assert cage.says(code).split() == ["ok"] * 3
    assert {f"s{number}" for number in (5, 77)} < set(os.listdir(place))


def test_an_address_that_is_too_long_is_refused_like_the_kernel_does(
    cage: Cage, place: Path
) -> None:
    code = f"""
os.chdir({str(place)!r})
server = socket.socket(socket.AF_UNIX)
why(os.unlink, "s")
server.bind("s")
server.listen()
path = b"./" * 52 + b"s"  # 105 bytes
for filler, length in ((b"", 2 + len(path)), (b"", 110), (b"", 111), (b"", 128), (b"", 129)):
    with socket.socket(socket.AF_UNIX) as client:
        address = struct.pack("H", 1) + path + b"\\0" * 64
        print(why(call, 42, client.fileno(), address, length))
"""
    assert cage.says(code).split() == cage.bare(code).split() == [
        "0", "0", "EINVAL", "EINVAL", "EINVAL",
    ]  # fmt: skip


@pytest.mark.usefixtures("people")
def test_a_socket_keeps_its_name_only_where_nobody_in_the_tree_could_make_it_lead_elsewhere(
    cage: Cage, place: Path
) -> None:
    home = os.path.dirname(ALICES)
    code = f"""
os.makedirs("{home}/own/below", exist_ok=True)
os.makedirs("{home}/shared/below", exist_ok=True)
os.chmod("{home}/shared", 0o777)
def bound(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        there = os.path.exists(name)
        os.unlink(name)
        return there, server.getsockname()
for name in ("socket", "own/socket", "own/below/socket", "shared/below/socket"):
    print(*bound("{home}/" + name))
"""
    given = [f"True {home}/{name}socket" for name in ("", "own/", "own/below/", "shared/below/")]
    lost = "True socket"
    assert cage.bare(code).splitlines() == given
    assert cage.says(code).splitlines() == [given[0], lost, lost, lost]
    # whoever exchanges directories of the tree's own waits for the supervisor, but not other users
    names = ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat")
    each = [f'{name}: filename re "^" and filename[1] re "^" then permit' for name in names]
    assert cage.says(code, rules=(*SUPERVISED, *each)).splitlines() == [*given[:3], lost]
    for number in range(len(names)):
        rules = (*SUPERVISED, *each[:number], *each[number + 1 :])
        assert cage.says(code, rules=rules).splitlines()[1] == lost
    # root in the tree can exchange every directory
    assert cage.says(code, uid=0, rules=(*SUPERVISED, *each)).splitlines() == [lost] * 4


ROUTED = """
header = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
print(why(one.setsockopt, 41, 57, header), why(one.setsockopt, 41, 57, b""))  # IPV6_RTHDR
options = bytes([1] * 4)  # that do nothing
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(why(two.setsockopt, 0, 4, options), why(two.setsockopt, 0, 4, b""))  # IP_OPTIONS
"""


def test_no_packet_goes_by_way_of_an_address_that_was_not_judged(cage: Cage) -> None:
    """Bare, a socket that is connected to one address can be made to send to another."""
    if not socket.has_ipv6:
        skip_or_fail("there is no IPv6 here")
    judged = tuple(f'{name}: sockaddr re "^" then permit' for name in ("connect", "bind"))
    assert cage.bare(ROUTED).split() == ["ok"] * 4
    assert cage.says(ROUTED, rules=()).split() == ["ok"] * 4
    assert cage.says(ROUTED, rules=judged).split() == ["EPERM", "ok"] * 2
    assert cage.says(ROUTED, rules=(), without=("connect",)).split() == ["EPERM", "ok"] * 2
