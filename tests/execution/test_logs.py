"""What a machine's log says of confined programs: everything, once, and at no program's cost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.execution.people import PYTHON
from tests.execution.world import ALICE, World, policy, wait_for
from tests.isolation import skip_or_fail

CALLS = 100_000
FLOOD_TIMEOUT = 300
"""seconds; a supervised call takes 0.1 to 0.2 ms, more on a busy machine."""
FLOODER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    long count = atol(argv[1]), permitted = 0;
    char name[64];
    for (long i = 0; i < count; i++)
        if (argc == 2) {
            permitted += syscall(SYS_getpriority, 0, 0, 0, 0, 0, 0) != -1 || errno != EPERM;
        } else {
            snprintf(name, sizeof name, "%s/%ld", argv[2], i);
            permitted += open(name, O_WRONLY) != -1 || errno != EACCES;
        }
    printf("%ld permitted\n", permitted);
    return 0;
}
"""
SUPERVISED = (
    'fswrite: filename sub "denied" then deny[eacces] log',
    'fswrite: filename re "^" then permit',
    'fsread: filename re "^" then permit',
)
ODD = b"/tmp/denied\nPRIORITY=0\r\x1b[31m'\"\\, user: root\xff"
TOUCH = "import os, sys; os.mkdir(bytes.fromhex(sys.argv[1]))"


@pytest.fixture(scope="module")
def flooder(world_of_session: World) -> str:
    return world_of_session.compile("flooder", FLOODER)


@pytest.fixture(scope="module")
def trust(world_of_session: World) -> str:
    """A trust store of Alice's own."""
    directory = world_of_session.directory("log-trust", 0o700, ALICE)
    shutil.copy(world_of_session.path("ops.pub"), directory)
    os.chown(directory / "ops.pub", ALICE, ALICE)
    return str(directory)


def run_logged(
    world: World, trust: str, log: str, certificate: str, *argv: str, form: str = "json"
) -> Any:
    """Run a certificate with a log file, wait for its supervisor's end."""
    done = world.attempt(
        "run", "--trust", trust, "--log", log, "--log-format", form, certificate, *argv, uid=ALICE
    )
    assert not world.settle()
    return done


def objects(log: str) -> list[dict[str, Any]]:
    lines = Path(log).read_text().splitlines()
    assert all(line.isprintable() for line in lines)
    return [json.loads(line) for line in lines]


def ended(world: World) -> list[str]:
    """Wait for supervisors to end; returns the lines that came to syslog from them."""
    assert not world.settle()
    mark = f"mark {time.monotonic_ns()}"  # comes after what was sent before
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(mark.encode(), world.machine.path("/dev/log"))
    wait_for(lambda: mark in world._log)
    return [line for line in world.logged() if line != mark]


# -- floods ----------------------------------------------------------------------------------------


def test_a_flood_of_one_call_is_a_line_a_second_and_the_count_is_exact(
    world: World, trust: str, flooder: str
) -> None:
    certificate = world.sign(
        "flood.cert", flooder, text=policy(flooder, *SUPERVISED, without=["getpriority"])
    )
    log = world.write("flood.log", "", 0o666)
    started = time.monotonic()
    done = run_logged(world, trust, log, certificate, str(CALLS))
    seconds = time.monotonic() - started
    assert (done.returncode, done.stdout) == (0, "0 permitted\n"), done
    assert seconds < FLOOD_TIMEOUT
    found = [one for one in objects(log) if one["syscall"] == "getpriority"]
    assert sum(one["count"] for one in found) == CALLS
    assert len(found) <= seconds + 2
    assert found[0]["count"] == 1 and "since" not in found[0]
    assert all("since" in one for one in found[1:])


def test_a_flood_of_different_names_is_bounded_and_counted(world: World, flooder: str) -> None:
    certificate = world.sign("flood.cert", flooder, text=policy(flooder, *SUPERVISED))
    world.logged()
    started = time.monotonic()
    done = world.run(certificate, "5000", "/tmp/denied", timeout=FLOOD_TIMEOUT)
    seconds = time.monotonic() - started
    assert (done.returncode, done.stdout) == (0, "0 permitted\n"), done
    lines = ended(world)
    named = [line for line in lines if "filename: " in line]
    counts = [int(one) for one in re.findall(r": deny open\w* (\d+)", "\n".join(lines))]
    assert len(named) + sum(counts) == 5000
    assert counts and len(lines) <= 102 * (seconds + 2)


def test_folded_events_are_told_a_second_later_while_the_program_lives(world: World) -> None:
    path = world.sign(
        "lives.cert", PYTHON, "--log", "full", text=policy(PYTHON, without=["getpriority"])
    )
    world.logged()
    code = """
import os, sys
for _ in range(10):
    try: os.getpriority(0, 0)
    except OSError: pass
print("done", flush=True)
sys.stdin.read()
"""
    child = world.start(path, "-I", "-S", "-c", code)
    try:
        assert child.stdout is not None and child.stdout.readline() == "done\n"
        wait_for(lambda: any("folded 9 more" in line for line in world._log))
        (supervisor,) = [pid for pid in world.strangers() if pid != child.pid]
        before = switches(supervisor)
        time.sleep(2.5)
        assert switches(supervisor) - before <= 1  # nothing is owed: it sleeps
    finally:
        child.communicate()
    assert not world.settle()


def switches(pid: int) -> int:
    """Return how often a process went to sleep."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)
    assert found is not None
    return int(found[1])


# -- daemons and files that fail -------------------------------------------------------------------


@pytest.fixture
def deaf_syslog(world: World) -> Iterator[socket.socket]:
    """A syslog daemon that does not read, in the place of the one that does."""
    path = world.machine.path("/dev/log")
    os.rename(path, path + ".aside")
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(path)
    os.chmod(path, 0o666)
    yield deaf
    deaf.close()
    os.unlink(path)
    os.rename(path + ".aside", path)


def test_a_syslog_daemon_that_stops_reading_stops_no_program(
    world: World, flooder: str, deaf_syslog: socket.socket
) -> None:
    certificate = world.sign("flood.cert", flooder, text=policy(flooder, *SUPERVISED))
    started = time.monotonic()
    done = world.run(certificate, "1000", "/tmp/denied")
    assert (done.returncode, done.stdout) == (0, "0 permitted\n"), done
    assert time.monotonic() - started < 30  # not 50 ms for each
    assert not world.settle()
    deaf_syslog.setblocking(False)
    assert b"filename: " in deaf_syslog.recv(65536)


def test_a_syslog_daemon_that_reads_again_learns_what_it_missed(
    world: World, deaf_syslog: socket.socket
) -> None:
    path = world.sign("deaf.cert", PYTHON, text=policy(PYTHON, *SUPERVISED))
    code = """
import os, sys
def denied(name):
    try: os.mkdir("/tmp/denied" + name)
    except PermissionError: pass
for index in range(60): denied(str(index))
print("done", flush=True)
sys.stdin.read()
denied("last")
"""
    child = world.start(path, "-I", "-S", "-c", code)
    assert child.stdout is not None and child.stdout.readline() == "done\n"
    deaf_syslog.setblocking(False)
    taken: list[str] = []

    def take() -> int:
        try:
            while True:
                taken.append(deaf_syslog.recv(65536).decode())
        except BlockingIOError:
            return len(taken)

    got = take()
    assert 0 < got < 60
    child.communicate()
    assert not world.settle()
    take()
    assert taken[got].endswith(f"lost {60 - got} events: Resource temporarily unavailable")
    assert "deniedlast" in taken[-1]


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """A file system of 8 KiB."""
    place = world.place / "small-disk"
    place.mkdir(exist_ok=True)
    options = "size=8k,mode=777"
    mounted = world.machine.run("mount", "-t", "tmpfs", "-o", options, "none", str(place))
    assert mounted.returncode == 0, mounted.stderr
    yield Path(world.machine.path(str(place)))
    world.machine.run("umount", str(place))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_disk_changes_nothing_for_the_program_and_syslog_tells(
    world: World, trust: str, flooder: str, small_disk: Path, form: str
) -> None:
    certificate = world.sign("flood.cert", flooder, text=policy(flooder, *SUPERVISED))
    world.logged()
    log = world.path("small-disk/log")
    done = run_logged(world, trust, log, certificate, "300", "/tmp/denied", form=form)
    assert (done.returncode, done.stdout) == (0, "0 permitted\n"), done
    written = (small_disk / "log").read_text().split("\n")
    (line,) = ended(world)
    found = re.search(r"(\d+) events could not be written to the log file: No space left", line)
    assert found is not None, line
    assert len(written) - 1 + int(found[1]) == 300  # the torn line counts as lost


def test_a_log_whose_reader_is_gone_changes_nothing_for_the_program(
    world: World, trust: str, flooder: str
) -> None:
    certificate = world.sign("flood.cert", flooder, text=policy(flooder, *SUPERVISED))
    fifo = world.place / "log.fifo"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    world.logged()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    argv = [sys.executable, "-m", "certexec.cli.main", "run", "--trust", trust, "--log", str(fifo),
            certificate, "2000", "/tmp/denied"]  # fmt: skip
    child = world.start(*argv, env={"PYTHONPATH": str(world.package)})
    first = b""
    while not first:
        try:
            first = os.read(reader, 100)
        except BlockingIOError:
            time.sleep(0.01)
    os.close(reader)
    out, err = child.communicate(timeout=FLOOD_TIMEOUT)
    assert (child.returncode, out) == (0, "0 permitted\n")
    told = r"certexec: warning: \d+ events could not be written to the log file: Broken pipe\n"
    assert re.fullmatch(told, err), err
    assert any("events could not be written to the log file: Broken pipe" in line
               for line in ended(world))  # fmt: skip


# -- what a program chooses ------------------------------------------------------------------------


@pytest.fixture
def journal(world: World) -> Iterator[socket.socket]:
    """The journal's socket, in the machine."""
    command = "mount -t tmpfs -o mode=755 none /run && mkdir -p /run/systemd/journal"
    done = world.machine.run("sh", "-c", command)
    assert done.returncode == 0, done.stderr
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = world.machine.path("/run/systemd/journal/socket")
    listening.bind(path)
    os.chmod(path, 0o666)
    listening.settimeout(20)
    yield listening
    listening.close()
    world.machine.run("umount", "/run")


@pytest.fixture(scope="module")
def odd_certificate(world_of_session: World) -> str:
    return world_of_session.sign("odd.cert", PYTHON, text=policy(PYTHON, *SUPERVISED))


def test_a_hostile_name_is_one_line_of_text_at_syslog_and_in_the_journal(
    world: World, journal: socket.socket, odd_certificate: str
) -> None:
    world.logged()
    done = world.run(odd_certificate, "-I", "-S", "-c", TOUCH, ODD.hex())
    assert "PermissionError" in done.stderr
    (line,) = ended(world)
    assert line.isprintable() and line.count("user: ") == 2 and line.count(", user: ") == 0
    datagram = journal.recv(65536).decode()
    fields = [field.partition("=") for field in datagram[:-1].split("\n")]
    assert [value for name, _, value in fields if name == "PRIORITY"] == ["4"]
    assert all(value.isprintable() for _, _, value in fields)
    assert ("CERTEXEC_REASON", "=", "rule") in fields
    assert ("CERTEXEC_CERTIFICATE", "=", "odd") in fields


def test_a_hostile_name_comes_back_exactly_from_json_lines(
    world: World, trust: str, odd_certificate: str
) -> None:
    log = world.write("odd.log", "", 0o666)
    for form in ("json", "text"):
        run_logged(
            world, trust, log, odd_certificate, "-I", "-S", "-c", TOUCH, ODD.hex(), form=form
        )
    lines = Path(log).read_text().splitlines()
    assert len(lines) == 2 and all(line.isprintable() for line in lines)
    one = json.loads(lines[0])
    assert bytes.fromhex(one["bytes"]["arguments"]["filename"]) == ODD
    assert (one["verdict"], one["reason"], one["syscall"]) == ("deny", "rule", "mkdir")
    assert (one["user"], one["uid"], one["errno"]) == ("alice", ALICE, 13)


# -- log: audit, log: full -------------------------------------------------------------------------


@pytest.fixture
def kernel_records() -> Iterator[Callable[[int], list[dict[str, str]]]]:
    """Return a function that returns the kernel's records of one process's denied calls."""
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)
    try:
        listening.bind((0, 1))  # AUDIT_NLGRP_READLOG
    except OSError as error:
        listening.close()
        skip_or_fail(f"the audit log cannot be heard here: {error.strerror}")
    listening.settimeout(0.5)
    heard: list[dict[str, str]] = []

    def take(pid: int) -> list[dict[str, str]]:
        try:
            while True:
                data = listening.recv(65536)
                (kind,) = struct.unpack_from("=H", data, 4)
                if kind == 1326:
                    pairs = data[16:].decode("utf-8", "replace").split()
                    heard.append(dict(pair.split("=", 1) for pair in pairs if "=" in pair))
        except TimeoutError:
            return [one for one in heard if one["pid"] == str(pid)]

    yield take
    listening.close()


SILENT = "import os, sys\ntry: os.getpriority(0, 0)\nexcept OSError: print(os.getpid())\n"


def denied_silently(world: World, *options: str, rules: tuple[str, ...] = ()) -> int:
    """Make one call that a constant denies; returns the pid."""
    text = policy(PYTHON, *rules, without=["getpriority"])
    path = world.sign("silent.cert", PYTHON, *options, text=text)
    done = world.run(path, "-I", "-S", "-c", SILENT)
    assert done.returncode == 0, done
    assert not world.settle()
    return int(done.stdout)


def test_without_a_supervisor_the_kernel_records_denials(
    world: World, kernel_records: Callable[[int], list[dict[str, str]]]
) -> None:
    world.logged()
    pid = denied_silently(world)
    assert not ended(world)
    records = kernel_records(pid)
    assert [one["syscall"] for one in records if one["syscall"] != "435"] == ["140"]
    assert os.path.realpath(PYTHON) in records[0]["exe"]


def test_beside_a_supervisor_constant_denials_leave_no_trace_unless_asked_for(
    world: World, kernel_records: Callable[[int], list[dict[str, str]]]
) -> None:
    world.logged()
    pid = denied_silently(world, rules=SUPERVISED)
    assert not kernel_records(pid)
    assert not ended(world)


@pytest.mark.parametrize("rules", [(), SUPERVISED], ids=["plain", "supervised"])
def test_with_a_full_log_every_denial_is_a_line(
    world: World, rules: tuple[str, ...],
    kernel_records: Callable[[int], list[dict[str, str]]],
) -> None:  # fmt: skip
    world.logged()
    pid = denied_silently(world, "--log", "full", rules=rules)
    (line,) = ended(world)
    assert f"pid: {pid}(0)" in line and "native-getpriority(140)" in line
    assert not kernel_records(pid)


def test_what_was_folded_is_told_when_the_program_is_killed(world: World) -> None:
    path = world.sign("killed.cert", PYTHON, text=policy(PYTHON, *SUPERVISED))
    world.logged()
    code = """
import os
for _ in range(10):
    try: os.mkdir("/tmp/denied")
    except PermissionError: pass
os.kill(os.getpid(), 9)
"""
    assert world.run(path, "-I", "-S", "-c", code).returncode == -signal.SIGKILL
    lines = ended(world)
    assert len(lines) == 2 and ": folded 9 more in 0." in lines[1]
