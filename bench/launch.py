"""The mechanism alone: binfmt_misc, launcher and execveat, with a server that does not judge."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess

from bench.pairs import measure, ratio
from bench.programs import kernel_only_policy, no_op
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import compile_policy
from certexec.policy.decisions import TreeOptions
from certexec.policy.syntax import parse_policy
from certexec.run.plan import Plan
from demo.stage import Stage

HERE = os.path.dirname(os.path.abspath(__file__))
CURRENT = "/usr/libexec/certexec/current"


def launch_lines(
    place: Stage, rounds: int, targets: dict[str, float]
) -> list[dict[str, object]]:
    """Measure a certificate of a static no-op beside that no-op and beside /bin/true.

    Inside the stage's own set-up the policy server is exchanged for one that answers at once with
    a plan made before; everything else is the installed thing.
    """
    program = no_op(place.directory, "program")
    certificate = os.path.join(place.bin, "instant")
    policy = kernel_only_policy(place.directory, program)
    place.certexec(
        "sign", "-k", place.path("ops.key"), "-p", policy, "--allow-everyone",
        "-o", certificate, program,
    )  # fmt: skip
    with open(place.path("plan"), "wb") as file:
        file.write(_plan(policy))
    _exchange_server(place)
    commands = {"certificate": [certificate], "no-op": [program], "true": ["/bin/true"]}
    times = measure(commands, rounds, {"PATH": "/usr/bin:/bin"})
    lines: list[dict[str, object]] = []
    for base, target in targets.items():
        low, middle, high = ratio(times, "certificate", base)
        lines.append(
            {
                "what": "launch without judgement", "base": base, "ratio": round(middle, 3),
                "quartiles": [low, high], "target": target, "held": middle <= target,
                "milliseconds": round(statistics.median(times["certificate"]) * 1000, 3),
                "base_milliseconds": round(statistics.median(times[base]) * 1000, 3),
            }  # fmt: skip
        )
    return lines


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
