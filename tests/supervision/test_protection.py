"""A confined program cannot end, stop, slow down, trace or read its supervisor."""

from __future__ import annotations

import pytest

from tests.execution.world import SUPERVISED
from tests.supervision.conftest import PYTHON, Cage

GRANTS = [(), ("--setuid", "root"), ("--setuid", "service")]

BY_NUMBER = """
s = supervisor()
one, zeros = struct.pack("i", 0), b"\\0" * 128
print(
    [why(os.kill, s, number) for number in (0, 9, 10, 15, 19)],
    why(os.kill, -s, 9), why(os.kill, -1, 0),
    why(call, 234, s, s, 9), why(call, 200, s, 9),  # tgkill, tkill
    why(call, 129, s, 9, zeros), why(call, 297, s, s, 9, zeros),  # rt_(tg)sigqueueinfo
    why(call, 101, 16, s, 0, 0), why(call, 101, 0x4206, s, 0, 0),  # ptrace
    why(call, 310, s, 0, 0, 0, 0, 0), why(call, 311, s, 0, 0, 0, 0, 0),  # process_vm_*
    why(call, 302, s, 7, struct.pack("QQ", 3, 3), 0),  # prlimit64
    why(call, 144, s, 0, one), why(call, 142, s, one), why(call, 203, s, 8, zeros),  # sched_*
    why(call, 314, s, zeros, 0),
    why(call, 141, 0, s, 19), why(call, 141, 1, s, 19), why(call, 141, 2, 0, 19),  # setpriority
    why(call, 251, 1, s, 0x6000), why(call, 251, 3, 0, 0x6000),  # ioprio_set
    why(call, 434, s, 0), why(call, 312, s, os.getpid(), 0, 0, 0),  # pidfd_open, kcmp
)
"""

BY_PIDFD = """
# who accepts a connection gets a pidfd of the peer, and that is who connected in our place
name = b"\\0%d" % os.getpid()
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind(name)
    server.listen()
    client.connect(name)
    accepted, _ = server.accept()
    fd = why(accepted.getsockopt, socket.SOL_SOCKET, 77)  # SO_PEERPIDFD
if isinstance(fd, str):
    print("none")
    sys.exit()
print(
    [why(call, 424, fd, number, 0, 0) for number in (0, 9, 19)], why(call, 424, fd, 9, 0, 1),
    why(call, 438, fd, 0, 0), why(call, 440, fd, 0, 0, 0, 0),  # pidfd_getfd, process_madvise
)
"""

BY_OWNERSHIP = """
s = supervisor()
reader, writer = socket.socketpair()
for number in range(1, 65):
    set_signal = why(fcntl.fcntl, reader, 10, number)  # F_SETSIG
    assert (set_signal == "EPERM") == (number in (9, 19)), (number, set_signal)
    for owner in (struct.pack("ii", 0, s), struct.pack("ii", 1, s)):  # F_OWNER_TID, F_OWNER_PID
        why(fcntl.fcntl, reader, 15, owner)
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        writer.send(b"x")
        reader.recv(1)
    why(fcntl.fcntl, reader, 8, s)
    writer.send(b"x")
    reader.recv(1)
time.sleep(0.05)
print(why(os.stat, "/nowhere"))
"""


@pytest.mark.parametrize("options", GRANTS)
def test_no_call_that_names_a_process_reaches_the_supervisor(
    cage: Cage, options: tuple[str, ...]
) -> None:
    said = cage.says(BY_NUMBER, options=options)
    assert set(said.replace("[", "").replace("]", "").replace(",", "").replace("'", "").split()) \
        == {"EPERM"}  # fmt: skip


@pytest.mark.parametrize("options", GRANTS)
def test_no_pidfd_reaches_the_supervisor(cage: Cage, options: tuple[str, ...]) -> None:
    said = cage.says(BY_PIDFD, options=options)
    if said == "none":
        pytest.skip("Linux 6.5 gives pidfds of peers")
    assert set(said.replace("[", "").replace("]", "").replace(",", "").replace("'", "").split()) \
        == {"EPERM"}  # fmt: skip


@pytest.mark.parametrize("options", GRANTS)
def test_no_signal_of_asynchronous_input_ends_the_supervisor(
    cage: Cage, options: tuple[str, ...]
) -> None:
    assert cage.says(BY_OWNERSHIP, options=options) == "ENOENT"


SIGNALS_TO = """
victim = int(sys.argv[1])
one, other = socket.socketpair()
ways = (lambda who: fcntl.fcntl(one, 8, who),                            # F_SETOWN
        lambda who: fcntl.fcntl(one, 15, struct.pack("ii", 1, who)),     # F_SETOWN_EX
        lambda who: fcntl.ioctl(one, 0x8901, struct.pack("i", who)),     # FIOSETOWN
        lambda who: fcntl.ioctl(one, 0x8902, struct.pack("i", who)))     # SIOCSPGRP
def told(who):
    said = [why(way, who) for way in ways]
    return [one if isinstance(one, str) else "ok" for one in said]
print(why(os.kill, victim, 0), *told(victim), why(fcntl.fcntl, one, fcntl.F_SETOWN, os.getpid()))
os.set_blocking(one.fileno(), False)
signal.signal(signal.SIGIO, lambda *_: print("told", flush=True))
print(why(fcntl.fcntl, one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK))
other.send(b"x")
"""
KILLS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")


def test_nobody_outside_is_signalled_by_what_comes_where_kill_is_not_permitted(cage: Cage) -> None:
    """Without certexec, and where kill is permitted, a descriptor's owner can be anybody."""
    waits = "import signal; print('here', flush=True); signal.pause()"
    others = cage.world.start(PYTHON, "-I", "-S", "-c", waits)
    try:
        assert others.stdout is not None
        assert others.stdout.readline() == "here\n"  # it is root's before
        who = str(others.pid)
        assert cage.bare(SIGNALS_TO, who).split() == ["ok"] * 5 + ["0", "0", "told"]
        assert cage.says(SIGNALS_TO, who).split() == ["ok"] * 5 + ["0", "0", "told"]
        for rules, own in ((SUPERVISED, "0"), ((), "EPERM")):
            said = cage.says(SIGNALS_TO, who, rules=rules, without=KILLS).split()
            assert said == ["EPERM"] * 5 + [own, "EPERM"], rules
        some = (*SUPERVISED, 'kill: signame eq "SIGUSR1" then permit')
        said = cage.says(SIGNALS_TO, who, rules=some, without=KILLS[1:]).split()
        assert said == ["EPERM"] * 5 + ["0", "0", "told"]
        assert others.poll() is None
    finally:
        others.kill()
        others.wait()


def test_names_and_numbers_that_look_like_more_than_one_field_stay_one(cage: Cage) -> None:
    """What the program chooses must not look like another line, nor like the next field."""
    cage.world.logged()
    rules = ('fsread: filename sub "forged" then deny[eacces]', *SUPERVISED)
    code = """
for name in ("forged\\ndeny user: root", "forged, pid: 1(0)[0], policy: /x", "forged\\x1b[2J\\r"):
    print(why(os.open, "/" + name, 0))
"""
    options = ("--log", "full")
    assert cage.says(code, rules=rules, options=options).split() == ["EACCES"] * 3
    lines = [line for line in cage.world.logged() if "forged" in line]
    assert len(lines) == 3
    for line in lines:
        assert line.isprintable()
        fields = [field.partition(": ")[0] for field in line.split(", ")]
        assert fields[1:] == ["prog", "pid", "policy", "filters", "syscall", "filename", "oflags"]
