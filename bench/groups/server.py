"""Starts with the resident server, what it and each running program take, and a load of starts.

A load lasts a minute, which is what is judged; in a run of few rounds, some seconds, or
``CERTEXEC_BENCH_LOAD`` seconds where that is set. The same load of bare starts, right before and
beside the same programs, tells what the machine itself makes of it: where it stands still for 20 ms
now and then, as a guest does whose processors others use, twenty starts are late, of whatever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench.frame import (
    ENVIRONMENT,
    FULL_ROUNDS,
    OURS,
    UNPINNED,
    Bench,
    Limit,
    Line,
    compile_c,
    spread_line,
)
from bench.programs import every_name_policy, everything_policy

NAME = "server"
ABOUT = "the resident server: fork+exec of /bin/true, memory, a load of starts"
ORDER = 12
START = "supervised, resident server"
PLAIN = "kernel-only, resident server"
MEMORY = "memory of the resident server"
EACH = "memory of a supervised program's own"
FAILED = "failed starts"
TAIL_PLAIN = "p99 to median, kernel-only at 1,000 per second"
TAIL_SUPERVISED = "p99 to median, supervised at 60 % of capacity"
TAIL_MAX = 10
LIMITS = (
    Limit(START, 2.5), Limit(MEMORY, 40), Limit(EACH, 6), Limit(FAILED, 0.5),
    Limit(TAIL_PLAIN, TAIL_MAX), Limit(TAIL_SUPERVISED, TAIL_MAX),
)  # fmt: skip
PEERS = ()
PLACEMENTS = (UNPINNED,)
ALIVE = 200
"""supervised programs that are there meanwhile."""
LIFE = "3600"
"""seconds that they would live: longer than four loads that all take as long as they may."""
PER_SECOND = 1000
SHARE = 0.6
JUDGED_SECONDS, SHORT_SECONDS = 60.0, 5.0
GENERATOR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "offer.c")
BARE = "/bin/true"
LATE = 0.1
"""seconds; a median beyond it is a queue's that grows, whose tail is as long as its middle."""
CURRENT = "/usr/libexec/certexec/current"
MB = 1 << 20
SETTLE = 1.5
"""seconds until what was just signed, and the trust store, count as unchanged."""


def measure(bench: Bench) -> list[Line]:
    """Start the server, measure with it, and end it again."""
    true, sleep = os.path.realpath("/bin/true"), os.path.realpath("/bin/sleep")
    directory = bench.place.directory
    plain = bench.sign("server-plain", true, everything_policy(directory, true))
    supervised = bench.sign("server-supervised", true, every_name_policy(directory, true))
    sleeper = bench.sign("server-sleeper", sleep, every_name_policy(directory, sleep))
    with server() as pid:
        time.sleep(SETTLE)
        for certificate in (plain, supervised):
            subprocess.run([certificate], check=True, env=ENVIRONMENT)
        time.sleep(SETTLE)
        lines = bench.compare(
            {(START, OURS): [supervised], (PLAIN, OURS): [plain]}, ("/bin/true", [true]),
            rounds=bench.rounds * 3,
        )  # fmt: skip
        with alive(sleeper) as programs:
            lines.append(_line(MEMORY, [_own_memory(pid) / MB], "MB"))
            lines.append(_line(EACH, [_own_memory(one) / MB for one in _supervisors(pid)], "MB"))
            capacity = _capacity(supervised)
            seconds = _seconds(bench)
            generator = bench.once(
                "offer", lambda: compile_c(GENERATOR, bench.place.path("offer"))
            )
            failed = 0
            machine = 0.0
            for case, subject, program, rate in (
                (TAIL_PLAIN, BARE, true, PER_SECOND), (TAIL_PLAIN, OURS, plain, PER_SECOND),
                (TAIL_SUPERVISED, BARE, true, SHARE * capacity),
                (TAIL_SUPERVISED, OURS, supervised, SHARE * capacity),
            ):  # fmt: skip
                taken, bad = offer(generator, program, rate, seconds)
                failed += bad if subject == OURS else 0
                middle = statistics.median(taken)
                tail = statistics.quantiles(taken, n=100)[98]
                if middle > LATE:
                    print(
                        f"bench: half of these starts of {subject} ended {middle:.1f} s late: the "
                        f"machine does not make {rate:.0f} a second now, so their ratio says "
                        "nothing", file=sys.stderr,
                    )  # fmt: skip
                if subject == BARE:
                    machine = tail / middle
                elif tail / middle > TAIL_MAX:
                    print(tail_text(case, tail / middle, machine), file=sys.stderr)
                line = spread_line(case, subject, "", [tail / middle])
                line.detail |= {
                    "per_second": rate, "seconds": seconds, "median_milliseconds": middle * 1000,
                    "p99_milliseconds": tail * 1000, "alive": float(len(programs)),
                    "failed": float(bad),
                }  # fmt: skip
                lines.append(line)
            failed += sum(one.poll() is not None for one in programs)
            lines.append(_line(FAILED, [float(failed)], ""))
    return lines


def tail_text(case: str, ours: float, machine: float) -> str:
    """Say whose a tail is that is too long: the machine's, where bare starts have one, too."""
    whose = "the machine's" if machine > TAIL_MAX else "certexec's"
    return (
        f"bench: {case}: {ours:.0f} times the median; bare starts at the same rate, right before: "
        f"{machine:.0f} times, so the tail is {whose}"
    )


def _line(case: str, values: Sequence[float], unit: str) -> Line:
    return spread_line(case, OURS, "", values, unit=unit)


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Let a resident server run; yields its pid."""
    command = [f"{CURRENT}/python", "-I", "-S", f"{CURRENT}/serve.py", "--resident"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists("/run/certexec/server.pid"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the resident server does not start")
            time.sleep(0.01)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def alive(certificate: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Let ``ALIVE`` supervised programs run."""
    programs = [
        subprocess.Popen([certificate, LIFE], stdin=subprocess.DEVNULL, env=ENVIRONMENT)
        for _ in range(ALIVE)
    ]
    try:
        for one in programs:
            while os.path.basename(os.readlink(f"/proc/{one.pid}/exe")) != "sleep":
                time.sleep(0.001)
        time.sleep(SETTLE)
        yield programs
    finally:
        for one in programs:
            one.send_signal(signal.SIGKILL)
        for one in programs:
            one.wait()


def _supervisors(server_pid: int) -> list[int]:
    with open(f"/proc/{server_pid}/task/{server_pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _own_memory(pid: int) -> int:
    """Return what a process alone keeps in memory, in bytes (proc_pid_smaps(5))."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        lines = dict(line.split(":", 1) for line in file if line.startswith("Private"))
    return sum(int(value.split()[0]) << 10 for value in lines.values())


def _capacity(certificate: str, seconds: float = 2.0) -> float:
    """Return how many starts end in a second when as many run at once as there are processors."""
    running: set[int] = set()
    done = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        while len(running) < (os.cpu_count() or 1):
            running.add(os.posix_spawn(certificate, [certificate], ENVIRONMENT))
        pid, status = os.wait()
        running.discard(pid)
        done += status == 0
    taken = time.monotonic() - began
    while running:
        running.discard(os.wait()[0])
    return done / taken


def _seconds(bench: Bench) -> float:
    told = os.environ.get("CERTEXEC_BENCH_LOAD")
    return float(told or (JUDGED_SECONDS if bench.rounds >= FULL_ROUNDS else SHORT_SECONDS))


def offer(generator: str, program: str, rate: float, seconds: float) -> tuple[list[float], int]:
    """Start something ``rate`` times a second, however long each takes (bench/offer.c).

    Returns the seconds from when each was due until it had ended, and how many failed, or had not
    ended in time.
    """
    command = [generator, f"{rate:.6f}", f"{seconds:.3f}", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    taken, failed = [], 0
    for line in done.stdout.splitlines():
        ended, status = (int(word) for word in line.split())
        failed += ended < 0 or status != 0
        if ended >= 0:
            taken.append(ended / 1e9)
    return taken, failed
