"""Events to a collector: nothing is lost without a word, and no program waits."""

from __future__ import annotations

import _socket
import errno
import os
import re
import socket
import time
from pathlib import Path

import pytest

from certexec.errors import KernelError
from certexec.kernel.ownership import PersonalOwners
from certexec.observe import collector as module
from certexec.observe import sinks
from certexec.observe.collector import Address, Collector, configured, parse_address
from tests.observe.sample import HOSTILE, event

LOOPBACK = "127.0.0.1"


class Tcp:
    """A collector that speaks TCP; it reads when the test does."""

    def __init__(self, port: int = 0) -> None:
        self.socket = socket.create_server((LOOPBACK, port))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]
        self.connection: socket.socket | None = None
        self.rest = b""

    def take(self, wanted: int) -> list[str]:
        """Return that many messages, told apart by their lengths."""
        if self.connection is None:
            self.connection, _ = self.socket.accept()
            self.connection.settimeout(5)
        found, data = [], self.rest
        while len(found) < wanted:
            if match := re.match(rb"([1-9][0-9]*) ", data):
                end = match.end() + int(match[1])
                if len(data) >= end:
                    found.append(data[match.end() : end].decode())
                    data = data[end:]
                    continue
            more = self.connection.recv(65536)
            assert more, "it hung up"
            data += more
        self.rest = data
        return found

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        self.hang_up()
        self.socket.close()


def test_datagrams_hold_one_message_each() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind((LOOPBACK, 0))
        there.settimeout(5)
        log = Collector(Address("udp", LOOPBACK, there.getsockname()[1]))
        log.write(event(program=HOSTILE))
        log.write(event(pid=43))
        assert [there.recv(65536).count(b"<84>1 ") for _ in range(2)] == [1, 1]
        assert log.finish(100)


def test_over_tcp_each_message_has_its_length() -> None:
    there = Tcp()
    log = Collector(Address("tcp", LOOPBACK, there.port))
    for pid in range(50):
        log.write(event(pid=pid, arguments=[("filename", HOSTILE)]))
    found = there.take(50)
    assert [f'pid="{pid}"' in text for pid, text in enumerate(found)] == [True] * 50
    assert log.finish(100) and not log.lost
    there.close()


def test_a_collector_that_was_started_anew_is_reached_again() -> None:
    there = Tcp()
    log = Collector(Address("tcp", LOOPBACK, there.port))
    log.write(event(pid=1))
    there.take(1)
    there.hang_up()
    time.sleep(0.05)  # its end of the connection has come
    log.write(event(pid=2))
    assert 'pid="2"' in there.take(1)[0] and not log.lost
    there.close()


def test_what_is_missed_is_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Tcp()
    port = there.port
    there.close()
    log = Collector(Address("tcp", LOOPBACK, port))
    for pid in range(5):
        log.write(event(pid=pid))
    assert log.lost == 5 and log.there and not log.finish(10)
    there = Tcp(port)
    log.write(event(pid=6))
    assert log.lost == 6, "it is not tried again at every event"
    monkeypatch.setattr(module, "RETRY", -1.0)
    log._retry = 0.0
    log.write(event(pid=7))
    found = there.take(2)
    assert 'event="lost"' in found[0] and 'count="6"' in found[0] and 'pid="7"' in found[1]
    there.close()


def test_a_collector_that_stops_reading_holds_nobody_up() -> None:
    there = Tcp()
    log = Collector(Address("tcp", LOOPBACK, there.port))
    started = time.monotonic()
    long = [("filename", "x" * 4000)]
    sent = 0
    while not log.lost:
        log.write(event(pid=sent, arguments=long))
        sent += 1
        assert time.monotonic() - started < 20
    lost, kept = log.lost, len(log._queue)
    assert sum(len(data) for data, _ in log._queue) <= module.QUEUE_MAX
    there.take(sent - lost - kept)
    log.write(event(pid=99))
    rest = there.take(kept + 2)
    assert all(text.startswith("<84>1 ") for text in rest)
    assert 'event="lost" ' in rest[-2] and f'count="{lost}"' in rest[-2]
    assert 'pid="99"' in rest[-1] and not log.lost
    assert not there.rest
    there.close()


def test_a_message_that_was_torn_is_sent_again_as_a_whole() -> None:
    there = Tcp()
    log = Collector(Address("tcp", LOOPBACK, there.port))
    sent = 0
    while not log._sent:  # until one is sent in part
        log.write(event(pid=sent, arguments=[("filename", "x" * 4000)]))
        sent += 1
    kept = len(log._queue)
    assert kept and not log.lost
    there.connection, _ = there.socket.accept()
    there.hang_up()
    time.sleep(0.05)
    log.write(event(pid=99))
    found = there.take(kept + 1)
    assert f'pid="{sent - kept}"' in found[0] and 'pid="99"' in found[-1]
    there.close()


def test_what_is_kept_at_the_end_is_lost() -> None:
    there = Tcp()
    log = Collector(Address("tcp", LOOPBACK, there.port))
    while not log._sent:
        log.write(event(arguments=[("filename", "x" * 4000)]))
    kept = len(log._queue)
    assert not log.finish(10) and log.lost == kept
    there.close()


def test_an_unreachable_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, address: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    class Unreachable(_socket.socket):
        connect = refuse

    monkeypatch.setattr(module._socket, "socket", Unreachable)
    for transport in ("udp", "tcp"):
        log = Collector(Address(transport, "192.0.2.1", 514))
        log.write(event())
        assert (log.lost, log.why) == (1, "Network is unreachable")


@pytest.mark.parametrize("text", ["udp:192.0.2.1:514", "tcp:[2001:db8::1]:601"])
def test_addresses_are_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.1:514", "udp:192.0.2.1", "udp:host:514", "tcp:192.0.2.1:0", "tcp:192.0.2.1:65536",
     "tls:192.0.2.1:514", "tcp:2001:db8::1:601", "tcp:[192.0.2.1]:601", "udp:192.0.2.1:5x",
     "tcp:[2001:db8::1:601", "udp:192.0.2.1: 514"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(KernelError) as caught:
        parse_address(text)
    assert caught.value.reason == "usage"


@pytest.fixture
def named(safe_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that names the machine's collector, which here may be the caller's."""
    check = module.check_file
    owners = PersonalOwners((0, os.getuid()))
    monkeypatch.setattr(module, "check_file", lambda path: check(path, owners))
    monkeypatch.setattr(sinks, "COLLECTOR", str(safe_dir / "collector"))
    return safe_dir / "collector"


def test_root_names_the_machine_s_collector(named: Path) -> None:
    assert not any(isinstance(sink, Collector) for sink in sinks.machine_sinks())
    named.write_text("# ours\n\n udp:192.0.2.1:514 \n")
    [found] = [sink for sink in sinks.machine_sinks() if isinstance(sink, Collector)]
    assert str(found._address) == "udp:192.0.2.1:514"


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "does not name one collector"), ("udp:192.0.2.1:514\n" * 2, "does not name one"),
     ("nowhere\n", "is no address"), ("#" * 5000 + "\nudp:192.0.2.1:514\n", "does not name one")],
)  # fmt: skip
def test_a_name_that_is_none_loses_everything_and_says_so(
    named: Path, text: str, why: str
) -> None:
    named.write_text(text)
    found = configured(str(named))
    found.write(event())
    assert found.lost == 1 and why in found.why


def test_a_file_that_others_can_write_names_nobody(named: Path) -> None:
    named.write_text("udp:192.0.2.1:514\n")
    named.chmod(0o666)
    found = configured(str(named))
    assert found._address is None and "can be written by" in found.problem
