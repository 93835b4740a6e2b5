"""What a group of measurements is made of, and how one is run.

Each module in bench/groups is a group: one line of the table in README.md, or a few that are
measured together. It declares, at its top level:

* ``NAME``: one word, for ``--only``; ``ABOUT``: a sentence for the reader of the results;
* ``LIMITS``: what certexec's own lines may reach (``Limit``), matched to lines by their case;
* ``PEERS``: names from bench/peers.py that are measured beside it; one that is not installed is
  named and left out;
* ``PLACEMENTS``: UNPINNED, PINNED, or both; the group is measured once in each;
* ``measure(bench)``: measures, and returns lines, most easily by ``bench.compare``.

What has to be made before (programs, certificates) is made once: ``bench.once(name, make)``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import bench.groups
from bench.pairs import Command, measure
from bench.peers import PEERS, Peer
from certexec.cli.progress import Progress
from demo.stage import Stage

T = TypeVar("T")
UNPINNED, PINNED = "unpinned", "pinned"
"""Free to use every processor; the whole tree on one."""
BOTH = (UNPINNED, PINNED)
OURS = "certexec"
FULL_ROUNDS = 40
"""interleaved rounds of a run whose results count."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Limit:
    """What one case of certexec's own may reach: ``most`` in the unit of its line.

    ``placements``: where it is judged; elsewhere the line is only shown.
    """

    case: str
    most: float
    placements: tuple[str, ...] = BOTH


@dataclass
class Line:
    """One result: how ``subject`` does in ``case``, as a multiple of ``base`` or in ``unit``.

    Attributes:
        case: what is done; subject: who does it, OURS or a peer's name.
        base: what a ratio is to; unit: "x" for ratios.
        value, low, high: median and quartiles over the rounds.
        detail: absolute figures for the reader, with their unit in the name.
    """

    case: str
    subject: str
    base: str
    value: float
    low: float
    high: float
    unit: str = "x"
    detail: dict[str, float] = field(default_factory=dict)
    group: str = ""
    placement: str = UNPINNED
    limit: float | None = None

    @property
    def held(self) -> bool | None:
        """Whether the limit holds; None without one."""
        return None if self.limit is None else self.value <= self.limit


class Group(Protocol):
    """A module in bench/groups."""

    NAME: str
    ABOUT: str
    LIMITS: Sequence[Limit]
    PEERS: Sequence[str]
    PLACEMENTS: Sequence[str]

    def measure(self, bench: Bench) -> list[Line]:
        """Measure once, in the placement that is set."""


class Bench:
    """What a group measures with.

    Attributes:
        place: the set-up: a trust store with the key ops.key, the kernel's handler registered.
        rounds: how often everything is done, in turn; groups scale it to what a round costs.
        placement: UNPINNED or PINNED; children inherit it.
    """

    def __init__(self, place: Stage, rounds: int) -> None:
        self.place = place
        self.rounds = rounds
        self.placement = UNPINNED
        self._made: dict[str, Any] = {}
        self._progress = Progress("bench", wanted=False)

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Show on a terminal how far ``what`` has come, as ``step`` says."""
        self._progress = Progress(what)
        try:
            yield
        finally:
            self._progress.hide()

    def step(self, done: int, total: int) -> None:
        """Tell how many steps of how many are done."""
        self._progress.show(done, total, True)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, made on the first use of ``name``."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def sign(self, name: str, program: str, policy: str, *options: str) -> str:
        """Sign ``program`` for everybody; return the certificate, ``name`` in the stage's bin."""
        target = os.path.join(self.place.bin, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self.place.certexec(
            "sign", "-k", self.place.path("ops.key"), "-p", policy, "--allow-everyone",
            *options, "-o", target, program,
        )  # fmt: skip
        return target

    def peers(self, names: Sequence[str]) -> dict[str, Peer]:
        """Return those of the named peers that are installed and work here."""
        return {name: PEERS[name] for name in names if self.once(f"peer {name}", PEERS[name].works)}

    def compare(
        self,
        commands: Mapping[tuple[str, str], Command],
        base: tuple[str, Command],
        *,
        rounds: int | None = None,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> list[Line]:
        """Time commands, by (case, subject), in turn; a line for each as multiples of ``base``.

        A peer that fails at one of them has no line there.
        """
        name, command = base
        times = measure(
            {("", name): command, **commands}, rounds or self.rounds, environment,
            {one for one in commands if one[1] in PEERS}, self.step,
        )  # fmt: skip
        return [
            ratio_line(*one, name, times[one], times["", name]) for one in commands if one in times
        ]


def ratio_line(
    case: str, subject: str, base: str, values: Sequence[float], bases: Sequence[float]
) -> Line:
    """Sum up seconds per round as multiples of the base's in the same round."""
    ratios = [one / other for one, other in zip(values, bases, strict=True)]
    detail = {
        "milliseconds": statistics.median(values) * 1000,
        "base_milliseconds": statistics.median(bases) * 1000,
    }
    return spread_line(case, subject, base, ratios, detail=detail)


def spread_line(
    case: str,
    subject: str,
    base: str,
    values: Sequence[float],
    *,
    unit: str = "x",
    detail: Mapping[str, float] | None = None,
) -> Line:
    """Sum up one value per round; a single round has no spread."""
    low, middle, high = (
        statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    )
    return Line(case, subject, base, middle, low, high, unit, dict(detail or {}))


def load_groups() -> list[Group]:
    """Return the groups in the order in which they say they want to be shown, then by name."""
    found: list[Any] = [
        importlib.import_module(f"{bench.groups.__name__}.{module.name}")
        for module in pkgutil.iter_modules(bench.groups.__path__)
    ]
    return sorted(found, key=lambda group: (getattr(group, "ORDER", 50), group.NAME))


@contextlib.contextmanager
def placed(placement: str) -> Iterator[None]:
    """Keep this process and what it starts on one processor, or leave it free."""
    if placement == UNPINNED:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_group(group: Group, bench: Bench) -> list[Line]:
    """Measure a group in each of its placements and put its limits to its lines."""
    lines: list[Line] = []
    for placement in group.PLACEMENTS:
        bench.placement = placement
        with placed(placement), bench.told(f"{group.NAME}, {placement}"):
            fresh = group.measure(bench)
        for line in fresh:
            line.group, line.placement = group.NAME, placement
            if line.subject == OURS:
                line.limit = next(
                    (
                        limit.most for limit in group.LIMITS
                        if limit.case == line.case and placement in limit.placements
                    ),
                    None,
                )
        lines += fresh
    return lines


def missing_cases(group: Group, lines: Sequence[Line]) -> list[str]:
    """Name the cases with a limit that were not measured: they count as missed."""
    measured = {line.case for line in lines if line.subject == OURS and line.group == group.NAME}
    return [limit.case for limit in group.LIMITS if limit.case not in measured]


def compile_c(source: str, target: str, *flags: str) -> str:
    """Compile a C file with gcc and return ``target``."""
    subprocess.run(["gcc", "-O2", *flags, "-o", target, source], check=True)
    return target
