"""``python -m tests.attack``: change files in a loop while certificates for them run.

Every attack is also played with the check that withstands it taken out, and must then succeed. Exit
status: 0 when that is so and not one run was of unverified bytes, 1 when not, 2 when nothing could
be played. What this machine cannot have is left out, with CERTEXEC_MUST_WORK=1 it is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from certexec.errors import CertexecError
from certexec.kernel.ownership import ROOT_ONLY, root_owners
from tests.attack.attacks import ATTACKS, MUTATIONS, Result, run_attack, run_mutation
from tests.attack.places import (
    UnusableError,
    end_with_parent,
    enter_namespace,
    ground,
    make_places,
)
from tests.attack.runs import EVIL_RAN, EXECUTED, KILLED, REFUSED, Whole, by_command
from tests.attack.victims import Victim, Workshop

ROUNDS = 10_000
MUTATION_ROUNDS = 3000
"""Rounds within which each missing check must show."""
WHOLE_SHARE = 100
"""One run in so many starts everything anew: by turns ``certexec run`` and the kernel's handler."""
MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"
Printer = Callable[[str], None]


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each attack")
    parser.add_argument(
        "--mutation-rounds", type=int, default=MUTATION_ROUNDS,
        help="runs within which each missing check must show; 0: leave them out",
    )  # fmt: skip
    parser.add_argument("--only", metavar="NAME", default="", help="only names that contain NAME")
    parser.add_argument("--list", action="store_true", help="show the names")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(argv)


def show_list(only: str) -> None:
    """Print every attack with the checks that are taken out under it."""
    for attack in ATTACKS:
        if only in attack.name:
            print(attack.name)
            for name, mutate in MUTATIONS:
                if name == attack.name:
                    print(f"    succeeds when: {mutate.__doc__}")


class Handler:
    """The kernel's handler, in a machine of its own that is set up from this source tree."""

    def __init__(self, workshop: Workshop) -> None:
        """Raises UnusableError."""
        from tests.isolation import Machine

        if root_owners() != ROOT_ONLY:
            raise UnusableError("only root can have a user namespace with all its users")
        try:
            self._machine = Machine()
        except BaseException as reason:  # pytest's skip is none of Exception
            if isinstance(reason, KeyboardInterrupt | SystemExit):
                raise
            raise UnusableError(str(reason)) from None
        for argv in (["setup"], ["trust", "add", workshop.tool("ops.pub")]):
            done = self._machine.certexec(*argv)
            if done.returncode != 0:
                self._machine.stop()
                raise UnusableError(f"certexec {argv[0]}: {done.stderr.strip()}")

    def whole(self, victim: Victim) -> Whole:
        """Run by the certificate's name, as the machine's root."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        return Whole(victim, self._machine.command(victim.certificate), environment)

    def stop(self) -> None:
        """End the machine."""
        self._machine.stop()


class Ways:
    """The ways in which whole runs are made, as far as this machine has them."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.left_out: dict[str, str] = {}
        self._handler: Handler | None = None
        self._makers: list[Callable[[Victim], Whole]] = []
        victim = workshop.binary(workshop.base, "undisturbed", "auto")
        self._add("certexec run", lambda one: by_command(workshop, one), victim)
        try:
            self._handler = Handler(workshop)
        except UnusableError as reason:
            self.left_out["runs by the kernel's handler"] = str(reason)
        else:
            self._add("the kernel's handler", self._handler.whole, victim)

    def _add(self, name: str, maker: Callable[[Victim], Whole], victim: Victim) -> None:
        outcome = maker(victim).run(lambda pid: None)
        if outcome.kind == EXECUTED:
            self._makers.append(maker)
        else:
            self.left_out[f"runs by {name}"] = f"{outcome.kind}: {outcome.text}"

    def runs(self, victim: Victim, count: int) -> Iterator[Whole]:
        """Yield ``count`` runs of the victim, by turns."""
        for number in range(count if self._makers else 0):
            yield self._makers[number % len(self._makers)](victim)

    def close(self) -> None:
        """End what was started."""
        if self._handler is not None:
            self._handler.stop()


def attack_line(result: Result) -> str:
    """Return one line of the table."""
    counts, changes = result.counts, result.attacker
    total = sum(counts.values())
    reasons = ", ".join(f"{count} {word}" for word, count in result.reasons.most_common())
    line = (
        f"{result.name:<30} {total:>6} {counts[EXECUTED]:>8} {counts[REFUSED]:>8} "
        f"{counts[KILLED]:>7} {counts[EVIL_RAN]:>5} {changes.get('changes', 0):>8} "
        f"{changes.get('busy', 0) + changes.get('denied', 0):>7} "
        f"{result.seconds / max(1, total) * 1000:>6.1f}  {reasons}"
    )
    return "\n".join([line, *(f"    FAILED: {problem}" for problem in result.problems)])


HEAD = (
    f"{'attack':<30} {'rounds':>6} {'executed':>8} {'refused':>8} {'killed':>7} {'EVIL':>5} "
    f"{'changes':>8} {'barred':>7} {'ms':>6}  refused because"
)


def mutation_line(result: Result) -> str:
    """Return one line on a missing check."""
    total = sum(result.counts.values())
    end = f"in round {total}" if result.counts[EVIL_RAN] else f"NOT in {total} rounds"
    line = f"{result.name:<30} evil ran {end:<20} {result.check}"
    return "\n".join([line, *(f"    FAILED: {problem}" for problem in result.problems)])


def play(options: argparse.Namespace, workshop: Workshop, say: Printer) -> dict[str, Any]:
    """Play everything that was asked for; returns what --json prints."""
    places, left_out = make_places(workshop.base)
    attacks: list[Result] = []
    found: list[Result] = []
    chosen = []
    for attack in ATTACKS:
        missing = [place for place in attack.needs() if place not in places]
        if options.only not in attack.name:
            continue
        if missing:
            left_out[attack.name] = f"there is no {missing[0]} here"
        else:
            chosen.append(attack)

    if options.rounds > 0 and chosen:
        ways = Ways(workshop)
        left_out.update(ways.left_out)
        whole = max(2, options.rounds // WHOLE_SHARE)
        say(HEAD)
        try:
            for attack in chosen:
                try:
                    attacks.append(
                        run_attack(
                            attack, workshop, places, options.rounds,
                            lambda victim: ways.runs(victim, whole),
                        )
                    )  # fmt: skip
                except UnusableError as reason:
                    left_out[attack.name] = str(reason)
                else:
                    say(attack_line(attacks[-1]))
        finally:
            ways.close()

    if options.mutation_rounds > 0:
        say("\none check taken out, until the attack succeeds:")
        for attack in chosen:
            for mutate in [check for name, check in MUTATIONS if name == attack.name]:
                try:
                    found.append(
                        run_mutation(attack, mutate, workshop, places, options.mutation_rounds)
                    )
                except UnusableError as reason:
                    left_out[attack.name] = str(reason)
                else:
                    say(mutation_line(found[-1]))

    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    return {
        "attacks": [one.as_dict() for one in attacks],
        "mutations": [one.as_dict() for one in found],
        "left_out": left_out,
        "failed": sum(bool(one.problems) for one in (*attacks, *found)),
    }


def inside(options: argparse.Namespace, base: str) -> int:
    """What runs in the namespace: play, print, and say how it went."""
    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    workshop = Workshop(base)
    enter_namespace()
    report = play(options, workshop, say)
    if options.json:
        print(json.dumps(report, indent=1))
    if report["failed"]:
        say(f"\n{report['failed']} FAILED")
        return 1
    if report["left_out"] and MUST_WORK:
        return 1
    return 0 if report["attacks"] or report["mutations"] else 2


def main(argv: Sequence[str]) -> int:
    """Make the ground, play on it in a child with its own mounts, and leave nothing behind."""
    options = read_arguments(argv)
    if options.list:
        show_list(options.only)
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    with ground() as base:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                end_with_parent()
                code = inside(options, base)
            except (UnusableError, CertexecError) as reason:
                print(f"attack: {reason}", file=sys.stderr)
                code = 1 if MUST_WORK else 2
            except (KeyboardInterrupt, SystemExit) as reason:
                print(f"attack: {reason}", file=sys.stderr)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except (KeyboardInterrupt, SystemExit):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
