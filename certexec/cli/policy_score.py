"""``certexec policy score``: how much a policy leaves open, and why."""

from __future__ import annotations

import click

from certexec.certificate.model import ASK
from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    SCHEMA,
    choose,
    read_file,
    refuse,
    shown_name,
    unmatched_option,
    writable,
)
from certexec.errors import CertexecError
from certexec.policy.exposure import GRADES, MINIMAL, Exposure, Reason
from certexec.policy.select import ask_about_unmatched

EXIT_TOO_MUCH = 1
COLORS = {word: color for (_, word), color in zip(
    GRADES, ("red", "red", "red", "yellow", "green"), strict=True
)} | {MINIMAL: "green"}  # fmt: skip


@click.command(name="score", short_help="Say how much a policy leaves open.")
@click.argument("file")
@click.option("--program", metavar="PATH", help="Whose policy, where the file holds several.")
@click.option("--emulation", metavar="NAME",
              help='Which part: "linux" is that of the 32-bit ABI.')
@click.option("--all", "every", is_flag=True, help="Name the checks that find nothing, too.")
@click.option("--max", "most", type=click.FloatRange(0, 10), metavar="FIGURE",
              help="End with 1 where the figure is higher.")
@unmatched_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: str, program: str | None, emulation: str | None, every: bool, most: float | None,
    unmatched: str, as_json: bool,
) -> int:
    """Say how much the policy in FILE leaves open, from 0.0 to 10.0, and why.

        certexec policy score --max 4 nginx.policy

    Each reason names what the program could do, an example that is permitted, and how many points
    it adds. Exit codes: 0 told, 1 more than --max, 2 no policy.
    """
    try:
        parsed = read_file(file)
        policy = choose(parsed, program, emulation)
        ask_about_unmatched([policy], unmatched == ASK)
    except CertexecError as error:
        return refuse(error, as_json)
    exposure = Exposure(policy)
    for other in parsed.policies:
        if other.path == policy.path and other is not policy:
            output.warn(printable(
                f'{policy.path}: the part for emulation "{other.emulation}" is not counted: see '
                f'"--emulation {other.emulation}"'
            ))
    if as_json:
        output.print_json(writable(_as_json(shown_name(file), policy.path, exposure)))
    else:
        for reason in exposure.reasons:
            if reason.points or every:
                output.done(_line(reason))
        grade = output.painted(exposure.grade, COLORS[exposure.grade])
        output.done(f"{printable(policy.path)}: {exposure.figure:.1f} of 10, {grade}")
    return EXIT_TOO_MUCH if most is not None and exposure.figure > most else EXIT_FINE


def _line(reason: Reason) -> str:
    example = f" ({printable(reason.example)})" if reason.example else ""
    points = f"{reason.points:+.2f}" if reason.points else "     "
    return f"{points}  {reason.check.word:<18}  {reason.check.title}{example}"


def _as_json(name: str, program: str, exposure: Exposure) -> dict[str, object]:
    return {
        "schema": SCHEMA, "ok": True, "file": name, "program": program,
        "exposure": exposure.figure, "grade": exposure.grade,
        "reasons": [
            {
                "check": one.check.word, "title": one.check.title, "weight": one.check.weight,
                "open": round(one.open, 3), "points": round(one.points, 3),
                "example": one.example or None,
            }
            for one in exposure.reasons
        ],
    }
