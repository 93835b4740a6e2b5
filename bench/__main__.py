"""Measure, print ratios with their spread beside their targets, write bench/results/latest.json."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time

from bench.calls import call_lines
from bench.launch import launch_lines
from bench.pairs import measure, ratio
from bench.programs import PADDING, kernel_only_policy, no_op, supervised_policy
from demo.stage import RUN_ONLY, Stage, stage

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
FIRST_RUN_TARGET = 5.5
LAUNCH_TARGETS = {"no-op": 3.5, "true": 1.25}


def first_runs(place: Stage, rounds: int) -> list[dict[str, object]]:
    """A certificate typed by name, without a server, against a bare interpreter."""
    python = os.path.realpath("/usr/libexec/certexec/current/python")
    small = no_op(place.directory, "noop")
    large = no_op(place.directory, "noop-2m", PADDING)
    commands: dict[str, list[str]] = {"python3 -I -S -c pass": [python, "-I", "-S", "-c", "pass"]}
    for program in (small, large):
        for policy in (kernel_only_policy, supervised_policy):
            path = policy(place.directory, program)
            name = f"{os.path.basename(program)}-{os.path.basename(path).split('.')[0]}"
            target = os.path.join(place.bin, name)
            place.certexec(
                "sign", "-k", place.path("ops.key"), "-p", path, "--allow-everyone",
                "-o", target, program,
            )  # fmt: skip
            commands[name] = [target]
    times = measure(commands, rounds, {"PATH": "/usr/bin:/bin"})
    base = "python3 -I -S -c pass"
    return [line(times, name, base, FIRST_RUN_TARGET) for name in commands if name != base]


def line(
    times: dict[str, list[float]], name: str, base: str, target: float
) -> dict[str, object]:
    """Sum up one ratio."""
    low, middle, high = ratio(times, name, base)
    return {
        "what": name, "base": base, "ratio": round(middle, 3), "quartiles": [low, high],
        "target": target, "held": middle <= target,
        "milliseconds": round(statistics.median(times[name]) * 1000, 3),
        "base_milliseconds": round(statistics.median(times[base]) * 1000, 3),
    }  # fmt: skip


def main() -> int:
    """Run everything; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="interleaved rounds (40)")
    options = parser.parse_args()
    with stage() as place:
        if place.mode == RUN_ONLY:
            print("bench: the kernel handler cannot be registered here", file=sys.stderr)
            return 2
        place.certexec("keygen", "--no-passphrase", "-f", place.path("ops"))
        place.certexec("trust", "add", place.path("ops.pub"))
        lines = first_runs(place, options.rounds)
        lines += call_lines(place, max(3, options.rounds // 8))
        lines += launch_lines(place, options.rounds * 5, LAUNCH_TARGETS)
    for entry in lines:
        low, high = entry["quartiles"]  # type: ignore[misc]
        target = f"target {entry['target']}: {'holds' if entry['held'] else 'MISSED'}"
        print(
            f"{entry['what']:30} {entry['ratio']:6.2f} x {entry['base']}"
            f" [{low:.2f} .. {high:.2f}]  {'' if entry['target'] is None else target}".rstrip()
        )
    os.makedirs(RESULTS, exist_ok=True)
    report = {
        "schema": 1, "when": int(time.time()), "kernel": os.uname().release,
        "processors": os.cpu_count(), "lines": lines,
    }  # fmt: skip
    fresh = os.path.join(RESULTS, "latest.json.tmp")
    with open(fresh, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    os.replace(fresh, os.path.join(RESULTS, "latest.json"))
    return 0 if all(entry["held"] for entry in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
