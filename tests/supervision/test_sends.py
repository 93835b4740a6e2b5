"""Sends whose address is judged: what they give and do is what the bare kernel gives and does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import ALICE, SERVICE, World
from tests.isolation import PROJECT
from tests.supervision.conftest import SENDS, Cage
from tests.supervision.same import WHO, compare
from tests.supervision.test_elevation import install, says

HERE = Path(__file__).parent
PARTS = ["datagrams", "local datagrams", "streams", "netlink", "pointers", "control", "many",
         "waits"]  # fmt: skip
EVERYTHING = (
    *(f'{name}: sockaddr re "^" then permit' for name in SENDS),
    "send: permit, if user != 12345",
)


@pytest.fixture(scope="module")
def program(world_of_session: World) -> str:
    flags = ["-pthread", f"-I{PROJECT}/tests/execution"]
    return world_of_session.compile("send_calls", (HERE / "send_calls.c").read_text(), *flags)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("part", PARTS)
def test_they_give_and_do_the_same_with_and_without_supervision(
    cage: Cage, program: str, part: str, who: str
) -> None:
    compare(cage, EVERYTHING, program, part, who)


HELPERS = """
def sends(fd, address, data=b"x", flags=0):
    "By sendto, sendmsg, and sendmmsg, each of which must say the same."
    raw = address or b""
    name = ctypes.create_string_buffer(raw, len(raw) or 1)
    text = ctypes.create_string_buffer(data, len(data) or 1)
    piece = struct.pack("QQ", ctypes.addressof(text), len(data))
    vector = ctypes.create_string_buffer(piece, 16)
    where = ctypes.addressof(name) if address is not None else 0
    header = ctypes.create_string_buffer(
        struct.pack("QIIQQQQII", where, len(raw), 0, ctypes.addressof(vector), 1, 0, 0, 0, 0) + bytes(8))
    said = [why(call, 44, fd, text, len(data), flags, where, len(raw)),
            why(call, 46, fd, header, flags), why(call, 307, fd, header, 1, flags)]
    if said[2] == 1:
        said[2] = struct.unpack_from("I", header, 56)[0]
    return said[0] if len(set(said)) == 1 else said
def inet(host, port, family=2):
    return struct.pack("=H", family) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8)
def inet6(host, port, family=10):
    return (struct.pack("=H", family) + struct.pack(">HI", port, 0)
            + socket.inet_pton(socket.AF_INET6, host) + bytes(4))
def local(path):
    return struct.pack("=H", 1) + os.fsencode(path) + b"\\0"
"""  # noqa: E501


def sending(condition: str) -> tuple[str, ...]:
    """Return rules that permit the three calls under one condition."""
    return tuple(f"{name}: {condition} then permit" for name in SENDS)


def test_an_address_is_judged_by_where_the_kernel_would_send(cage: Cage) -> None:
    """AF_UNSPEC is the socket's own family to udp_sendmsg, ::ffff:a.b.c.d is a.b.c.d."""
    code = HELPERS + """
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for good in (9, 10):
    print(*(sends(fd.fileno(), address, b"") for fd, address in (
        (four, inet("127.0.0.1", good)), (four, inet("127.0.0.1", good, family=0)),
        (six, inet6("::ffff:127.0.0.1", good)), (six, inet("127.0.0.1", good)),
        (six, inet6("::1", good)), (four, inet6("::1", good)))))
"""
    allowed = sending('sockaddr eq "inet-[127.0.0.1]:9" or sockaddr eq "inet-[::1]:9"')
    said = cage.says(code, rules=allowed).splitlines()
    assert said == ["0 0 0 0 0 EAFNOSUPPORT", " ".join(["EPERM"] * 6)]
    denied = (
        *(f'{name}: sockaddr sub "]:10" then deny[eacces]' for name in SENDS),
        *sending('sockaddr re "^"'),
    )
    assert cage.says(code, rules=denied).splitlines() == [
        "0 0 0 0 0 EAFNOSUPPORT", " ".join(["EACCES"] * 6),
    ]  # fmt: skip


def test_a_bind_to_no_family_is_judged_as_the_one_that_it_is(cage: Cage) -> None:
    code = HELPERS + """
for family in (2, 0):
    for port in (0, 7):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            print(why(call, 49, one.fileno(), inet("0.0.0.0", port, family), 16), end=" ")
"""
    assert cage.bare(code).split() == ["0", "EACCES", "0", "EACCES"]
    rules = ('bind: sockaddr eq "inet-[0.0.0.0]:0" then permit',)
    assert cage.says(code, rules=rules).split() == ["0", "EPERM", "0", "EPERM"]
    rules = ('bind: sockaddr eq "family(0)" then permit',)
    assert cage.says(code, rules=rules).split() == ["EPERM"] * 4


@pytest.fixture
def mailbox(place: Path) -> Iterator[socket.socket]:
    """A datagram socket of Alice's beside a place where one may send to."""
    for name in ("permitted", "private"):
        (place / name).mkdir()
        os.chown(place / name, ALICE, ALICE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        box.bind(str(place / "private" / "box"))
        os.chmod(place / "private" / "box", 0o777)
        box.setblocking(False)
        yield box


def test_a_path_is_judged_by_the_socket_that_it_leads_to(
    cage: Cage, place: Path, mailbox: socket.socket
) -> None:
    code = HELPERS + f"""
os.chdir({str(place)!r})
os.symlink("../private/box", "permitted/link")
os.symlink("../private", "permitted/way")
mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
mine.bind("permitted/mine")
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
for name in ("permitted/mine", "{place}/permitted/mine", "permitted/../permitted/mine",
             "private/box", "permitted/link", "{place}/permitted/link", "permitted/way/box",
             "{place}/permitted/../private/box", "permitted/none", "private/none"):
    print(sends(one, local(name)))
"""
    said = cage.says(code, rules=sending(f'sockaddr match "{place}/permitted/*"')).split()
    assert said == ["1"] * 3 + ["EPERM"] * 5 + ["ENOENT", "EPERM"]
    with pytest.raises(BlockingIOError):
        mailbox.recv(9)


def test_what_has_no_address_is_decided_by_rules_for_send_and_for_the_unknown(cage: Cage) -> None:
    code = HELPERS + """
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
print(sends(one.fileno(), None), sends(one.fileno(), b""))
print(why(one.sendmsg, [b"x"]), why(one.send, b"x"), why(os.write, one.fileno(), b"x"))
"""
    rules = sending('sockaddr eq "nothing"')
    assert cage.says(code, rules=rules).split() == ["EPERM"] * 4 + ["1"]
    rules = sending('sockaddr eq "<unknown>"')
    assert cage.says(code, rules=rules).splitlines() == ["['EPERM', 1, 1] 1", "1 EPERM 1"]
    rules = (*rules, "send: permit")
    assert cage.says(code, rules=rules).splitlines() == ["1 1", "1 1 1"]
    for predicate, sent in ((f"user = {ALICE}", "1"), (f"user != {ALICE}", "EPERM")):
        rules = (*sending('sockaddr eq "<unknown>"'), f"send: permit, if {predicate}")
        assert cage.says(code, rules=rules).splitlines()[1] == f"1 {sent} 1"


def test_of_several_messages_either_all_are_permitted_or_none_is_sent(cage: Cage) -> None:
    code = HELPERS + """
boxes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for box, port in zip(boxes, map(int, sys.argv[1:])):
    box.bind(("127.0.0.1", port))
    box.setblocking(False)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
text = ctypes.create_string_buffer(b"x", 1)
vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(text), 1), 16)
names = [ctypes.create_string_buffer(inet("127.0.0.1", int(port)), 16) for port in sys.argv[1:]]
def attempt(*which):
    headers = b"".join(
        struct.pack("QIIQQQQII", ctypes.addressof(names[k]), 16, 0, ctypes.addressof(vector), 1,
                    0, 0, 0, 0) + bytes(8) for k in which)
    said = why(call, 307, one.fileno(), ctypes.create_string_buffer(headers, len(headers)),
               len(which), 0)
    got = ""
    for number, box in enumerate(boxes):
        while why(box.recv, 9) == b"x":
            got += str(number)
    print(said, got or "-")
for which in ((0, 0, 0), (0, 0, 1), (1, 0), (0, 1, 0)):
    attempt(*which)
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
        for box in (one, two):
            box.bind(("127.0.0.1", 0))
        ports = [str(box.getsockname()[1]) for box in (one, two)]
    rules = sending(f'sockaddr eq "inet-[127.0.0.1]:{ports[0]}"')
    said = cage.says(code, *ports, rules=rules).splitlines()
    assert said == ["3 000", "EPERM -", "EPERM -", "EPERM -"]
    assert cage.bare(code, *ports).splitlines() == ["3 000", "3 001", "2 01", "3 001"]


CREDENTIALS = """
import array
on, ucred = 1, struct.Struct("3i")
def tells(kind, *control):
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        said = why(one.sendmsg, [b"x"], control)
        if said != 1:
            return said
        for _, what, data in other.recvmsg(9, 999)[1]:
            if what == socket.SCM_CREDENTIALS:
                pid, uid, gid = ucred.unpack(data)
                return pid, uid, gid
def claim(pid, uid, gid):
    return socket.SOL_SOCKET, socket.SCM_CREDENTIALS, ucred.pack(pid, uid, gid)
fds = socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0])
"""


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET"])
def test_who_receives_a_message_is_told_of_the_program(cage: Cage, kind: str) -> None:
    """The kernel would tell of the supervisor, whose real uid is root's where there is a grant."""
    code = CREDENTIALS + f"""
kind = socket.{kind}
me = os.getpid(), os.getuid(), os.getgid()
print(tells(kind)[1:])
print(tells(kind, claim(*me))[1:])
print(tells(kind, claim(*me), fds)[1:], tells(kind, fds)[1:])
print(tells(kind, claim(me[0], os.geteuid(), me[2]))[1:])
"""
    own = f"({ALICE}, {ALICE})"
    for options, effective in (((), own), (("--setuid", "service"), f"({SERVICE}, {ALICE})")):
        said = cage.says(code, rules=EVERYTHING, options=options).splitlines()
        assert said == [own, own, f"{own} {own}", effective]


@pytest.mark.parametrize("options", [(), ("--setuid", "service")])
def test_nobody_claims_to_be_somebody_else(cage: Cage, options: tuple[str, ...]) -> None:
    code = CREDENTIALS + """
me = os.getpid(), os.getuid(), os.getgid()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    print(tells(kind, claim(me[0], 0, me[2])), tells(kind, claim(me[0], me[1], 0)),
          tells(kind, claim(1, *me[1:])), tells(kind, claim(supervisor(), *me[1:])),
          tells(kind, claim(0, *me[1:])), tells(kind, claim(me[0], -1, -1)))
"""
    rules = (*EVERYTHING, 'connect: sockaddr re "^" then permit')
    said = cage.says(code, rules=rules, options=options).splitlines()
    assert said == ["EPERM EPERM EPERM EPERM EPERM EINVAL"] * 2


def test_netlink_is_told_of_the_program_too(cage: Cage) -> None:
    code = HELPERS + """
box = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
box.bind((0, 0))
box.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
print(sends(one.fileno(), struct.pack("=HHII", 16, 0, box.getsockname()[0], 0), bytes(20)))
for _ in range(3):
    print(struct.unpack("3i", box.recvmsg(99, 999)[1][0][2])[1:])
"""
    for options in ((), ("--setuid", "service")):
        said = cage.says(code, rules=EVERYTHING, options=options).splitlines()
        assert said == ["20", *[f"({ALICE}, {ALICE})"] * 3]


def test_descriptors_go_both_ways(cage: Cage) -> None:
    code = """
one, other = socket.socketpair()
child = os.fork()
for name, mine, theirs in (("a", one, other), ("b", other, one)):
    if (name == "a") == (child == 0):
        fd = os.memfd_create(name)
        os.write(fd, name.encode() * 3)
        print(socket.send_fds(mine, [b"take"], [fd, fd]) and name, flush=True)
    else:
        data, fds, *_ = socket.recv_fds(theirs, 9, 9)
        print(data, len(fds), {os.pread(fd, 9, 0) for fd in fds}, flush=True)
if child:
    os.waitpid(child, 0)
"""
    for options in ((), ("--setuid", "service")):
        said = cage.says(code, rules=EVERYTHING, options=options).splitlines()
        assert sorted(said) == sorted(["a", "b", "b'take' 2 {b'aaa'}", "b'take' 2 {b'bbb'}"])


def test_no_descriptor_of_the_supervisors_is_passed_on(cage: Cage) -> None:
    """Its numbers are not the program's: those that the program does not have are nobody's."""
    code = """
import array
one, other = socket.socketpair()
own = {int(name) for name in os.listdir("/proc/self/fd")}
print({why(socket.send_fds, one, [b"x"], [fd]) for fd in range(200) if fd not in own})
"""
    for options in ((), ("--setuid", "service")):
        assert cage.says(code, rules=EVERYTHING, options=options) == "{'EBADF'}"


def test_a_page_that_the_kernel_goes_on_reading_stays_what_it_was(cage: Cage) -> None:
    """MSG_ZEROCOPY: the bytes are sent later, from whatever pages the kernel was given."""
    code = HELPERS + """
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
client.setsockopt(socket.SOL_SOCKET, 60, 1)
sent = 0
for turn in range(20):
    text = bytes([turn]) * 9000
    sent += client.sendmsg([text], [], 0x4000000)
client.shutdown(socket.SHUT_WR)
got = b""
while piece := peer.recv(1 << 20):
    got += piece
print(len(got) == sent == 180000, all(got[turn * 9000:][:9000] == bytes([turn]) * 9000
                                       for turn in range(20)))
notes = 0
while isinstance(why(client.recvmsg, 9, 999, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT), tuple):
    notes += 1
print(notes > 0)
"""
    assert cage.says(code, rules=EVERYTHING, uid=0).split() == ["True", "True", "True"]


def test_a_send_as_somebody_else_reaches_what_they_may_reach(cage: Cage, place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        box.bind(str(closed / "box"))
        box.setblocking(False)
        code = HELPERS + f"""
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
print(sends(one.fileno(), local("{closed}/box")), why(one.send, b"x"), other.recv(9))
third = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
print(sends(third.fileno(), local("{closed}/box")))
"""
        for rights, said in ((" as root", "1"), ("", "EACCES")):
            rules = (
                *(f'{name}: sockaddr re "^" then permit{rights}' for name in SENDS),
                f"send: true then permit{rights}",
                'connect: sockaddr eq "nowhere" then permit as root',
            )
            assert says(cage, install(cage, rules), code).splitlines() == [f"{said} 1 b'x'", said]
        assert [box.recv(9) for _ in range(6)] == [b"x"] * 6


def test_no_exchange_sends_to_a_socket_that_was_not_judged(
    cage: Cage, place: Path, mailbox: socket.socket
) -> None:
    code = HELPERS + f"""
os.chdir({str(place)!r})
mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
mine.bind("permitted/box")
mine.setblocking(False)
os.symlink("permitted", "way")
os.symlink("private", "other")
done = []
def exchange():
    while not done:
        libc.renameat2(-100, b"way", -100, b"other", 2)
_thread.start_new_thread(exchange, ())
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
address = local("way/box")
counts = dict.fromkeys((5, "EPERM", "ENOENT"), 0)
for _ in range(500):
    said = why(call, 44, one, b"hello", 5, 0, address, len(address))
    counts[said] = counts.get(said, 0) + 1
    why(mine.recv, 9)
done.append(1)
print(counts[5] > 0, counts["EPERM"] > 0, {{word for word in counts}} - {{5, "EPERM", "ENOENT"}})
"""
    for options in ((), ("--setuid", "root")):
        for name in ("permitted/box", "way", "other"):
            (place / name).unlink(missing_ok=True)
        said = cage.says(
            code, rules=sending(f'sockaddr match "{place}/permitted/*"'), options=options
        )
        assert said == "True True set()"
        with pytest.raises(BlockingIOError):
            mailbox.recv(9)


def test_a_broken_stream_ends_who_writes_to_it_and_nobody_else(cage: Cage) -> None:
    """SIGPIPE is the program's, as is its default action."""
    code = """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
one, other = socket.socketpair()
other.close()
child = os.fork()
if child == 0:
    one.sendmsg([b"x"])
    os._exit(1)
print(os.WTERMSIG(os.waitpid(child, 0)[1]), why(one.sendmsg, [b"x"], [], socket.MSG_NOSIGNAL))
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
print(why(one.sendmsg, [b"x"]))
"""
    for options in ((), ("--setuid", "service")):
        said = cage.says(code, rules=EVERYTHING, options=options).splitlines()
        assert said == ["13 EPIPE", "EPIPE"]
