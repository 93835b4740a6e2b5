"""The mechanism alone: binfmt_misc, launcher and execveat, without judgement.

Three commands make up the mechanism: the installed launcher, which finds its answer waiting
(``launch --run``, as ``certexec run`` starts it); a file whose binfmt_misc interpreter is the
no-op; and the no-op alone. The first, and what the second costs above the third, is a launch
without the start of a server. A fourth is the whole with a server that answers at once: inside
the stage's own set-up it takes the policy server's place, all else is the installed thing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from bench.frame import BOTH, ENVIRONMENT, OURS, Bench, Limit, Line, compile_c, ratio_line
from bench.pairs import Command
from bench.pairs import measure as measure_commands
from bench.programs import FREESTANDING, kernel_only_policy, no_op
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import compile_policy
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from certexec.run.channel import Channel
from certexec.run.plan import Plan
from demo.stage import HANDLERS, Stage

NAME = "launch"
ABOUT = "binfmt_misc, launcher and execveat of a static no-op, without a start of Python"
ORDER = 90
LIMITS = (Limit("beside that no-op", 3.5), Limit("beside /bin/true", 1.25))
PEERS = ()
PLACEMENTS = BOTH
ROUNDS = 5
"""times the rounds: each takes a millisecond."""
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CURRENT = "/usr/libexec/certexec/current"
LAUNCHER = "/usr/libexec/certexec/launch"


def measure(bench: Bench) -> list[Line]:
    """Measure the parts and the whole; afterwards the installed server stands in its place."""
    place = bench.place
    program, certificate, plan = bench.once("launch", lambda: _make(bench))
    with _exchanged_server(bench, plan), _handler(place, program) as by_handler:
        commands: dict[str, Command] = {
            "launcher": lambda: _answered(plan, program), "binfmt": [by_handler],
            "certificate": [certificate], "no-op": [program], "true": ["/bin/true"],
        }  # fmt: skip
        times = measure_commands(commands, bench.rounds * ROUNDS, ENVIRONMENT)
    launch = [
        launcher + binfmt - bare
        for launcher, binfmt, bare in zip(
            times["launcher"], times["binfmt"], times["no-op"], strict=True
        )
    ]
    lines = []
    for base, shown in (("no-op", "that no-op"), ("true", "/bin/true")):
        lines.append(ratio_line(f"beside {shown}", OURS, shown, launch, times[base]))
        whole = f"with an instant server, beside {shown}"
        lines.append(ratio_line(whole, OURS, shown, times["certificate"], times[base]))
    return lines


def _make(bench: Bench) -> tuple[str, str, bytes]:
    program = no_op(bench.place.directory, "program")
    policy = kernel_only_policy(bench.place.directory, program)
    return program, bench.sign("instant", program, policy), _plan(policy)


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


@contextlib.contextmanager
def _exchanged_server(bench: Bench, plan: bytes) -> Iterator[None]:
    """Make "current" a version whose interpreter is the instant server, for a while."""
    fake = bench.once("instant server", lambda: _instant_server(bench.place, plan))
    before = os.readlink(CURRENT)
    _point_current_to(fake)
    try:
        yield
    finally:
        _point_current_to(before)


def _instant_server(place: Stage, plan: bytes) -> str:
    fake = place.path("fake")
    os.mkdir(fake, 0o755)
    with open(place.path("plan"), "wb") as file:
        file.write(plan)
    binfmt = os.path.join(os.path.dirname(HERE), "binfmt")
    compile_c(
        os.path.join(HERE, "instant_server.c"), os.path.join(fake, "python"),
        *FREESTANDING, f"-I{binfmt}", f'-DBESIDE="{place.directory}"',
    )  # fmt: skip
    return fake


def _point_current_to(target: str) -> None:
    os.symlink(target, f"{CURRENT}.bench")
    os.replace(f"{CURRENT}.bench", CURRENT)
