"""The resident server serves as a server that the launcher starts: only sooner."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certexec.kernel.syscalls import NUMBERS
from certexec.run.proven import SETTLED
from certexec.run.warm import own_memory
from tests.execution.world import ALICE, BOB, SERVICE, refused
from tests.isolation import PROJECT
from tests.resident.conftest import (
    SLEEP,
    SOCKET,
    Service,
    children,
    holds_listener,
    status,
    wait_for,
)

pytestmark = pytest.mark.root
ASLEEP = (str(NUMBERS["nanosleep"]), str(NUMBERS["clock_nanosleep"]))
SAME = (
    "Umask", "Uid", "Gid", "Groups", "TracerPid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
    "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed", "SigBlk", "SigIgn",
    "SigCgt", "Threads",
)  # fmt: skip


def start(service: Service, certificate: str, **options: object):  # type: ignore[no-untyped-def]
    process = service.world.start(certificate, "60", **options)  # type: ignore[arg-type]
    wait_for(lambda: process.poll() is not None or executes(process.pid) == "sleep")
    assert process.poll() is None, process.communicate()
    wait_for(lambda: any(holds_listener(pid) for pid in service.servers()))
    wait_for(lambda: calls(process.pid) in ASLEEP)  # past its exec stop, and all judged calls
    return process


def serves_calls(pid: int) -> bool:
    """Whether a supervisor has done all that comes before the first call, and waits."""
    fields = status(pid)
    ignored, caught = (int(fields[name], 16) for name in ("SigIgn", "SigCgt"))
    hangup, child = (1 << number - 1 for number in (signal.SIGHUP, signal.SIGCHLD))
    return bool(ignored & hangup) and not caught & child and fields["State"].startswith("S")


def calls(pid: int) -> str:
    """Return the number of the system call that a process is in, or what it does else."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0]


def executes(pid: int) -> str:
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def stop(process) -> None:  # type: ignore[no-untyped-def]
    process.kill()
    process.communicate()


def portrait(pid: int) -> dict[str, object]:
    """What a supervisor lives under."""
    fields = status(pid)
    found: dict[str, object] = {name: fields.get(name) for name in SAME}
    for name in ("limits", "cgroup", "oom_score_adj", "loginuid", "timerslack_ns", "personality"):
        try:
            found[name] = Path(f"/proc/{pid}/{name}").read_text()
        except FileNotFoundError:
            found[name] = None
    for name in ("cwd", "root", "ns/mnt", "ns/user", "ns/pid", "ns/net", "ns/ipc", "ns/uts",
                 "ns/cgroup", "fd/0", "fd/1", "fd/2"):  # fmt: skip
        link = os.readlink(f"/proc/{pid}/{name}")
        found[name] = link
    found["session"] = os.getsid(pid) == pid
    found["nice"] = os.getpriority(os.PRIO_PROCESS, pid)
    found["scheduler"] = os.sched_getscheduler(pid)
    found["dumpable"] = os.stat(f"/proc/{pid}/mem").st_uid == 0
    return found


BEFORE = {
    "plain": "",
    "limited and nice": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (500, 900)); os.nice(5);"
        "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 24));"
        "resource.setrlimit(resource.RLIMIT_NPROC, (400, 400));"
        "os.getuid() or open('/proc/self/oom_score_adj', 'w').write('300'); os.umask(0o077)"
    ),
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("who", [ALICE, 0])
@pytest.mark.parametrize("grant", [False, True])
def test_a_supervisor_lives_as_the_one_that_the_launcher_starts(
    service: Service, before: str, who: int, grant: bool
) -> None:
    options = ("--setuid", "service") if grant else ()
    certificate = service.certificate("granted" if grant else "sleeper", *options)
    seen = []
    for resident in (False, True):
        server = service.start() if resident else 0
        idle = children(server) if resident else set()
        process = start(service, certificate, uid=who, before=BEFORE[before], groups=[BOB, SERVICE])
        supervisor = service.supervisor()
        assert (supervisor in idle) == resident
        wait_for(lambda pid=supervisor: serves_calls(pid))
        seen.append(portrait(supervisor))
        stop(process)
    assert seen[0].pop("cwd") and seen[1].pop("cwd")  # each its own view of /proc
    assert seen[0] == seen[1]


def test_programs_run_on_when_the_server_is_killed_and_the_next_serves(running: Service) -> None:
    certificate = running.certificate("sleeper")
    process = start(running, certificate)
    first = running.supervisor()
    running.end(signal.SIGKILL)
    assert status(first)["PPid"] != str(process.pid)
    # nobody listens there any more: the launcher starts a server
    done = running.world.run(certificate, "0")
    assert (done.returncode, done.stderr) == (0, "")
    server = running.start()
    second = start_two(running, certificate)
    assert process.poll() is None
    assert holds_listener(first)
    assert set(second[1]) <= children(server) | {first}
    stop(second[0])
    stop(process)
    wait_for(lambda: not holds_listener(first))


def start_two(service: Service, certificate: str):  # type: ignore[no-untyped-def]
    process = service.world.start(certificate, "60")
    wait_for(lambda: sum(holds_listener(pid) for pid in service.servers()) == 2)
    return process, [pid for pid in service.servers() if holds_listener(pid)]


def test_a_program_dies_with_its_supervisor_and_with_nobody_else(running: Service) -> None:
    certificate = running.certificate("sleeper")
    process = start(running, certificate)
    os.kill(running.supervisor(), signal.SIGKILL)
    # nothing runs on unsupervised: its next supervised call fails
    probe = running.certificate("prober", program="/usr/bin/python3")
    stop(process)
    done = running.world.run(probe, "-I", "-S", "-c", "print(open('/etc/hostname').read() != '')")
    assert done.stdout == "True\n"


def keeps_open(pid: int) -> set[str]:
    """Name the descriptors of a process, without that of the directory of them."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") != f"/{pid}/fd":  # on its own view of /proc
                found.add(name)
        except OSError:
            continue  # closed meanwhile
    return found


def test_one_process_serves_the_same_invoker_again_and_nobody_else(running: Service) -> None:
    certificate = running.certificate("sleeper")
    seen = []
    for who in (ALICE, ALICE, BOB, ALICE):
        process = start(running, certificate, uid=who)
        seen.append(running.supervisor())
        assert status(seen[-1])["Uid"].split() == [str(who)] * 4  # never root's any more
        stop(process)
        wait_for(lambda: keeps_open(seen[-1]) == set("01234"))
        wait_for(lambda: status(seen[-1])["State"].startswith("S"))
        time.sleep(0.1)  # until its word that it waits has been heard
    assert seen[0] == seen[1] == seen[3] != seen[2]


def test_who_has_served_a_grant_serves_nobody_else(running: Service) -> None:
    certificate = running.certificate("granted", "--setuid", "service")
    seen = []
    for _ in range(2):
        process = start(running, certificate, uid=ALICE)
        seen.append(running.supervisor())
        assert status(seen[-1])["Uid"].split()[0] == "0"
        assert status(process.pid)["Uid"].split() == [str(ALICE)] + [str(SERVICE)] * 3
        stop(process)
        wait_for(lambda: seen[-1] not in running.servers())
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    "before",
    [
        "assert __import__('ctypes').CDLL(None).prctl(38, 1, 0, 0, 0) == 0",
        "assert __import__('ctypes').CDLL(None).unshare(0x04000000) == 0",
        "assert __import__('ctypes').CDLL(None).unshare(0x00020000) == 0",
    ],
    ids=["no_new_privs", "uts namespace", "mount namespace"],
)
def test_who_lives_under_more_than_the_server_has_a_server_of_its_own(
    running: Service, before: str
) -> None:
    server = running.process.pid  # type: ignore[union-attr]
    process = start(running, running.certificate("sleeper"), before=before, uid=0)
    assert running.supervisor() not in children(server)
    stop(process)


def test_a_refusal_is_the_same_line_and_code(service: Service) -> None:
    certificate = service.certificate("bobs", "--allow-user", "bob")
    told = []
    for resident in (False, True):
        if resident:
            service.start()
        done = service.world.run(certificate, "0", uid=ALICE)
        refused(done, "acl-denied")
        told.append(done.stderr)
    assert told[0] == told[1]


def test_a_changed_trust_store_counts_at_once(running: Service) -> None:
    certificate = running.certificate("sleeper")
    world = running.world
    time.sleep(1.1)  # so that the store has settled and is remembered
    for _ in range(3):
        assert world.run(certificate, "0").returncode == 0
    world.verb("trust", "remove", "ops")
    try:
        refused(world.run(certificate, "0"), "untrusted-key")
    finally:
        world.verb("trust", "add", world.path("ops.pub"), "--may-grant", "root")
    assert world.run(certificate, "0").returncode == 0


def test_a_certificate_that_expired_meanwhile_is_refused(running: Service) -> None:
    certificate = running.certificate("brief", "--valid-for", "4s")
    codes = []
    deadline = time.monotonic() + 20
    while (code := running.world.run(certificate, "0").returncode) == 0:
        codes.append(code)
        assert time.monotonic() < deadline
    assert codes
    refused(running.world.run(certificate, "0"), "expired")


def test_a_changed_program_is_refused_by_who_has_seen_the_right_one(running: Service) -> None:
    program = running.world.copy(SLEEP, "changing")
    certificate = running.certificate("changing-cert", program=program)
    assert running.world.run(certificate, "0").returncode == 0
    with open(program, "ab") as file:
        file.write(b"\0")
    refused(running.world.run(certificate, "0"), "binary-mismatch")


def test_a_program_that_was_not_hashed_again_is_refused_once_it_changed(running: Service) -> None:
    """Where root alone can write it is known by inode and times from the second run on."""
    place = running.world.directory("proven")
    running.world.machine.run("mount", "--bind", str(place), "/mnt/free")
    running.world.copy(SLEEP, "proven/program")
    certificate = running.certificate("proven-cert", program="/mnt/free/program")
    time.sleep(SETTLED / 1e9)
    for _ in range(3):
        assert running.world.run(certificate, "0").returncode == 0
    program = place / "program"
    info = program.stat()
    with open(program, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    os.utime(program, ns=(info.st_atime_ns, info.st_mtime_ns))
    refused(running.world.run(certificate, "0"), "binary-mismatch")
    running.world.machine.run("umount", "/mnt/free")


@pytest.mark.parametrize("uid", [ALICE, 0])
def test_strangers_get_nothing(running: Service, uid: int) -> None:
    """Whoever is not the installed launcher finds the connection closed, whatever it says."""
    certificate = running.certificate("sleeper")
    code = f"""
import array, os, socket, struct, time
def say(data, fds=(), wait=True):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.connect({SOCKET!r})
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    if data: one.sendmsg([data], rights)
    one.settimeout(10)
    try: return one.recv(100) if wait else b""
    except ConnectionResetError: return b""
fd = os.open({certificate!r}, os.O_RDONLY)
uid = os.getuid()
hello = struct.pack("<4s9I", b"CXH1", 1, 0, 1, *[uid] * 6)
forged = struct.pack("<4s9I", b"CXH1", 1, 1, 1, uid, 0, 0, uid, uid, uid)
for data, fds in ((hello, [fd]), (forged, [fd]), (hello, []), (hello, [fd, fd]), (b"x", [fd]),
                  (hello[:-1], [fd]), (hello + b"x", [fd]), (b"x" * 100000, [fd] * 250), (b"", [])):
    assert say(data, fds) == b"", data[:10]
print("nothing")
"""
    assert running.world.python(code, uid=uid) == "nothing\n"
    assert running.world.run(certificate, "0").returncode == 0


def test_many_silent_connections_keep_nobody_out(running: Service) -> None:
    certificate = running.certificate("sleeper")
    code = f"""
import socket, sys, time
held = []
for _ in range(300):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.settimeout(5)
    one.connect({SOCKET!r})
    held.append(one)
print("held", flush=True)
sys.stdin.read()
"""
    crowd = subprocess.Popen(
        running.world.command(sys.executable, "-I", "-S", "-c", code, uid=BOB),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "held\n"
    server = running.process.pid  # type: ignore[union-attr]
    process = start(running, certificate)
    assert running.supervisor() in children(server)
    stop(process)
    crowd.communicate("")


def test_a_stopped_server_is_not_waited_for(running: Service) -> None:
    server = running.process.pid  # type: ignore[union-attr]
    pid = next(pid for pid in running.servers() if pid == server or children(pid))
    os.kill(pid, signal.SIGSTOP)
    try:
        done = running.world.run(running.certificate("sleeper"), "0")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (done.returncode, done.stderr) == (0, "")


def test_there_is_one_server(running: Service) -> None:
    other = Service(running.world)
    other.start()
    wait_for(other.ended)
    assert other.process is not None
    assert "running already" in other.process.communicate()[1]
    assert running.world.run(running.certificate("sleeper"), "0").returncode == 0


def test_where_it_listens_is_roots(running: Service) -> None:
    for path, mode in ((os.path.dirname(SOCKET), 0o40755), (SOCKET, 0o140666)):
        info = os.stat(running.world.machine.path(path))
        assert (info.st_uid, info.st_gid, info.st_mode) == (0, 0, mode)


def test_no_process_of_the_server_holds_the_programs_descriptors(running: Service) -> None:
    process = start(running, running.certificate("sleeper"))
    ours = {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2)}
    for pid in running.servers():
        assert not held_by(pid) & ours
    stop(process)


def held_by(pid: int) -> set[str]:
    """What a process has open; it may close some meanwhile."""
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return held


def test_one_process_serves_many_times_and_keeps_little(running: Service) -> None:
    certificate = running.certificate("sleeper")
    for _ in range(40):
        assert running.world.run(certificate, "0").returncode == 0
    process = start(running, certificate)
    with open(f"/proc/{running.supervisor()}/smaps_rollup") as file:
        own = sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private"))
    assert 0 < own < 12 << 20
    stop(process)


def test_own_memory_is_what_is_shared_with_nobody() -> None:
    """Of a process of its own: pages of this one become private when a child ends."""
    code = f"""
import os
from {own_memory.__module__} import own_memory
before = own_memory()
block = bytearray(os.urandom(8 << 20))
print(own_memory() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert 7 << 20 < int(done.stdout) < 12 << 20


LINGERING = f"""
import array, os, socket, struct, sys, time
listener = socket.create_server(("127.0.0.1", 0))
full = socket.create_connection(listener.getsockname())
full.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
full.setblocking(False)
try:
    while True: full.send(bytes(65536))
except BlockingIOError: pass
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.connect({SOCKET!r})
uid = os.getuid()
hello = struct.pack("<4s9I", b"CXH1", 1, 0, 1, *[uid] * 6)
full.setblocking(True)
one.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [full.fileno()]))])
full.close()
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_file_whose_closing_takes_long_holds_up_nobody(running: Service) -> None:
    """Whoever closes a socket last may have to wait for its other end, as its owner chose."""
    server = running.process.pid  # type: ignore[union-attr]
    crowd = subprocess.Popen(
        running.world.command(sys.executable, "-I", "-S", "-c", LINGERING, uid=BOB),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "sent\n"
    process = start(running, running.certificate("sleeper"))
    assert running.supervisor() in children(server)
    stop(process)
    crowd.communicate("")
