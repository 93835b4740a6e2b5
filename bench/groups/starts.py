"""fork+exec of a certificate of /bin/true, from the second time on, beside the bare program."""

from __future__ import annotations

import os

from bench.frame import BOTH, OURS, Bench, Limit, Line
from bench.pairs import Command
from bench.programs import every_name_policy, everything_policy, trees_policy

NAME = "starts"
ABOUT = "fork+exec of /bin/true"
ORDER = 10
PLAIN = "kernel-only"
HEAVY = "20 trees, 8 rlimits, 60 rules"
SUPERVISED = "supervised"
"""Without a resident server; bench/groups/server.py has the line with one."""
LIMITS = (Limit(PLAIN, 1.20), Limit(HEAVY, 1.35))
PEERS = ("env", "sudo", "bubblewrap", "minijail0", "nsjail", "firejail", "strace", "proot")
LOOKS_ON = ("strace", "proot")
"""Peers that stay beside the program, as a supervisor does."""
PLACEMENTS = BOTH
RULES = 60
RLIMITS = (
    "nofile=256", "core=0", "stack=8M", "data=1G", "cpu=60", "fsize=1G", "memlock=64K", "as=4G"
)


def measure(bench: Bench) -> list[Line]:
    """Measure three certificates and the peers beside the program."""
    true = os.path.realpath("/bin/true")
    plain, heavy, supervised = bench.once("starts", lambda: _make(bench, true))
    commands: dict[tuple[str, str], Command] = {
        (PLAIN, OURS): [plain], (HEAVY, OURS): [heavy], (SUPERVISED, OURS): [supervised],
    }
    for name, peer in bench.peers(PEERS).items():
        commands[SUPERVISED if name in LOOKS_ON else PLAIN, name] = peer.start([true])
    return bench.compare(commands, ("/bin/true", [true]))


def _make(bench: Bench, true: str) -> list[str]:
    directory = bench.place.directory
    limits = [word for limit in RLIMITS for word in ("--rlimit", limit)]
    return [
        bench.sign("true-plain", true, everything_policy(directory, true)),
        bench.sign("true-heavy", true, trees_policy(directory, true, RULES), *limits),
        bench.sign("true-supervised", true, every_name_policy(directory, true)),
    ]
