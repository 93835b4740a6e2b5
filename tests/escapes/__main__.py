"""``python -m tests.escapes``: programs under a certificate try to get what their policy forbids.

Every attack is also played with the defence that stops it taken out (or bare, where that defence is
the kernel), and must then succeed. Exit status: 0 when that is so and nothing escaped, 1 when not,
2 when nothing could be played. What this machine cannot have is left out, with CERTEXEC_MUST_WORK=1
it is a failure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.escapes.attack import Attack
from tests.escapes.attacks import ATTACKS
from tests.escapes.play import Result, describe, play, prove, result_directory
from tests.escapes.stage import Stage

ROUNDS = 10_000
MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"
Printer = Callable[[str], None]
HEAD = (
    f"{'attack':<24} {'tries':>7} {'passed':>7} {'blocked':>7} {'odd':>6} "
    f"{'ESCAPED':>7} {'s':>7}"
)


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.escapes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="tries of each attack")
    parser.add_argument(
        "--no-mutations", action="store_true", help="do not play without the defences"
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="only names that contain NAME"
    )
    parser.add_argument("--list", action="store_true", help="show the attacks")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", action="store_true", help="write it to a dated file, too")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> list[Attack]:
    """Return the attacks that were asked for."""
    words = options.only or [""]
    return [one for one in ATTACKS if any(word in one.name for word in words)]


def show_list(attacks: Sequence[Attack]) -> None:
    """Print every attack, what it wants, and the defence that is taken out under it."""
    for one in attacks:
        print(f"{one.name}\n    wants {one.wants}")
        if one.defence:
            print(f"    succeeds when: {describe(one.defence)}")
        else:
            print(f"    succeeds bare; stopped by the kernel: {one.kernel}")


def line(result: Result) -> str:
    """Return one line of the table."""
    counts = result.counts
    text = (
        f"{result.name:<24} {counts['tries']:>7} {counts['passed']:>7} {counts['blocked']:>7} "
        f"{counts['odd']:>6} {counts['escaped']:>7} {result.seconds:>7.1f}  {result.check}"
    )
    return "\n".join([text, *(f"    FAILED: {problem}" for problem in result.problems)])


def perform(options: argparse.Namespace, stage: Stage, say: Printer) -> dict[str, Any]:
    """Play everything that was asked for; returns the report."""
    left_out: dict[str, str] = {}
    attacks: list[Attack] = []
    for one in chosen(options):
        if one.needs and not os.path.exists(one.needs):
            left_out[one.name] = f"there is no {one.needs} here"
        else:
            attacks.append(one)
    results: list[Result] = []
    proofs: list[Result] = []
    if options.rounds > 0:
        say(HEAD)
        for one in attacks:
            results.append(play(stage, one, options.rounds))
            say(line(results[-1]))
    if not options.no_mutations:
        say("\neach defence taken out, until the attack succeeds:")
        for one in attacks:
            proofs.append(prove(stage, one))
            say(line(proofs[-1]))
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "rounds": options.rounds,
        "attacks": [one.as_dict() for one in results],
        "mutations": [one.as_dict() for one in proofs],
        "left_out": left_out,
        "escaped": sum(one.counts["escaped"] for one in results),
        "failed": sum(bool(one.problems) for one in (*results, *proofs)),
    }


def write(report: dict[str, Any]) -> str:
    """Write the report to a file that is called after its date; returns the path."""
    directory = result_directory()
    directory.mkdir(exist_ok=True)
    path = directory / f"{report['date'].replace(':', '').replace('+0000', 'Z')}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return str(path)


def make_stage() -> Stage | str:
    """Return the stage, or why there can be none."""
    missing = [name for name in ("nsenter", "setpriv", "mount", "gcc") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "attacks are played as root, who plays all users"
    try:
        return Stage()
    except Exception as reason:
        raise reason
    except BaseException as reason:  # pytest's skip is none of Exception
        if isinstance(reason, KeyboardInterrupt | SystemExit):
            raise
        return str(reason)


def main(argv: Sequence[str]) -> int:
    """Make the stage, play on it, and leave nothing behind."""
    options = read_arguments(argv)
    if options.list:
        show_list(chosen(options))
        return 0

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    stage = make_stage()
    if isinstance(stage, str):
        print(f"escapes: {stage}", file=sys.stderr)
        return 1 if MUST_WORK else 2
    try:
        report = perform(options, stage, say)
    finally:
        stage.close()
    if options.json:
        print(json.dumps(report, indent=1))
    if options.write:
        say(f"written: {write(report)}")
    if report["failed"]:
        say(f"\n{report['failed']} FAILED")
        return 1
    if report["left_out"] and MUST_WORK:
        return 1
    return 0 if report["attacks"] or report["mutations"] else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
