"""A real rsyslog in another network namespace collects events of several machines.

Machines here are UTS namespaces with names of their own that share the senders' network namespace;
a pair of veth devices leads from there to the collector's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.observe.reading import read_line
from tests.isolation import skip_or_fail

PROJECT = Path(__file__).resolve().parents[2]
SENDERS, COLLECTOR = "10.111.0.1", "10.111.0.2"
SENDERS6, COLLECTOR6 = "fd00:111::1", "fd00:111::2"
UDP, TCP = 514, 601
CONFIGURATION = f"""
global(workDirectory="{{directory}}")
module(load="imudp") module(load="imtcp")
input(type="imudp" port="{UDP}") input(type="imtcp" port="{TCP}")
action(type="omfile" file="{{directory}}/collected" fileCreateMode="0644"
       template="RSYSLOG_SyslogProtocol23Format")
"""
SEND = """
import sys
from certexec.observe.collector import Collector, parse_address
from tests.observe.sample import HOSTILE, event
log = Collector(parse_address(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    log.write(event(pid=number, program=HOSTILE, arguments=[("filename", HOSTILE + "x" * number)]))
assert log.finish(2000), log.why
"""
READY = 20.0
"""seconds for rsyslog to start, or to write what it got"""


def wait_for(condition) -> None:
    end = time.monotonic() + READY
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


class Network:
    """The two network namespaces, and rsyslog in one of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.collected = directory / "collected"
        self.processes: list[subprocess.Popen] = []
        self._here = self._namespace()
        self._there = self._namespace()
        self._link()
        self.rsyslog: subprocess.Popen | None = None

    def _namespace(self) -> int:
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        self.processes.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        return holder.pid

    def _link(self) -> None:
        self._ip(self._here, "link", "add", "v0", "type", "veth", "peer", "name", "v1",
                 "netns", str(self._there))  # fmt: skip
        for holder, device, four, six in (
            (self._here, "v0", SENDERS, SENDERS6), (self._there, "v1", COLLECTOR, COLLECTOR6)
        ):
            self._ip(holder, "addr", "add", f"{four}/30", "dev", device)
            self._ip(holder, "addr", "add", f"{six}/64", "dev", device, "nodad")
            self._ip(holder, "link", "set", device, "up")

    def _ip(self, holder: int, *words: str) -> None:
        subprocess.run(["nsenter", "-t", str(holder), "-n", "ip", *words], check=True)

    def collect(self) -> None:
        """Start rsyslog."""
        configuration = self.directory / "rsyslog.conf"
        configuration.write_text(CONFIGURATION.format(directory=self.directory))
        self.rsyslog = subprocess.Popen(
            ["nsenter", "-t", str(self._there), "-n", "rsyslogd", "-n", "-f", str(configuration),
             "-i", str(self.directory / "pid")]
        )  # fmt: skip
        tables = [f"/proc/{self._there}/net/{name}" for name in ("udp", "tcp")]
        wait_for(lambda: all(
            f":{port:04X} " in Path(table).read_text()
            for table, port in zip(tables, (UDP, TCP), strict=True)
        ))  # fmt: skip

    def stop_collecting(self) -> None:
        """End rsyslog."""
        if self.rsyslog is not None:
            self.rsyslog.terminate()
            self.rsyslog.wait(READY)
            self.rsyslog = None

    def run(self, host: str, *command: str) -> subprocess.CompletedProcess:
        """Run a command on one of the machines."""
        set_name = 'hostname "$0"; exec "$@"'
        return subprocess.run(
            ["nsenter", "-t", str(self._here), "-n", "unshare", "--uts", "sh", "-c", set_name, host,
             *command], cwd=PROJECT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def send(self, host: str, address: str, first: int, last: int) -> None:
        """Send events with these numbers as their pid."""
        done = self.run(host, sys.executable, "-c", SEND, address, str(first), str(last))
        assert done.returncode == 0, done.stderr

    def lines(self) -> list[str]:
        """Return what was collected so far."""
        return self.collected.read_text().splitlines() if self.collected.exists() else []

    def close(self) -> None:
        self.stop_collecting()
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def network(safe_dir: Path) -> Iterator[Network]:
    missing = [name for name in ("rsyslogd", "ip", "nsenter", "unshare", "hostname")
               if shutil.which(name) is None]  # fmt: skip
    if missing or os.geteuid() != 0:
        skip_or_fail(f"not here: {', '.join(missing) or 'root'}")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        skip_or_fail("no network namespaces here")
    made = Network(safe_dir)
    made.collect()
    yield made
    made.close()


@pytest.mark.root
def test_events_of_many_machines_come_together_and_are_monitored(network: Network) -> None:
    network.send("web1", f"udp:{COLLECTOR}:{UDP}", 1, 2)
    wait_for(network.lines)
    monitor = subprocess.Popen(
        [sys.executable, "-m", "certexec.cli.main", "monitor", "--json", "-n", "60", "--verdict",
         "deny", "--file", str(network.collected)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    network.processes.append(monitor)
    wait_for(lambda: any(
        os.path.realpath(f"/proc/{monitor.pid}/fd/{fd}") == str(network.collected.resolve())
        for fd in os.listdir(f"/proc/{monitor.pid}/fd")
    ))  # fmt: skip
    network.send("web1", f"udp:{COLLECTOR}:{UDP}", 2, 12)
    network.send("web2", f"tcp:{COLLECTOR}:{TCP}", 12, 42)
    network.send("db1", f"tcp:[{COLLECTOR6}]:{TCP}", 42, 52)
    network.send("db1", f"udp:[{COLLECTOR6}]:{UDP}", 52, 62)
    out, err = monitor.communicate(timeout=60)
    assert monitor.returncode == 0 and not err
    seen = [json.loads(line) for line in out.splitlines()]
    assert sorted(one["pid"] for one in seen) == list(range(2, 62))
    hosts = {one["host"]: sum(1 for other in seen if other["host"] == one["host"]) for one in seen}
    assert hosts == {"web1": 10, "web2": 30, "db1": 20}
    for one in seen:
        assert one["program"].startswith("/tmp/a\nPRIORITY=0\r\x1b[31m'\"\\, user: root")
        assert one["arguments"]["filename"].endswith("x" * one["pid"])
        assert one["user"] == "alice" and one["certificate"] == "nc.cert"


@pytest.mark.root
def test_a_collector_that_was_away_learns_how_much_it_missed(network: Network) -> None:
    network.stop_collecting()
    again = network.directory / "again"
    send = (
        "import sys, time, os\n"
        "from certexec.observe import collector\n"
        "from tests.observe.sample import event\n"
        "collector.RETRY = 0.0\n"
        "log = collector.Collector(collector.parse_address(sys.argv[1]))\n"
        "for number in range(7): log.write(event(pid=number))\n"
        "assert log.lost == 7, log.lost\n"
        "print(flush=True)\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.05)\n"
        "log.write(event(pid=8))\n"
        "assert log.finish(2000), log.why\n"
    )
    sender = subprocess.Popen(
        ["nsenter", "-t", str(network._here), "-n", sys.executable, "-c", send,
         f"tcp:{COLLECTOR}:{TCP}", str(again)], cwd=PROJECT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert sender.stdout is not None and sender.stdout.readline()
    network.collect()
    again.touch()
    sender.communicate(timeout=60)
    assert sender.returncode == 0
    wait_for(lambda: len(network.lines()) >= 2)
    first, second = (read_line(line) for line in network.lines()[:2])
    assert first is not None and second is not None
    assert (first.text("event"), first.count) == ("lost", 7)
    assert second.members["pid"] == 8


@pytest.mark.root
def test_a_confined_program_s_denials_are_collected(network: Network) -> None:
    directory = network.directory
    certexec = [sys.executable, "-m", "certexec.cli.main"]

    def do(*arguments: str) -> str:
        return subprocess.run(
            [*certexec, *arguments], cwd=directory, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        ).stdout

    policy = directory / "cat.policy"
    policy.write_text(do("policy", "template", "/usr/bin/cat"))
    do("keygen", "--no-passphrase", "-f", "ops")
    do("trust", "add", "ops.pub", "--trust", "trust")
    do("sign", "-k", "ops.key", "-p", "cat.policy", "--allow-everyone", "-o", "cat.cert",
       "/usr/bin/cat")  # fmt: skip
    for transport, port in (("udp", UDP), ("tcp", TCP)):
        done = network.run(
            "web9", *certexec, "run", "--trust", str(directory / "trust"), "--collector",
            f"{transport}:{COLLECTOR}:{port}", str(directory / "cat.cert"), "--", "/etc/fstab",
            f"/etc/{transport}",
        )  # fmt: skip
        assert done.returncode == 1 and "/etc/fstab" in done.stderr, done.stderr
        wanted = f'arg.filename="/etc/{transport}"'
        wait_for(lambda wanted=wanted: any(wanted in line for line in network.lines()))
    events = [seen for line in network.lines() if (seen := read_line(line)) is not None]
    assert {one.host for one in events} == {"web9"}
    assert {one.text("certificate") for one in events} == {"cat"}
    assert {one.arguments["filename"] for one in events} == {"/etc/fstab", "/etc/udp", "/etc/tcp"}
