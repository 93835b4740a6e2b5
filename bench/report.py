"""Results as text, as JSON, and as the part of README.md that shows them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.frame import OURS, UNPINNED, Group, Line
from bench.peers import PEERS

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
README = os.path.join(os.path.dirname(HERE), "README.md")
SCHEMA = 2
BEGIN, END = "<!-- results of make bench: begin -->", "<!-- results of make bench: end -->"
BEFORE = "\n## More\n"
"""The heading of README.md that the results stand before."""
NOISE = 1.03
"""A peer that is not faster by this factor is not called faster."""


def line_text(line: Line) -> str:
    """Write one result for people."""
    unit = " x" if line.unit == "x" else f" {line.unit}"
    value = f"{line.value:8.2f}{unit} [{line.low:.2f} .. {line.high:.2f}]"
    verdict = ""
    if line.limit is not None:
        verdict = f"  at most {line.limit:g}: {'holds' if line.held else 'MISSED'}"
    return f"  {line.case:46} {line.subject:12} {line.placement:9}{value}{verdict}"


def as_json(
    groups: Sequence[Group], lines: Sequence[Line], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all results; ``about`` tells where and when they were measured."""
    shown = []
    for group in groups:
        own = [
            {**asdict(line), "held": line.held} for line in lines if line.group == group.NAME
        ]
        shown.append({"name": group.NAME, "about": group.ABOUT, "lines": own})
    return {"schema": SCHEMA, **about, "groups": shown}


def write(name: str, content: str) -> str:
    """Write a file in bench/results, whole or not at all, and return its path."""
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name)
    with open(f"{path}.tmp", "w") as file:
        file.write(content)
    os.replace(f"{path}.tmp", path)
    return path


def to_text(result: Mapping[str, Any]) -> str:
    """Return the JSON text of all results."""
    return json.dumps(result, indent=1) + "\n"


def read() -> dict[str, Any]:
    """Read the latest results."""
    with open(os.path.join(RESULTS, "latest.json")) as file:
        found: dict[str, Any] = json.load(file)
    return found


# -- README.md -------------------------------------------------------------------------------------


def section(result: Mapping[str, Any]) -> str:
    """Write README.md's part: the plot, the judged lines, and where a peer is faster and why."""
    rows = ["| | at most | unpinned | pinned |", "|---|---|---|---|"]
    faster: dict[str, list[str]] = {}
    for group in result["groups"]:
        judged: dict[str, dict[str, Any]] = {}
        for line in group["lines"]:
            if line["subject"] == OURS and line["limit"] is not None:
                judged.setdefault(line["case"], {})[line["placement"]] = line
        for case, places in judged.items():
            limit = _number(next(iter(places.values())), "limit")
            cells = [_cell(places.get(place)) for place in ("unpinned", "pinned")]
            rows.append(f"| {_case(group, case)} | {limit} | {cells[0]} | {cells[1]} |")
        for peer, case in _faster(group):
            faster.setdefault(peer, []).append(case)
    told = "No peer was faster in this run."
    if faster:
        table = ["| peer | where: its value (certexec's) | why |", "|---|---|---|"]
        for peer, where in faster.items():
            table.append(f"| {peer} | {'; '.join(where)} | {PEERS[peer].because} |")
        told = "\n".join(table)
    where = f"Linux {version(result)}, {result['processors']} processors"
    return (
        "## How fast it is\n\n"
        "![Ratios to the bare program](bench/results/latest.svg)\n\n"
        f"Medians of one run of `make bench` ({where}),\n"
        "as multiples of what stands in the plot's titles; bold is over the limit.\n\n"
        + "\n".join(rows) + "\n\n"
        "Where a peer is faster, and why (unpinned):\n\n" + told + "\n"
    )


def version(result: Mapping[str, Any]) -> str:
    """Return the kernel's version as kernel.org numbers it; what follows is the builder's."""
    found = re.match(r"[0-9.]*[0-9]", result["kernel"])
    return found.group() if found else result["kernel"]


def _faster(group: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return each peer that is faster than certexec, and in which case."""
    ours = {
        line["case"]: line for line in group["lines"]
        if line["subject"] == OURS and line["placement"] == UNPINNED
    }
    for line in group["lines"]:
        peer, own = line["subject"], ours.get(line["case"])
        if peer not in PEERS or own is None or line["placement"] != UNPINNED:
            continue
        if line["value"] * NOISE < own["value"]:
            both = f"{_number(line, 'value')} ({_number(own, 'value')})"
            yield peer, f"{_case(group, line['case'])}: {both}"


def _case(group: Mapping[str, Any], case: str) -> str:
    return f"{group['name']}: {case}"


def _cell(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return ""
    value = _number(line, "value")
    return value if line["held"] else f"**{value}**"


def _number(line: Mapping[str, Any], field: str) -> str:
    unit = "" if line["unit"] == "x" else f" {line['unit']}"
    return f"{line[field]:.3g}{unit}"


def put_into_readme(text: str, part: str) -> str:
    """Return README.md's text with the results in their place, whatever stood there before."""
    marked = f"{BEGIN}\n{part}{END}\n"
    if BEGIN in text and END in text:
        head, _, rest = text.partition(BEGIN)
        return head + marked + rest.partition(f"{END}\n")[2]
    if BEFORE not in text:
        raise ValueError(f"README.md has no place for results: {BEFORE.strip()!r} is missing")
    return text.replace(BEFORE, f"\n{marked}{BEFORE}", 1)
