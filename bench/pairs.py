"""Time whole commands beside each other: interleaved rounds, ratios of the same round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

K = TypeVar("K")
Command = Sequence[str] | Callable[[], AbstractContextManager[Sequence[str]]]
"""An argument vector, or what makes one for each run and tidies up behind it, both untimed."""

WARM_UP = 3
"""rounds that are not counted: page cache, first-use costs of the kernel."""


def run_once(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the seconds from start to exit of one command; raises RuntimeError if it fails."""
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=null)
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {status}")
    return taken


def measure(
    commands: Mapping[K, Command], rounds: int, environment: Mapping[str, str]
) -> dict[K, list[float]]:
    """Run every command once per round, in turn; seconds by name, one per counted round."""
    result: dict[K, list[float]] = {name: [] for name in commands}
    for number in range(WARM_UP + rounds):
        for name, command in commands.items():
            if callable(command):
                with command() as argv:
                    taken = run_once(argv, environment)
            else:
                taken = run_once(command, environment)
            if number >= WARM_UP:
                result[name].append(taken)
    return result
