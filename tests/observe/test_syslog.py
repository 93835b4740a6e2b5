"""The line at the syslog daemon, as syslog(3) would send it, and no program waits for it."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from certexec.observe.local_socket import PATIENCE
from certexec.observe.syslog import Syslog
from tests.observe.sample import HOSTILE, Daemon, event

HEAD = r"<84>[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d certexec\[\d+\]: "


def test_the_daemon_gets_systraces_line_as_a_warning_of_authpriv(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "log")
    now = time.time()
    Syslog(str(tmp_path / "log")).write(event(time=now))
    (message,) = daemon.take()
    assert re.fullmatch(HEAD + re.escape(event().line()), message)
    assert time.strftime("%b %e %H:%M:%S", time.localtime(now)) in message


def test_nothing_that_a_program_chooses_becomes_a_second_message(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "log")
    log = Syslog(str(tmp_path / "log"))
    log.write(event(program=HOSTILE, arguments=[("filename", HOSTILE)]))
    log.note(HOSTILE)
    messages = daemon.take()
    assert len(messages) == 2
    assert all(message.isprintable() for message in messages)


def test_a_message_fits_what_daemons_take(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "log")
    Syslog(str(tmp_path / "log")).write(event(arguments=[("filename", "\x01" * 4095)]))
    (message,) = daemon.take()
    assert 4000 < len(message) <= 8192 and message.endswith("...")


def test_a_daemon_that_stops_reading_holds_nobody_up_and_learns_what_it_missed(
    tmp_path: Path,
) -> None:
    daemon = Daemon(tmp_path / "log")
    log = Syslog(str(tmp_path / "log"))
    slowest = 0.0
    started = time.monotonic()
    for index in range(2000):
        before = time.monotonic()
        log.write(event(pid=index))
        slowest = max(slowest, time.monotonic() - before)
    # one wait for room, not one for each event
    assert time.monotonic() - started < 2000 * PATIENCE / 1000 / 4
    assert slowest < 20 * PATIENCE / 1000
    taken = daemon.take()
    assert taken and len(taken) + log.lost == 2000
    lost = log.lost
    log.write(event())
    told, last = daemon.take()
    assert told.endswith(f": lost {lost} events: Resource temporarily unavailable")
    assert last.endswith(event().line())
    assert log.finish(0)


def test_a_daemon_that_never_reads_is_somebodys_business(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "log")
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    other.setblocking(False)
    try:
        while True:
            other.sendto(b"noise", str(tmp_path / "log"))
    except BlockingIOError:
        pass
    log = Syslog(str(tmp_path / "log"))
    log.write(event())
    assert (log.lost, log.there) == (1, True)
    before = time.monotonic()
    assert not log.finish(100)
    assert time.monotonic() - before >= 0.1
    daemon.take()
    assert log.finish(100)
    assert daemon.take()[0].endswith("lost 1 events: Resource temporarily unavailable")


def test_a_daemon_that_was_started_anew_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Syslog(str(path))
    log.write(event())
    assert (log.lost, log.there) == (1, False)  # nobody there yet
    daemon = Daemon(path)
    log.write(event())
    assert len(daemon.take()) == 2 and log.there
    daemon.close()
    log.write(event())
    assert log.lost == 1
    path.unlink()
    log.write(event())
    assert log.lost == 2
    daemon = Daemon(path)
    log.note("back")
    first, second = daemon.take()
    assert first.endswith("lost 2 events: No such file or directory")
    assert second.endswith(": back")


def test_a_daemon_of_the_old_kind_is_spoken_to_in_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    daemon = Daemon(path, socket.SOCK_STREAM)
    log = Syslog(str(path))
    log.note("one")
    log.note("two")
    peer, _ = daemon.socket.accept()
    one, two, rest = peer.recv(4096).split(b"\0")
    assert (one[-5:], two[-5:], rest) == (b": one", b": two", b"")
    for _ in range(20000):
        log.write(event())
    assert log.lost
    peer.close()
    log.note("again")
    peer, _ = daemon.socket.accept()
    assert peer.recv(4096).split(b"\0")[1].endswith(b": again")
