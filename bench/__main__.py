"""Measure certexec beside its peers: every judged line, as ratios with their spread, in one run.

Prints each line beside its limit, and writes bench/results/latest.json and latest.svg; a run of
single groups or of fewer rounds writes quick.json and quick.svg.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from bench import plot, report
from bench.doors import compiled_doors
from bench.frame import FULL_ROUNDS, OURS, Bench, Group, Line, load_groups, missing_cases, run_group
from bench.peers import absent
from demo.stage import RUN_ONLY, stage

CANNOT = 2
"""exit status where nothing can be measured."""


def options_of(argv: Sequence[str], names: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=FULL_ROUNDS, help=f"interleaved rounds ({FULL_ROUNDS})"
    )
    parser.add_argument(
        "--only", action="append", choices=names, metavar="GROUP", default=[],
        help=f"measure only these: {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show the groups and their limits")
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing: put the latest results in README.md"
    )
    parser.add_argument(
        "--publish", action="store_true", help="put the results in README.md when all is measured"
    )
    options = parser.parse_args(argv)
    if options.rounds < 2:
        parser.error("a spread needs 2 rounds")
    if options.publish and is_quick(options):
        parser.error(f"only all groups in {FULL_ROUNDS} rounds or more are for README.md")
    return options


def is_quick(options: argparse.Namespace) -> bool:
    """Tell whether the results are not those that count."""
    return bool(options.only) or options.rounds < FULL_ROUNDS


def show_groups(groups: Sequence[Group]) -> int:
    """Print what would be measured."""
    for group in groups:
        print(f"{group.NAME}: {group.ABOUT} ({', '.join(group.PLACEMENTS)})")
        for limit in group.LIMITS:
            print(f"  {limit.case}: at most {limit.most:g} ({', '.join(limit.placements)})")
        if group.PEERS:
            print(f"  beside {', '.join(group.PEERS)}")
    return 0


def update_readme() -> int:
    """Put the latest results in README.md."""
    with open(report.README) as file:
        text = file.read()
    fresh = report.put_into_readme(text, report.section(report.read()))
    with open(report.README, "w") as file:
        file.write(fresh)
    return 0


def measure_all(groups: Sequence[Group], rounds: int) -> list[Line]:
    """Measure the groups one after the other, showing each line as it is there."""
    lines: list[Line] = []
    with stage("bench") as place:
        if place.mode == RUN_ONLY:
            print("bench: the kernel handler cannot be registered here", file=sys.stderr)
            raise SystemExit(CANNOT)
        place.certexec("keygen", "--no-passphrase", "-f", place.path("ops"))
        place.certexec("trust", "add", place.path("ops.pub"))
        bench = Bench(place, rounds)
        for group in groups:
            print(f"{group.NAME}: {group.ABOUT}", flush=True)
            fresh = try_group(group, bench)
            for line in fresh:
                print(report.line_text(line), flush=True)
            for case in missing_cases(group, fresh):
                print(f"  {case:46} NOT MEASURED", flush=True)
            lines += fresh
    return lines


def try_group(group: Group, bench: Bench) -> list[Line]:
    """Measure a group; one that cannot be measured here takes none of the others with it."""
    try:
        return run_group(group, bench)
    except (Exception, SystemExit) as error:
        print(f"bench: {group.NAME}: {type(error).__name__}: {error}", file=sys.stderr)
        return []


def main() -> int:
    """Run everything; 1 when a limit is missed or its line could not be measured."""
    every = load_groups()
    options = options_of(sys.argv[1:], [group.NAME for group in every])
    if options.readme:
        return update_readme()
    groups = [group for group in every if not options.only or group.NAME in options.only]
    if options.list:
        return show_groups(groups)
    if options.publish and not plot.available():
        print("bench: README.md shows the plot: pip install --group bench", file=sys.stderr)
        return CANNOT
    gone = absent()
    for name, why in gone.items():
        print(f"bench: {name} {why}")
    about = {
        "when": int(time.time()), "kernel": os.uname().release, "processors": os.cpu_count(),
        "rounds": options.rounds, "absent_peers": gone,
    }  # fmt: skip
    with compiled_doors() as compiled:
        about["compiled"] = compiled
        lines = measure_all(groups, options.rounds)
    result = report.as_json(groups, lines, about)
    name = "quick" if is_quick(options) else "latest"
    print(f"bench: wrote {report.write(f'{name}.json', report.to_text(result))}")
    if plot.available():
        print(f"bench: wrote {report.write(f'{name}.svg', plot.svg(result))}")
    else:
        print("bench: no plot: matplotlib is not installed (pip install --group bench)")
    if options.publish:
        update_readme()
    missed = [line for line in lines if line.held is False]
    unmeasured = [case for group in groups for case in missing_cases(group, lines)]
    held = sum(1 for line in lines if line.held and line.subject == OURS)
    print(f"bench: {held} limits hold, {len(missed)} missed, {len(unmeasured)} not measured")
    return 1 if missed or unmeasured else 0


if __name__ == "__main__":
    sys.exit(main())
