"""certexec server reads as a script: started, asked about, upgraded, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.resident.conftest import Service, children, holds_listener, wait_for

pytestmark = pytest.mark.root


def server(service: Service) -> subprocess.Popen[str]:
    """Type "certexec server"."""
    python = str(service.world.package)
    process = subprocess.Popen(
        service.world.machine.command(sys.executable, "-m", "certexec.cli.main", "server"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": python, "LC_ALL": "C"},
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or state(service)["current"])
    return process


def state(service: Service) -> dict[str, object]:
    done = service.world.attempt("server", "--status", "--json")
    assert done.returncode in (0, 1), done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    assert (done.returncode == 0) == told["listens"]
    return told


def test_it_runs_until_it_is_told_to_end(service: Service) -> None:
    world = service.world
    done = world.attempt("server", "--status")
    assert (done.returncode, done.stdout) == (1, "no server runs; each execution starts its own\n")
    process = server(service)
    told = state(service)
    assert told["listens"]
    assert told["current"]
    assert told["pid"] == process.pid
    assert not told["activated"]
    assert world.run(service.certificate("sleeper"), "0").returncode == 0
    assert f"process {process.pid} serves" in world.verb("server", "--status")
    doctor = json.loads(world.attempt("doctor", "--json").stdout)
    row = next(one for one in doctor["findings"] if one["name"] == "resident server")
    assert (row["status"], row["value"]) == ("ok", f"process {process.pid}")
    # another one is not needed
    second = world.attempt("server")
    assert second.returncode == 2
    assert f"a server listens already: process {process.pid}" in second.stderr
    # the end
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == ['certexec: certificates are served at "/run/certexec/server.sock"']
    assert not state(service)["listens"]
    left = os.listdir(world.machine.path("/run/certexec"))
    assert not {"server.sock", "server.pid"} & set(left)


def test_an_upgrade_takes_the_server_along_and_leaves_programs_alone(service: Service) -> None:
    world = service.world
    process = server(service)
    certificate = service.certificate("sleeper")
    program = world.start(certificate, "60")
    wait_for(lambda: any(holds_listener(pid) for pid in service.servers()))
    supervisor = service.supervisor()
    before = state(service)["version"]
    extra = Path(f"{world.package}/certexec/run/signals.py")
    text = extra.read_text()
    try:
        extra.write_text(text + "\n# a new version\n")
        world.verb("setup")
        wait_for(lambda: state(service)["current"])
        after = state(service)
        assert after["version"] != before
        assert after["current"]
        assert after["pid"] == process.pid
        wait_for(lambda: children(process.pid) - {supervisor})
        assert world.run(certificate, "0").returncode == 0
        assert program.poll() is None
        assert holds_listener(supervisor)
    finally:
        extra.write_text(text)
        world.verb("setup")
    program.kill()
    program.communicate()
    process.terminate()
    process.communicate(timeout=20)


def test_it_needs_root_and_a_set_up(service: Service) -> None:
    done = service.world.attempt("server", uid=61001)
    assert done.returncode == 2
    assert "(not-root)" in done.stderr or "needs root" in done.stderr
    done = service.world.attempt("server", "--json")
    assert done.returncode == 2
    assert "--json goes with --status" in done.stderr


def test_a_killed_server_is_taken_over_from(service: Service) -> None:
    process = server(service)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not state(service)["listens"]
    assert service.world.run(service.certificate("sleeper"), "0").returncode == 0
    process = server(service)
    assert state(service)["pid"] == process.pid
    process.terminate()
    process.communicate(timeout=20)


