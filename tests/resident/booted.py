"""A machine that systemd has booted, in namespaces: as process 1, with units of its own alone.

Only what is written here is there for systemd to start: none of the machine's own units, generators
or drop-ins. It has process, control group, mount, host name and network namespaces of its own,
inside those of a ``World``; its control groups are below one that is made for it and taken away.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.execution.world import World, wait_for
from tests.isolation import skip_or_fail

SYSTEMD = "/usr/lib/systemd/systemd"
GROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where the hierarchy of control groups v2 is: alone, or beside those of v1."""
UNITS = "/etc/systemd/system"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
BOOT = f"""
set -e
mount --make-rprivate /
rm -rf /etc/systemd
mkdir -p {UNITS} /run/targets /run/nothing
for target in sysinit basic sockets shutdown test; do
    printf '[Unit]\\nDefaultDependencies=no\\nAllowIsolate=yes\\n' > /run/targets/$target.target
done
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
export container=test SYSTEMD_UNIT_PATH={UNITS}:/run/targets
export SYSTEMD_GENERATOR_PATH=/run/nothing SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/nothing
exec {SYSTEMD} --system --unit=test.target --show-status=0 --log-target=null \\
    --default-standard-output=null
"""


def booted_where() -> str:
    """Return where control groups can be made; skips where systemd or those are not there."""
    if not os.access(SYSTEMD, os.X_OK):
        skip_or_fail("needs systemd, of the Debian package of that name")
    for place in GROUPS:
        if os.access(f"{place}/cgroup.procs", os.W_OK):
            return place
    skip_or_fail("needs control groups v2 to make some in")
    raise AssertionError


class Booted:
    """The machine of a world, once systemd is its process 1."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.group = Path(booted_where(), f"certexec-test-{os.getpid()}")
        self.group.mkdir()
        script = world.write("boot.sh", BOOT)
        enter = f"echo $$ > {self.group}/cgroup.procs && exec \"$@\""
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts",
                   "--ipc", "--net"]  # fmt: skip
        self.process = subprocess.Popen(
            ["sh", "-c", enter, "sh", *world.machine.command(*unshare, "sh", script)],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        self.first = 0
        try:
            wait_for(self._is_up)
        except BaseException:
            self.close()
            raise

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            assert self.process.stderr is not None
            skip_or_fail(f"systemd does not boot here: {self.process.stderr.read()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.first = int(children.split()[0]) if children else 0
        return bool(self.first) and self.ask("is-active", "test.target") == "active"

    def close(self) -> None:
        """Take it away, with all that runs in it."""
        self.process.kill()
        self.process.communicate()
        deadline = time.monotonic() + 10
        while self.group.exists():
            for directory, _, _ in os.walk(self.group, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    assert time.monotonic() < deadline, f"{directory} is still in use"
                    time.sleep(0.01)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run something inside, as its root."""
        enter = ["nsenter", "-t", str(self.first), "-U", "-m", "-p", "-C", "-u", "-i", "-n",
                 "--preserve-credentials", "setpriv", "--reuid=0", "--regid=0",
                 "--keep-groups"]  # fmt: skip
        return subprocess.run(
            [*enter, *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={**ENVIRONMENT, "PYTHONPATH": str(self.world.package)}, timeout=90, check=False,
        )  # fmt: skip

    def systemctl(self, *words: str) -> str:
        """Ask for something that must succeed."""
        done = self.run("systemctl", *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def ask(self, *words: str) -> str:
        """Return what systemctl says, whatever its exit status."""
        return self.run("systemctl", *words).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit)

    def service(self, name: str, lines: Sequence[str]) -> str:
        """Write a service, not yet started; returns its unit's name."""
        unit = f"{name}.service"
        text = "\n".join(["[Unit]", "DefaultDependencies=no", "[Service]", *lines, ""])
        Path(f"/proc/{self.first}/root{UNITS}", unit).write_text(text)
        self.systemctl("daemon-reload")
        return unit

    def members(self, unit: str) -> set[int]:
        """Return the processes in a unit's control group, with their numbers outside."""
        group = self.show(unit, "ControlGroup")
        path = Path(f"{self.group}{group}", "cgroup.procs")
        if not group or not path.exists():
            return set()
        return {int(word) for word in path.read_text().split()}
