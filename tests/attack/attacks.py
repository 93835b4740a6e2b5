"""The attacks: what is changed, how, on which file system; and the runs that count."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.attack import mutations
from tests.attack.places import need_userfaultfd, upper_layer
from tests.attack.runs import EVIL_RAN, EXECUTED, KILLED, REFUSED, STRANGE, Outcome, Quick
from tests.attack.victims import NOBODY, Victim, Workshop

KINDS = ("rewrite", "rename", "mmap")
QUIET_RUNS = 6
"""Runs before anything is changed, to learn how long one takes."""
SPAN_MARGIN = 1.1
_PACKET = struct.Struct("<IIiI")
CONTROL = 3


class Attack:
    """One kind of victim, place and way of changing it.

    Attributes:
        name: SUBJECT/PLACE/KIND; subject, place, kind: its parts.
        integrity: what the certificate asks for.
        options: for the subject: ``attacked``, ``owner``, ``beneath`` (change the overlay's upper
            layer), ``spare`` (the place of an equal file elsewhere).
    """

    def __init__(
        self, subject: str, place: str, kind: str, integrity: str = "auto", **options: Any
    ) -> None:
        self.name = f"{subject}/{place}/{kind}" if integrity == "auto" else (
            f"{subject}/{place}/{kind}-{integrity}"
        )
        self.subject = subject
        self.place = place
        self.kind = kind
        self.integrity = integrity
        self.options = options

    def needs(self) -> list[str]:
        """Return the places without which it cannot be played."""
        return [self.place, *([self.options["spare"]] if "spare" in self.options else [])]


ATTACKS = [
    *(Attack("binary", place, kind) for place in ("ext4", "tmpfs", "overlayfs") for kind in KINDS),
    Attack("binary", "overlayfs", "mapped"),  # a writable mapping that exec does not notice
    Attack("beneath", "overlayfs", "rewrite"),  # through the upper layer's file
    Attack("binary", "ext4", "rewrite", "sealed"),
    Attack("binary", "ext4", "memfd", "sealed"),  # the copy in memory, by the launcher's /proc
    Attack("owned", "ext4", "pin", owner=NOBODY),  # a write that exec does not notice
    Attack("owned", "tmpfs", "pin", owner=NOBODY),
    *(Attack("script", "ext4", kind, attacked=("script", "interpreter")) for kind in KINDS),
    Attack("interpreter", "ext4", "elsewhere", attacked=("interpreter",), spare="overlayfs"),
    *(Attack("policy", "ext4", kind) for kind in KINDS),
    *(Attack("certificate", "tmpfs", kind) for kind in KINDS),
]

MUTATIONS: list[tuple[str, Callable[[Victim], None]]] = [
    *((f"binary/{place}/{kind}", mutations.no_hash_at_exec_stop)
      for place in ("ext4", "tmpfs") for kind in ("rewrite", "mmap")),
    *((f"binary/{place}/rename", mutations.judged_by_name)
      for place in ("ext4", "tmpfs", "overlayfs")),
    *((f"binary/overlayfs/{kind}", mutations.source_judged) for kind in ("rewrite", "mmap")),
    ("beneath/overlayfs/rewrite", mutations.source_judged),
    ("binary/ext4/rewrite-sealed", mutations.source_judged),
    ("binary/overlayfs/mapped", mutations.exec_stop_anywhere),
    ("binary/ext4/memfd-sealed", mutations.no_seal),
    ("owned/ext4/pin", mutations.writers_trusted),
    ("owned/tmpfs/pin", mutations.writers_trusted),
    *((f"script/ext4/{kind}", mutations.no_hash_at_exec_stop) for kind in ("rewrite", "mmap")),
    ("interpreter/ext4/elsewhere", mutations.no_inode_at_exec_stop),
    *((f"policy/ext4/{kind}", mutations.policy_read_twice) for kind in KINDS),
    *((f"certificate/tmpfs/{kind}", mutations.certificate_read_twice) for kind in KINDS),
]  # fmt: skip
"""(attack, check taken out); the text of each is its docstring."""


def make_victim(attack: Attack, workshop: Workshop, places: dict[str, str], name: str) -> Victim:
    """Lay out the attack's victim in a directory of its own, called ``name``."""
    place = places[attack.place]
    if attack.subject in ("script", "interpreter"):
        return workshop.script(place, name, attack.options["attacked"])
    if attack.subject == "policy":
        return workshop.policy(place, name)
    if attack.subject == "certificate":
        return workshop.certificate(place, name)
    if attack.kind == "pin":
        need_userfaultfd()
    victim = workshop.binary(place, name, attack.integrity, attack.options.get("owner", 0))
    if attack.subject == "beneath":
        path, good, evil = victim.targets[0]
        # the file must be in the upper layer before it can be changed there
        os.utime(path)
        beneath = path.replace(place, upper_layer(workshop.base))
        victim.targets = [(beneath, good, evil)]
    return victim


class Attacker:
    """The process that changes the files."""

    def __init__(
        self, attack: Attack, workshop: Workshop, victim: Victim, places: dict[str, str]
    ) -> None:
        self.kind = attack.kind
        self.round = 0
        self.span = 0.0
        spare = "-"
        if "spare" in attack.options:
            spare = os.path.join(places[attack.options["spare"]], os.path.basename(
                os.path.dirname(victim.program)))
            with open(victim.targets[0][1], "rb") as good, open(spare, "wb") as copy:
                copy.write(good.read())
            os.chmod(spare, 0o755)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [
            workshop.attacker, attack.kind, str(attack.options.get("owner", 0)), spare,
            *(part for target in victim.targets for part in target),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {CONTROL}<&{theirs.fileno()}', "sh", *command],
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        theirs.close()

    def announce(self, pid: int) -> None:
        """Say that a round begins (pid 0); the hunter of copies learns whose they are."""
        if pid == 0:
            self.round += 1
        if (pid == 0) == (self.kind != "memfd"):
            try:
                self._socket.send(_PACKET.pack(self.round, int(self.span * 1e6), pid, 0))
            except OSError:
                raise RuntimeError("the attacker ended") from None

    def learn(self, outcome: Outcome) -> None:
        """Follow how long a run takes, so that changes fall into all of it."""
        if outcome.kind in (EXECUTED, KILLED):
            self.span += (outcome.seconds * SPAN_MARGIN - self.span) / 16

    def measure(self, quick: Quick) -> None:
        """Learn from quiet runs how long one takes. Raises RuntimeError when one fails."""
        seconds = []
        for _ in range(QUIET_RUNS):
            outcome = quick.run(lambda pid: None)
            if outcome.kind != EXECUTED:
                raise RuntimeError(f"undisturbed it was {outcome.kind}: {outcome.text}")
            seconds.append(outcome.seconds)
        self.span = sorted(seconds)[QUIET_RUNS // 2] * SPAN_MARGIN

    def stop(self, result: Result) -> None:
        """End it and note its counters, or that it had failed."""
        self._socket.close()
        output, errors = self._process.communicate(timeout=30)
        if self._process.returncode == 0:
            result.attacker = json.loads(output)
        else:
            result.problems.append(f"the attacker failed: {errors.strip()}")


SHOWN = 5
"""Problems of one attack that are shown; the others look alike."""


class Result:
    """What an attack came to.

    Attributes:
        name; check: what was taken out, if anything; counts: outcomes.
        reasons: refusals by reason; samples: what was said, once for each reason.
        attacker: its counters; seconds: all of it; whole: how many runs were not the quick way.
        problems: why it failed, empty when it held.
    """

    def __init__(self, name: str, check: str = "") -> None:
        self.name = name
        self.check = check
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.samples: dict[str, str] = {}
        self.attacker: dict[str, int] = {}
        self.seconds = 0.0
        self.whole = 0
        self.problems: list[str] = []

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.counts[outcome.kind] += 1
        if outcome.kind == REFUSED:
            self.reasons[outcome.detail] += 1
            self.samples.setdefault(outcome.detail, outcome.text)
        elif outcome.kind in (EVIL_RAN, STRANGE) and len(self.problems) < SHOWN:
            self.problems.append(f"{outcome.kind}: {outcome.detail} {outcome.text!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return it for --json."""
        words = (EXECUTED, REFUSED, KILLED, EVIL_RAN, STRANGE)
        without = {"without": self.check} if self.check else {}
        return {
            "name": self.name, **without, "rounds": sum(self.counts.values()), "whole": self.whole,
            **{word: self.counts[word] for word in words}, "reasons": dict(self.reasons),
            "samples": self.samples, "attacker": self.attacker, "seconds": round(self.seconds, 2),
            "problems": self.problems,
        }  # fmt: skip


PROVING = 50
"""Rounds from which on both executions and refusals are due."""


def run_attack(
    attack: Attack,
    workshop: Workshop,
    places: dict[str, str],
    rounds: int,
    whole: Callable[[Victim], Sequence[Any]],
) -> Result:
    """Play ``rounds`` quick runs, and one each of what ``whole`` gives, under attack."""
    result = Result(attack.name)
    victim = make_victim(attack, workshop, places, attack.name.replace("/", "-"))
    begin = time.perf_counter()
    attacker = Attacker(attack, workshop, victim, places)
    quick = Quick(workshop, victim)
    try:
        attacker.measure(quick)
        for _ in range(rounds):
            outcome = quick.run(attacker.announce)
            attacker.learn(outcome)
            result.add(outcome)
        span = attacker.span
        for run in whole(victim):
            outcome = run.run(attacker.announce)
            attacker.span = max(attacker.span, outcome.seconds)
            result.add(outcome)
            result.whole += 1
        attacker.span = span
    except RuntimeError as error:
        result.problems.append(str(error))
    finally:
        quick.close()
        attacker.stop(result)
    result.seconds = time.perf_counter() - begin
    if rounds >= PROVING:
        for word in (EXECUTED, REFUSED):
            if not result.counts[word]:
                result.problems.append(f"not one run was {word}: nothing is proved")
    return result


def run_mutation(
    attack: Attack,
    mutate: Callable[[Victim], None],
    workshop: Workshop,
    places: dict[str, str],
    limit: int,
) -> Result:
    """Play the attack against a policy server without one check, until evil bytes run."""
    result = Result(attack.name, mutate.__doc__ or "")
    directory = f"{attack.name.replace('/', '-')}-{mutate.__name__}"
    victim = make_victim(attack, workshop, places, directory)
    begin = time.perf_counter()
    attacker = Attacker(attack, workshop, victim, places)
    quick = Quick(workshop, victim, mutate)
    try:
        attacker.measure(quick)
        for _ in range(limit):
            outcome = quick.run(attacker.announce)
            attacker.learn(outcome)
            result.counts[outcome.kind] += 1
            if outcome.kind == EVIL_RAN:
                break
        else:
            result.problems.append("the missing check was not noticed: the attack is too weak")
    except RuntimeError as error:
        result.problems.append(str(error))
    finally:
        quick.close()
        attacker.stop(result)
    result.seconds = time.perf_counter() - begin
    return result
