"""Time whole commands beside each other: interleaved rounds, ratios of the same round."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
    commands: Mapping[K, Command], rounds: int, environment: Mapping[str, str],
    optional: Collection[K] = (), step: Callable[[int, int], None] = lambda done, total: None,
) -> dict[K, list[float]]:  # fmt: skip
    """Run every command once per round, in turn; seconds by name, one per counted round.

    ``optional``: what may fail; it is named and left out from then on. ``step`` is told how many
    rounds of how many are done.
    """
    result: dict[K, list[float]] = {name: [] for name in commands}
    for number in range(WARM_UP + rounds):
        for name in list(result):
            try:
                taken = _timed(commands[name], environment)
            except (RuntimeError, OSError) as error:
                if name not in optional:
                    raise
                print(f"bench: left out: {error}", file=sys.stderr)
                del result[name]
                continue
            if number >= WARM_UP:
                result[name].append(taken)
        step(number + 1, WARM_UP + rounds)
    return result


def _timed(command: Command, environment: Mapping[str, str]) -> float:
    if not callable(command):
        return run_once(command, environment)
    with command() as argv:
        return run_once(argv, environment)
