"""The first run ever: a certificate typed by name, no server and no plan there."""

from __future__ import annotations

import os

from bench.frame import BOTH, OURS, Bench, Limit, Line
from bench.pairs import Command
from bench.programs import PADDING, kernel_only_policy, no_op, supervised_policy

NAME = "first"
ABOUT = "the first run of a certificate, without a server and without a plan"
ORDER = 20
MOST = 5.5
CASES = (
    "kernel-only, small binary", "supervised, small binary", "kernel-only, 2 MB", "supervised, 2 MB"
)
LIMITS = tuple(Limit(case, MOST) for case in CASES)
PEERS = ()
PLACEMENTS = BOTH
BASE = "python3 -I -S -c pass"
PYTHON = "/usr/libexec/certexec/current/python"


def measure(bench: Bench) -> list[Line]:
    """Measure static no-ops beside a bare interpreter."""
    certificates = bench.once("first", lambda: _make(bench))
    python = os.path.realpath(PYTHON)
    commands: dict[tuple[str, str], Command] = {
        (case, OURS): [path] for case, path in zip(CASES, certificates, strict=True)
    }
    return bench.compare(commands, (BASE, [python, "-I", "-S", "-c", "pass"]))


def _make(bench: Bench) -> list[str]:
    directory = bench.place.directory
    made = []
    for name, padding in (("noop", 0), ("noop-2m", PADDING)):
        program = no_op(directory, name, padding)
        for policy in (kernel_only_policy, supervised_policy):
            kind = "k" if policy is kernel_only_policy else "s"
            made.append(bench.sign(f"{name}-{kind}", program, policy(directory, program)))
    return made
