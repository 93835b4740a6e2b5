"""Play one attack: under its certificate, without the defence, or bare; and judge how it went."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.escapes.attack import Attack
from tests.escapes.stage import HERE, PASSED, PROGRAMS, TIME_LIMIT, UFFD_DEVICE, Stage
from tests.execution.world import ALICE
from tests.supervision.conftest import PRELUDE, PYTHON

SOURCES = {"race": "race.c means.c", "abi32": "abi32.c"}
"""What programs in C are made of."""
PROVING = 50
"""Rounds from which on both the permitted and the forbidden thing are due in a race."""
PROOF_LIMIT = 30
"""seconds within which a missing defence must show."""
ATTEMPTS = 3
"""Runs that it has for that: without its defence a supervisor may also just stop to answer."""
_TALLY = re.compile(r"tries (\d+) passed (\d+) blocked (\d+) odd (\d+) escaped (\d+)\s*$")
WORDS = ("tries", "passed", "blocked", "odd", "escaped")


class Result:
    """What came of a run. ``problems``: why it failed, empty when the attack ended as it must."""

    def __init__(self, attack: Attack, check: str = "") -> None:
        self.name = attack.name
        self.check = check
        self.counts = dict.fromkeys(WORDS, 0)
        self.seconds = 0.0
        self.problems: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        check = {"without": self.check} if self.check else {}
        return {"name": self.name, **check, **self.counts, "seconds": round(self.seconds, 2),
                "problems": self.problems}  # fmt: skip


def _argv(stage: Stage, attack: Attack, rounds: int, first: bool) -> tuple[str, list[str]]:
    """Return the program and its arguments."""
    kind, goal, *more = attack.arguments
    words = [kind, goal, str(rounds), str(int(first)), str(stage.good), str(stage.evil), *more]
    words = [stage.fill(word) for word in words]
    if attack.program in SOURCES:
        return stage.program(SOURCES[attack.program]), words
    code = "\n".join([PRELUDE, *((PROGRAMS / name).read_text() for name in (
        "common.py", "variable.py", attack.program))])  # fmt: skip
    return PYTHON, ["-I", "-S", "-c", code, *words]


def _before(stage: Stage, attack: Attack, fds: Sequence[int]) -> str:
    """Return what is done before the program is executed: it finds two descriptors open."""
    return f"""
for number in {fds!r}:
    os.dup2(number, {UFFD_DEVICE})
    os.close(number)
os.dup2(os.open({str(stage.evil)!r}, os.O_RDONLY), {PASSED})
{stage.fill(attack.before)}
"""


def run(
    stage: Stage, attack: Attack, rounds: int, *, first: bool = False, bare: bool = False,
    limit: int = TIME_LIMIT,
) -> tuple[dict[str, int], str, str]:
    """Run the program once; returns its tally, all that it printed, and "" or what went wrong."""
    stage.sign_inside(attack)
    program, words = _argv(stage, attack, rounds, first)
    path = program
    if not bare:
        rules = stage.rules(attack.rules, attack.opens)
        text = stage.policy(
            program, rules, attack.without, [stage.fill(one) for one in attack.lines]
        )
        if attack.native is not None:
            part = text.replace("\tnative-", "\tlinux-").replace("native\n", "linux\n", 1)
            own = stage.policy(program, stage.rules(attack.native, attack.opens), ())
            text = f"Language: certexec 1\n{own}{part}"
        for other, *given in attack.policies:
            text += stage.policy(stage.fill(other), [stage.fill(one) for one in given], ())
        path = stage.certificate(program, text, attack.options)
    fds: tuple[int, ...] = ()
    if attack.needs == "/dev/userfaultfd":
        device = os.open(attack.needs, os.O_RDWR)
        fds = (device,)
    uid = ALICE if attack.uid is None else attack.uid
    try:
        if attack.act and not bare:
            ACTS[attack.act](stage)
        with stage.agent(attack.agent):
            done = stage.world.run(
                path, *words, uid=uid, before=_before(stage, attack, fds), timeout=limit,
                pass_fds=fds, env={name: stage.fill(text) for name, text in attack.env.items()},
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        stage.world.sweep()
        return dict.fromkeys(WORDS, 0), "", f"it did not end within {limit} seconds"
    finally:
        for fd in fds:
            os.close(fd)
    found = _TALLY.search(done.stdout)
    if found is None:
        said = (done.stdout + done.stderr).strip()[-600:]
        return dict.fromkeys(WORDS, 0), said, f"it ended with {done.returncode}: {said}"
    counts = dict(zip(WORDS, map(int, found.groups()), strict=True))
    return counts, done.stdout + done.stderr, ""


def _kill_supervisor(stage: Stage) -> None:
    """Kill the supervisor of the program that is about to start, once it says that it is ready."""
    known = set(stage.world.processes())

    def wait_and_kill() -> None:
        time.sleep(1)  # until the program serves itself
        for pid, line in stage.world.strangers().items():
            if pid not in known and "serve.py" in line:
                os.kill(pid, signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()


ACTS = {"kill": _kill_supervisor}
"""What the stage does while a program runs, by the attack's word for it."""


def _settle(stage: Stage, result: Result) -> None:
    left = stage.world.settle()
    stage.world.sweep()
    if left:
        result.problems.append(f"left behind: {left}")


def play(stage: Stage, attack: Attack, rounds: int) -> Result:
    """Play the attack as it must not succeed."""
    result = Result(attack)
    begin = time.perf_counter()
    stage.reset()
    result.counts, _, wrong = run(stage, attack, rounds)
    _settle(stage, result)
    result.seconds = time.perf_counter() - begin
    counts = result.counts
    if wrong:
        result.problems.append(wrong)
        return result
    disturbed = stage.disturbed()
    if disturbed:
        counts["escaped"] += 1
        result.problems.append(disturbed)
    if counts["escaped"]:
        result.problems.append(f"ESCAPED {counts['escaped']} times")
    if not counts["blocked"]:
        result.problems.append("not one try was blocked: nothing is proved")
    if attack.races and counts["tries"] >= PROVING and not counts["passed"]:
        result.problems.append("not one try passed: nothing was exchanged")
    return result


def prove(stage: Stage, attack: Attack) -> Result:
    """Play it without the defence, or bare where that is the kernel: it must succeed."""
    bare = not attack.defence
    check = f"bare ({attack.kernel})" if bare else describe(attack.defence)
    result = Result(attack, check)
    begin = time.perf_counter()
    stage.reset()
    with nullcontext() if bare else stage.without(attack.defence):
        for _ in range(ATTEMPTS):
            result.counts, _, wrong = run(
                stage, attack, attack.chances, first=True, bare=bare, limit=PROOF_LIMIT
            )
            stage.world.settle()
            stage.world.sweep()
            if result.counts["escaped"]:
                break
    result.seconds = time.perf_counter() - begin
    if stage.disturbed():
        result.counts["escaped"] += 1
    if not result.counts["escaped"]:
        result.problems.append(wrong or "the missing defence was not noticed: it is too weak")
    return result


def describe(mutation: str) -> str:
    """Return the text of a mutation."""
    from tests.escapes import mutations

    return str(getattr(mutations, mutation).__doc__)


def result_directory() -> Path:
    """Return where dated results go."""
    return HERE / "results"
