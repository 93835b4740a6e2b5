"""Whole programs under a certificate, beside the same programs bare and under peers.

With the resident server, which is what `certexec setup` leaves on a machine with systemd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial

from bench.frame import BOTH, ENVIRONMENT, OURS, Bench, Limit, Line
from bench.groups.server import SETTLE, server
from bench.pairs import Command
from bench.programs import every_name_policy, everything_policy

NAME = "whole"
ABOUT = "whole programs, from the shell's fork to their exit, with the resident server"
ORDER = 40
KINDS = {"kernel-only": 1.05, "supervised": 1.5}
TASKS = ("git status", "tar of a tree", "gcc compile", "40 execs in a shell")
LIMITS = tuple(Limit(f"{task}, {kind}", most) for task in TASKS for kind, most in KINDS.items())
PEERS = ("bubblewrap", "minijail0", "nsjail", "firejail", "strace", "proot")
LOOKS_ON = ("strace", "proot")
PLACEMENTS = BOTH
ROUNDS = 2
"""a share of the rounds: a round takes seconds."""
FILES = 1000
"""in the tree, of 20 KB each, as documents have on average."""
EXECS = "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i+1)); done"
SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) { return puts("x"); }
"""


def measure(bench: Bench) -> list[Line]:
    """Measure the four tasks; one whose program is missing here is left out."""
    tasks = bench.once("whole", lambda: _make(bench))
    with server():
        time.sleep(SETTLE)
        return _compare(bench, tasks)


def _compare(
    bench: Bench, tasks: dict[str, tuple[list[str], dict[str, str]]]
) -> list[Line]:
    lines = []
    for task, (argv, certificates) in tasks.items():
        commands: dict[tuple[str, str], Command] = {
            (f"{task}, {kind}", OURS): [path, *argv[1:]] for kind, path in certificates.items()
        }
        for name, peer in bench.peers(PEERS).items():
            kind = "supervised" if name in LOOKS_ON else "kernel-only"
            commands[f"{task}, {kind}", name] = peer.start(argv)
        rounds = max(3, bench.rounds // ROUNDS)
        lines += bench.compare(commands, (f"bare {task}", argv), rounds=rounds)
    return lines


def _make(bench: Bench) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Make what the tasks work on; return argument vector and certificates by task."""
    tree = bench.place.path("tree")
    for number in range(FILES):
        directory = os.path.join(tree, f"d{number % 20}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"f{number}"), "w") as file:
            file.write(f"{number}\n" * 4000)
    source = bench.place.write("main.c", SOURCE)
    archive = bench.place.path("tree.tar")
    makers: dict[str, Callable[[], list[str]]] = {
        "git status": lambda: _git(tree),
        "tar of a tree": lambda: ["tar", "-C", bench.place.directory, "-cf", archive, "tree"],
        # through a shell: gcc looks for its parts beside the name that it was started by
        "gcc compile": lambda: ["sh", "-c", f"exec gcc -O1 -c {source} -o {source}.o"],
        "40 execs in a shell": lambda: ["sh", "-c", EXECS],
    }
    made = {}
    for task, maker in makers.items():
        argv = maker()
        found = shutil.which(argv[0], path=ENVIRONMENT["PATH"])
        if found is None:
            print(f"bench: {argv[0]} is not installed")
            continue
        program = os.path.realpath(found)
        certificates = bench.once(program, partial(_certificates, bench, program))
        made[task] = ([program, *argv[1:]], certificates)
    return made


def _certificates(bench: Bench, program: str) -> dict[str, str]:
    """Sign a program twice, under its own name: git and others look at it."""
    base, directory = os.path.basename(program), bench.place.directory
    policies = {"kernel-only": everything_policy, "supervised": every_name_policy}
    return {
        kind: bench.sign(f"{kind}/{base}", program, policy(directory, program))
        for kind, policy in policies.items()
    }


def _git(tree: str) -> list[str]:
    """Make a repository of the tree, where git is installed."""
    quiet = ["-c", "user.name=x", "-c", "user.email=x", "-c", "safe.directory=*"]
    if shutil.which("git", path=ENVIRONMENT["PATH"]):
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
            subprocess.run(["git", *quiet, "-C", tree, *words], check=True, env=ENVIRONMENT)
    return ["git", "-c", "safe.directory=*", "-C", tree, "status", "--short"]
