"""The mechanism alone: binfmt_misc, launcher and execveat, without judgement."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
from collections.abc import Iterator

from bench.pairs import Command, measure, ratio
from bench.programs import kernel_only_policy, no_op
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import compile_policy
from certexec.policy.decisions import TreeOptions
from certexec.policy.syntax import parse_policy
from certexec.run.channel import Channel
from certexec.run.plan import Plan
from demo.stage import HANDLERS, Stage

HERE = os.path.dirname(os.path.abspath(__file__))
CURRENT = "/usr/libexec/certexec/current"
LAUNCHER = "/usr/libexec/certexec/launch"


def launch_lines(
    place: Stage, rounds: int, targets: dict[str, float]
) -> list[dict[str, object]]:
    """Measure binfmt, launcher and execveat of a static no-op beside that no-op and /bin/true.

    Three commands make up the mechanism: the installed launcher, which finds its answer waiting
    (``launch --run``, as ``certexec run`` starts it); a file whose binfmt_misc interpreter is the
    no-op; and the no-op alone. The first, and what the second costs above the third, is a launch
    without the start of a server. A fourth is the whole with a server that answers at once: inside
    the stage's own set-up it takes the policy server's place, all else is the installed thing.
    """
    program = no_op(place.directory, "program")
    certificate = os.path.join(place.bin, "instant")
    policy = kernel_only_policy(place.directory, program)
    place.certexec(
        "sign", "-k", place.path("ops.key"), "-p", policy, "--allow-everyone",
        "-o", certificate, program,
    )  # fmt: skip
    plan = _plan(policy)
    with open(place.path("plan"), "wb") as file:
        file.write(plan)
    _exchange_server(place)
    with _handler(place, program) as by_handler:
        commands: dict[str, Command] = {
            "launcher": lambda: _answered(plan, program), "binfmt": [by_handler],
            "certificate": [certificate], "no-op": [program], "true": ["/bin/true"],
        }  # fmt: skip
        times = measure(commands, rounds, {"PATH": "/usr/bin:/bin"})
    times["launch"] = [
        launcher + binfmt - bare
        for launcher, binfmt, bare in zip(
            times["launcher"], times["binfmt"], times["no-op"], strict=True
        )
    ]
    lines: list[dict[str, object]] = []
    shown = {"launch": "binfmt, launcher, execveat", "certificate": "the same, a server started"}
    for name, what in shown.items():
        for base in targets:
            low, middle, high = ratio(times, name, base)
            target = targets[base] if name == "launch" else None
            lines.append(
                {
                    "what": what, "base": base, "ratio": round(middle, 3),
                    "quartiles": [low, high], "target": target,
                    "held": target is None or middle <= target,
                    "milliseconds": round(statistics.median(times[name]) * 1000, 3),
                    "base_milliseconds": round(statistics.median(times[base]) * 1000, 3),
                }  # fmt: skip
            )
    return lines


@contextlib.contextmanager
def _answered(plan: bytes, program: str) -> Iterator[list[str]]:
    """Make the command line of a launcher whose answers are already in its socket."""
    ours, launchers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = contextlib.closing(Channel(ours.detach()))
    with launchers, channel as server, open(program, "rb") as file:
        server.send_ready()
        server.send_plan(plan, file.fileno())
        launchers.set_inheritable(True)
        yield [LAUNCHER, "--run", str(launchers.fileno()), "program"]


@contextlib.contextmanager
def _handler(place: Stage, interpreter: str) -> Iterator[str]:
    """Register a second handler, with certexec's flags; yields a file that it takes."""
    name, magic = "certexec-bench", "CXBENCH"
    with open(f"{HANDLERS}/register", "w") as file:
        file.write(f":{name}:M:0:{magic}::{interpreter}:POCF")
    try:
        yield place.write("by-handler", magic, 0o755)
    finally:
        with open(f"{HANDLERS}/{name}", "w") as file:
            file.write("-1")


def _plan(policy: str) -> bytes:
    with open(policy) as file:
        parsed = parse_policy(file.read(), name=policy, users=SystemUsers(), privileged=True)
    options = TreeOptions(full_log=False, privileged=False, capable=False)
    compiled = compile_policy(parsed.policies[0], options)
    plan = Plan()
    plan.ruid = plan.euid = os.getuid()
    plan.rgid = plan.egid = os.getgid()
    plan.bpf, plan.patches = compiled.bpf, compiled.patches
    return plan.encode()


def _exchange_server(place: Stage) -> None:
    """Make "current" a version whose interpreter is the instant server."""
    fake = place.path("fake")
    os.mkdir(fake, 0o755)
    gcc = shutil.which("gcc") or "gcc"
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-s"]
    binfmt = os.path.join(os.path.dirname(HERE), "binfmt")
    where = f'-DBESIDE="{place.directory}"'
    source = os.path.join(HERE, "instant_server.c")
    target = os.path.join(fake, "python")
    subprocess.run([gcc, *flags, f"-I{binfmt}", where, "-o", target, source], check=True)
    os.symlink(fake, f"{CURRENT}.bench")
    os.replace(f"{CURRENT}.bench", CURRENT)
