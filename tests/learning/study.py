"""Learn what a program does, sign what was learned, and run it again, in a world of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.execution.world import ALICE, World

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BASH = os.path.realpath("/bin/bash")
TIME_LIMIT = 120
"""seconds for one script; they take two at most."""


class Study:
    """One program of which a policy is learned: bash, with a script to run.

    Attributes:
        home: where $HOME leads; place: the directory that the script is started in.
    """

    def __init__(self, world: World, name: str, uid: int = ALICE) -> None:
        self.world = world
        self.name = name
        self.uid = uid
        self.home = world.directory(f"{name}-home", owner=uid)
        self.place = world.directory(f"{name}-place", owner=uid)
        self.policy = self.place.parent / f"{name}.policy"

    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": PATH, "LC_ALL": "C", "USER": "alice"}

    def empty(self) -> None:
        """Take away what a run left."""
        for one in self.place.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()

    def script(self, program: str, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.world.run(
            program, "-c", text, self.name, *arguments, uid=self.uid, cwd=self.place,
            timeout=TIME_LIMIT, env=self.environment(),
        )  # fmt: skip

    def learn(self, *words: str, options: tuple[str, ...] = ("--inherit",)) -> str:
        """Learn, as the user, and return the policy."""
        out = str(self.home / "learned")
        done = self.world.run(
            sys.executable, "-P", "-m", "certexec.cli.main", "learn", "-f", "-o", out, *options,
            "--", *words, uid=self.uid, cwd=self.place, timeout=TIME_LIMIT,
            env={**self.environment(), "PYTHONPATH": str(self.world.package)},
        )  # fmt: skip
        self.said = done.stdout + done.stderr
        assert done.returncode == 0, self.said
        text = Path(out).read_text()
        os.unlink(out)
        return text

    def learn_script(self, text: str, *arguments: str, **options: tuple[str, ...]) -> str:
        return self.learn(BASH, "-c", text, self.name, *arguments, **options)

    def sign(self, text: str, *options: str, program: str = BASH) -> str:
        """Sign what was learned; returns the certificate."""
        return self.world.sign(f"learned-{self.name}", program, *options, text=text)
