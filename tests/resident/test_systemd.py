"""Certificates as services of a real systemd, and the resident server that it starts on demand."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import SUPERVISED, World, policy, wait_for
from tests.isolation import need, skip_or_fail
from tests.resident.booted import Booted, booted_where
from tests.resident.conftest import holds_listener

pytestmark = pytest.mark.root
DAEMON = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void note(const char *directory, const char *name, int pid)
{
    char path[256], fresh[260];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "w");
    fprintf(file, "%d\n", pid);
    fclose(file);
    rename(fresh, path);
}

/* daemon notify|forking DIRECTORY: a main process, and a worker that counts in DIRECTORY/count */
int main(int argc, char **argv)
{
    if (argc != 3)
        return 1;
    if (!strcmp(argv[1], "forking")) {
        int told[2];
        char byte;
        if (pipe(told) || fork())
            return read(told[0], &byte, (close(told[1]), 1)) < 0;
        setsid();
        note(argv[2], "pid", getpid());
        close(told[0]);
        close(told[1]);
    }
    if (!fork())
        for (int count = 0;; count++) {
            note(argv[2], "count", count);
            usleep(10000);
        }
    if (!strcmp(argv[1], "notify")) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        const char *name = getenv("NOTIFY_SOCKET");
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (!name)
            return 2;
        strncpy(to.sun_path, name, sizeof to.sun_path - 1);
        if (sendto(fd, "READY=1", 7, 0, (void *)&to, sizeof to) != 7)
            return 3;
    }
    for (;;)
        pause();
}
"""


class Services:
    """The booted machine, with certificates of a daemon in it."""

    def __init__(self, booted: Booted, daemon: str) -> None:
        self.booted = booted
        self.daemon = daemon

    def make(self, certificate: str, kind: str, *lines: str) -> Service:
        return Service(self, certificate, kind, lines)


class Service:
    """One service, whose ExecStart= is a certificate; started."""

    def __init__(self, all_: Services, certificate: str, kind: str, lines: tuple[str, ...]) -> None:
        self.booted = all_.booted
        world = self.booted.world
        name = f"{certificate}-{kind}"
        self.place = Path(world.path(name))
        self.place.mkdir(exist_ok=True)
        for file in self.place.iterdir():
            file.unlink()
        extra = [f"PIDFile={self.place}/pid"] if kind == "forking" else []
        self.unit = self.booted.service(
            name, [f"Type={kind}", f"ExecStart={world.bin}/{certificate} {kind} {self.place}",
                   *extra, *lines],
        )  # fmt: skip
        self.booted.systemctl("start", self.unit)

    def count(self) -> int:
        """Return how far the worker has counted, -1 before it began."""
        try:
            return int((self.place / "count").read_text())
        except FileNotFoundError:
            return -1

    def counts(self) -> bool:
        """Wait for the worker to count on."""
        before = self.count()
        wait_for(lambda: self.count() != before)
        return True

    def main(self) -> int:
        """Return the main process's number, inside."""
        return int(self.booted.show(self.unit, "MainPID"))

    def state(self) -> str:
        return self.booted.ask("is-active", self.unit)


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    need("nsenter", "setpriv", "unshare", "mount", "gcc", "systemctl")
    if os.geteuid() != 0:
        skip_or_fail("systemd is booted by root")
    booted_where()
    world = World()
    try:
        booted = Booted(world)
        try:
            daemon = world.compile("daemon", DAEMON)
            world.sign("plain", daemon)
            world.sign("supervised", daemon, text=policy(daemon, *SUPERVISED))
            done = booted.run(sys.executable, "-m", "certexec.cli.main", "setup")
            assert done.returncode == 0, (done.stdout, done.stderr)
            yield Services(booted, daemon)
        finally:
            booted.close()
    finally:
        world.close()


@pytest.fixture(params=["plain", "supervised"])
def certificate(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_setup_lets_systemd_listen_and_the_first_execution_starts_the_server(
    services: Services,
) -> None:
    booted = services.booted
    assert booted.ask("is-active", "certexec.socket") == "active"
    assert booted.ask("is-enabled", "certexec.socket") == "enabled"
    booted.systemctl("stop", "certexec.service")
    service = services.make("supervised", "notify")
    try:
        assert booted.ask("is-active", "certexec.service") == "active"
        server = int(booted.show("certexec.service", "MainPID"))
        assert server > 1
        # killed, it comes back with the next execution; the program keeps its supervisor
        booted.systemctl("kill", "--signal=KILL", "--kill-whom=main", "certexec.service")
        assert service.counts() and service.state() == "active"
        again = services.make("supervised", "forking")
        assert int(booted.show("certexec.service", "MainPID")) not in (0, server)
        booted.systemctl("stop", again.unit)
    finally:
        booted.systemctl("stop", service.unit)


@pytest.mark.parametrize("kind", ["notify", "forking"])
def test_a_service_starts_restarts_and_stops(
    services: Services, certificate: str, kind: str
) -> None:
    service = services.make(certificate, kind)
    booted = service.booted
    assert service.state() == "active" and service.counts()
    first = service.main()
    name = booted.run("readlink", f"/proc/{first}/exe").stdout.strip()
    assert name == services.daemon
    booted.systemctl("restart", service.unit)
    assert service.state() == "active" and service.counts()
    assert service.main() not in (0, first)
    booted.systemctl("stop", service.unit)
    assert service.state() == "inactive"
    assert booted.show(service.unit, "Result") == "success"
    wait_for(lambda: not booted.members(service.unit))


def test_a_supervisor_lives_in_its_services_group_and_is_not_its_main_process(
    services: Services,
) -> None:
    service = services.make("supervised", "notify")
    try:
        members = service.booted.members(service.unit)
        supervisors = {pid for pid in members if holds_listener(pid)}
        assert len(supervisors) == 1 and len(members) == 3  # main process, worker, supervisor
        numbers = Path(f"/proc/{supervisors.pop()}/status").read_text()
        inside = next(line for line in numbers.splitlines() if line.startswith("NSpid:"))
        assert int(inside.split()[-1]) != service.main()
    finally:
        service.booted.systemctl("stop", service.unit)


@pytest.mark.parametrize("mode", ["control-group", "mixed"])
def test_stopping_ends_all_of_a_service_where_that_is_asked_for(
    services: Services, certificate: str, mode: str
) -> None:
    service = services.make(certificate, "notify", f"KillMode={mode}", "TimeoutStopSec=20")
    assert service.counts()
    service.booted.systemctl("stop", service.unit)
    assert service.booted.show(service.unit, "Result") == "success"
    wait_for(lambda: not service.booted.members(service.unit))


def test_stopping_ends_the_main_process_alone_where_that_is_asked_for(
    services: Services, certificate: str
) -> None:
    service = services.make(certificate, "notify", "KillMode=process")
    members = service.booted.members(service.unit)
    service.booted.systemctl("stop", service.unit)
    assert service.state() == "inactive"
    try:
        assert service.counts()  # the worker goes on, with its supervisor where it has one
    finally:
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_a_main_process_that_dies_is_started_again(services: Services, certificate: str) -> None:
    service = services.make(certificate, "notify", "Restart=on-failure", "RestartSec=100ms")
    try:
        first = service.main()
        service.booted.systemctl("kill", "--signal=KILL", "--kill-whom=main", service.unit)
        wait_for(lambda: service.state() == "active" and service.main() not in (0, first))
        assert service.booted.show(service.unit, "NRestarts") == "1" and service.counts()
    finally:
        service.booted.systemctl("stop", service.unit)


def test_a_certificate_that_is_refused_fails_its_service_with_126(services: Services) -> None:
    booted = services.booted
    where = Path(booted.world.path("bin/damaged"))
    data = (booted.world.bin / "plain").read_bytes()
    where.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    where.chmod(0o755)
    unit = booted.service("damaged", ["Type=exec", f"ExecStart={where} notify /"])
    booted.run("systemctl", "start", unit)
    wait_for(lambda: booted.ask("is-active", unit) == "failed")
    assert booted.show(unit, "ExecMainStatus") == "126"
