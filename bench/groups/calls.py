"""What single calls cost a program that is confined, beside other ways to look at them."""

from __future__ import annotations

import os
import subprocess

from bench.frame import (
    BOTH,
    ENVIRONMENT,
    OURS,
    UNPINNED,
    Bench,
    Limit,
    Line,
    compile_c,
    spread_line,
)
from bench.programs import trees_policy
from demo.stage import Stage

NAME = "calls"
ABOUT = "one system call of a confined program, as a multiple of the same call bare"
ORDER = 30
LIMITS = (
    Limit("getpid, kernel-only", 1.05),
    Limit("openat, kernel-only", 1.40),
    Limit("stat, kernel-only", 1.10),
    Limit("getpid, supervised", 1.05),
    Limit("pread of 4 KiB, supervised", 1.05),
    Limit("mmap and munmap, supervised", 1.05),
    Limit("pidfd_open by registers, supervised", 10, (UNPINNED,)),
    Limit("openat, supervised", 30, (UNPINNED,)),
)
PEERS = ("bubblewrap", "minijail0", "nsjail", "firejail", "strace", "proot")
PLACEMENTS = BOTH

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "calls.c")
NAMES = {
    "unselected": "getpid", "reads": "pread of 4 KiB", "maps": "mmap and munmap",
    "registers": "pidfd_open by registers", "openat": "openat", "stat": "stat",
}  # fmt: skip
"""What calls.c prints, and how it is shown."""
FAST, SLOW = 20000, 400
"""Calls in a batch, as many as take some milliseconds."""
BATCHES = 9
"""of each call in one run of the programs."""
TRACERS = ("strace", "proot")
"""Peers that look at calls from another process: measured beside supervised lines."""
FLOOR = "a filter that permits everything"
"""What any seccomp filter costs on this kernel and processor, whatever it says."""
RUNS = 8
"""A run of the programs for so many rounds: where their memory lies differs from run to run."""
TRACED = "openat,pidfd_open,newfstatat"


class _Program:
    """The timing program in one surrounding; it measures when it is asked."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=ENVIRONMENT,
        )  # fmt: skip

    def cost(self, call: str) -> float:
        """Return the nanoseconds of one call, over a batch of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{call}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}")


def measure(bench: Bench) -> list[Line]:
    """Let the timing program run in all surroundings at once, and ask one after the other."""
    program, kernel_only, supervised = bench.once("calls", lambda: _make(bench))
    surroundings: dict[tuple[str, str], list[str]] = {
        ("", "bare"): [program, str(FAST)],
        ("kernel-only", OURS): [kernel_only, str(FAST)],
        ("kernel-only", FLOOR): [program, str(FAST), "filter"],
        ("supervised", OURS): [supervised, str(SLOW)],
    }
    for name, peer in bench.peers(PEERS).items():
        kind, count = ("supervised", SLOW) if name in TRACERS else ("kernel-only", FAST)
        words = [*_traced(name, peer.start([program])), str(count)]
        surroundings[kind, name] = words
    found: dict[tuple[str, str], dict[str, list[float]]] = {
        key: {call: [] for call in NAMES} for key in surroundings
    }
    runs = max(3, bench.rounds // RUNS)
    for number in range(runs):
        programs = {key: _Program(command) for key, command in surroundings.items()}
        for call in NAMES:
            for _ in range(BATCHES):
                for key, one in programs.items():
                    found[key][call].append(one.cost(call))
        for one in programs.values():
            one.end()
        bench.step(number + 1, runs)
    bare = found.pop(("", "bare"))
    return [
        _line(f"{NAMES[call]}, {kind}", subject, NAMES[call], costs, bare[call])
        for (kind, subject), calls in found.items() for call, costs in calls.items()
    ]


def _line(
    case: str, subject: str, call: str, costs: list[float], bare: list[float]
) -> Line:
    ratios = [one / other for one, other in zip(costs, bare, strict=True)]
    detail = {
        "microseconds": sorted(costs)[len(costs) // 2] / 1000,
        "base_microseconds": sorted(bare)[len(bare) // 2] / 1000,
    }
    return spread_line(case, subject, f"bare {call}", ratios, detail=detail)


def _traced(name: str, words: list[str]) -> list[str]:
    """Let strace look at the calls that our policy looks at."""
    if name != "strace":
        return words
    return [f"trace={TRACED}" if word.startswith("trace=") else word for word in words]


def _make(bench: Bench) -> tuple[str, str, str]:
    """Compile the program, and sign it twice."""
    program = compile_c(SOURCE, bench.place.path("calls"))
    trees = trees_policy(bench.place.directory, program)
    return (
        program,
        bench.sign("calls-kernel", program, trees),
        bench.sign("calls-supervised", program, _policy(bench.place, program)),
    )


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
