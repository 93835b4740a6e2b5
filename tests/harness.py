"""The harnesses that play attacks, run as commands and read from their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.isolation import MUST_WORK, PROJECT, skip_or_fail

TIME_LIMIT = 900
"""seconds; on an idle machine each takes one or two minutes."""


def play(module: str, *options: str) -> dict[str, Any]:
    """Run ``python -m MODULE --json``, which must succeed; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--json", *options],
        cwd=PROJECT, capture_output=True, text=True, timeout=TIME_LIMIT,
    )  # fmt: skip
    if done.returncode == 2:
        skip_or_fail(done.stderr.strip())
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    if report["left_out"]:
        print("left out:", report["left_out"])
        assert not MUST_WORK, report["left_out"]
    assert done.returncode == 0, [
        (one["name"], one["problems"])
        for one in (*report["attacks"], *report["mutations"]) if one["problems"]
    ]  # fmt: skip
    return report
