"""What single calls cost a program that is supervised, beside other ways to look at them."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess

from demo.stage import Stage

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = {"bare": 20000, "certexec": 400, "strace --seccomp-bpf": 200, "bwrap": 20000, "proot": 400}
"""Calls in a batch, as many as take some milliseconds; a batch is measured nine times."""
TARGETS = {"unselected": 1.05, "registers": 12.0, "openat": 100.0}
PEERS = {
    "strace --seccomp-bpf": (
        "strace", "-f", "--seccomp-bpf", "-o", "/dev/null",
        "-e", "trace=openat,pidfd_open,newfstatat",
    ),
    "bwrap": ("bwrap", "--dev-bind", "/", "/"),
    "proot": ("proot", "-r", "/"),
}  # fmt: skip


def call_lines(place: Stage, runs: int) -> list[dict[str, object]]:
    """Measure each call in every surrounding, ``runs`` times by turns, as ratios to bare."""
    program = place.path("calls")
    source = os.path.join(HERE, "calls.c")
    gcc = shutil.which("gcc") or "gcc"
    subprocess.run([gcc, "-O2", "-o", program, source], check=True)
    certificate = os.path.join(place.bin, "calls")
    place.certexec(
        "sign", "-k", place.path("ops.key"), "-p", _policy(place, program), "--allow-everyone",
        "-o", certificate, program,
    )  # fmt: skip
    surroundings: dict[str, list[str]] = {"bare": [program], "certexec": [certificate]}
    for name, words in PEERS.items():
        if shutil.which(words[0]):
            surroundings[name] = [*words, program]
        else:
            print(f"bench: {words[0]} is not installed")
    found: dict[str, dict[str, list[float]]] = {name: {} for name in surroundings}
    for _ in range(runs):
        for name, command in surroundings.items():
            for call, cost in _run([*command, str(ROUNDS[name])]).items():
                found[name].setdefault(call, []).append(cost)
    lines: list[dict[str, object]] = []
    for name in surroundings:
        if name == "bare":
            continue
        for call, costs in found[name].items():
            lines.append(_line(name, call, costs, found["bare"][call]))
    return lines


def _line(
    name: str, call: str, costs: list[float], bare: list[float]
) -> dict[str, object]:
    ratios = [one / other for one, other in zip(costs, bare, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    target = TARGETS.get(call) if name == "certexec" else None
    return {
        "what": f"{call}, {name}", "base": f"bare {call}", "ratio": round(middle, 3),
        "quartiles": [low, high], "target": target, "held": target is None or middle <= target,
        "microseconds": round(statistics.median(costs) / 1000, 3),
        "base_microseconds": round(statistics.median(bare) / 1000, 3),
    }  # fmt: skip


def _run(command: list[str]) -> dict[str, float]:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    return {name: float(cost) for name, cost in (line.split() for line in done.stdout.splitlines())}


def _policy(place: Stage, program: str) -> str:
    """Judge names by rules; pidfd_open is permitted, and looked at for the supervisor's sake."""
    from certexec.kernel.syscalls import NUMBERS
    from certexec.policy.calls import SUPERVISED

    judged = {*SUPERVISED, "clone3"}
    rules = ['native-fsread: filename match "/*" then permit']
    rules += [
        f"native-{name}: permit"
        for name in NUMBERS if name not in judged and not name.startswith("io_uring")
    ]
    text = f"Policy: {program}, Emulation: native\n" + "".join(f"\t{rule}\n" for rule in rules)
    return place.write("calls.policy", text)
