"""The same program in the three ways in which a certificate can run it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.execution.world import ALICE, SUPERVISED, World, policy

PYTHON = os.path.realpath(sys.executable)
PLAIN, WATCHED, GRANT = "plain", "supervised", "grant"
"""Confined by the kernel alone; with a supervisor; with a supervisor and another identity."""
MODES = (PLAIN, WATCHED, GRANT)


class Programs:
    """Certificates for Python, made when first asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made: dict[str, str] = {}

    def path(self, mode: str) -> str:
        """Return the certificate that runs Python in this way."""
        if mode not in self.made:
            if mode == GRANT:
                self.made[mode] = self.world.install(
                    "python-grant", PYTHON, "--setuid", "service", "--allow-user", "alice"
                )
            else:
                text = policy(PYTHON, *(SUPERVISED if mode == WATCHED else ()))
                self.made[mode] = self.world.sign(f"python-{mode}", PYTHON, text=text)
        return self.made[mode]

    def run(
        self, mode: str, code: str, *argv: str, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code in this way, as Alice, and wait for it."""
        return self.world.run(self.path(mode), "-I", "-S", "-c", code, *argv, **options)

    def output(self, mode: str, code: str, *argv: str, **options: Any) -> str:
        """Run Python code that must succeed in silence; returns what it printed."""
        done = self.run(mode, code, *argv, **options)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def start(self, mode: str, code: str, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python code in this way."""
        return self.world.start(self.path(mode), "-I", "-S", "-c", code, *argv, **options)

    def bare(self, code: str, *argv: str, **options: Any) -> str:
        """Run the same code without certexec."""
        return self.world.python(code, *argv, uid=ALICE, **options)
