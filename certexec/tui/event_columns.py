"""What a line of the list of events says, as far as there is room for it (without Textual)."""

from __future__ import annotations

import time
from typing import NamedTuple

from certexec.observe.reading import Seen
from certexec.observe.report import argument_of
from certexec.text import printable

TIMES_MAX = 9999
"""how many a line says were folded; beyond that there are just more"""
CELL_MAX = 2000
"""characters of a text that is looked at for a line: wider than any screen"""
TEXT_MAX, DETAILS_MAX = 1000, 200
"""characters that the details show of each text, and how many texts; JSON has all of them"""


class Column(NamedTuple):
    """``name`` of a column, its ``width`` in cells; 0: what is left."""

    name: str
    width: int


def columns(width: int, hosts: bool) -> list[Column]:
    """Return the columns for a screen so wide; ``hosts``: there are events of several machines."""
    made = [Column("time", 8)]
    if hosts and width >= 80:
        made.append(Column("host", 16 if width >= 120 else 8))
    made.append(Column("verdict", 7 if width >= 60 else 6))
    if width >= 70:
        made.append(Column("times", 6))
        made.append(Column("user", 10 if width >= 100 else 8))
    made.append(Column("program", 28 if width >= 120 else 16 if width >= 100 else 10))
    if width >= 50:
        made.append(Column("call", 12 if width >= 100 else 8))
    made.append(Column("about", 0))
    return made


def cell(seen: Seen, column: Column) -> str:
    """Return what stands in a column of an event's line, fit for a terminal; it may be too long."""
    return printable(_text(seen, column)[:CELL_MAX])


def _text(seen: Seen, column: Column) -> str:
    name = column.name
    if name == "time":
        return time.strftime("%H:%M:%S", time.localtime(seen.time)) if seen.time else ""
    if name == "host":
        return seen.host
    if name == "times":
        return "" if seen.count == 1 else f"x{seen.count}" if seen.count <= TIMES_MAX else "many"
    if seen.text("event") != "call":
        return {"verdict": seen.text("event"), "about": about(seen)}.get(name, "")
    if name == "program":
        return end_of(seen.text("program"), column.width)
    if name == "call":
        return seen.text("syscall")
    if name == "about":
        return about(seen)
    return seen.text(name)


def end_of(path: str, width: int) -> str:
    """Return a path, or its last part, or as much of its end as there is room for."""
    shown = printable(path[-CELL_MAX:])
    if len(shown) > width:
        shown = shown.rpartition("/")[2]
    return shown if len(shown) <= width else ".." + shown[-(width - 2) :]


def about(seen: Seen) -> str:
    """Return what an event is about beside who made it: the arguments, or the words."""
    kind = seen.text("event")
    if kind == "note":
        return seen.text("text")
    if kind == "lost":
        return f"lost {seen.count} events: {seen.text('reason')}"
    if kind == "overflow":
        calls = seen.members.get("calls")
        listed = calls.items() if isinstance(calls, dict) else ()
        return f"{seen.count} others: " + ", ".join(f"{name} {number}" for name, number in listed)
    return argument_of(seen)


def briefly(seen: Seen) -> str:
    """Return what a call named, without its other arguments, where there is no room for them."""
    names = [
        text for name, text in seen.arguments.items()
        if name.partition("[")[0] in ("filename", "sockaddr")
    ]
    return printable(", ".join(names)[:CELL_MAX]) or printable(about(seen)[:CELL_MAX])


def details(seen: Seen) -> list[str]:
    """Return all that an event says, one a line, fit for a terminal."""
    found = [("host", seen.host)] if seen.host else []
    for name, value in seen.members.items():
        if isinstance(value, dict):
            prefix = "" if name == "arguments" else f"{name} "
            found += [(f"{prefix}{inner}", str(one)) for inner, one in value.items()]
        else:
            found.append((name, str(value)))
    lines = [printable(f"{name}: {clipped(text)}") for name, text in found[:DETAILS_MAX]]
    left = len(found) - DETAILS_MAX
    return [*lines, f"and {left} more"] if left > 0 else lines


def clipped(text: str) -> str:
    """Return as much of a text as a person can read; how much that leaves out is said."""
    left = len(text) - TEXT_MAX
    return f"{text[:TEXT_MAX]}... and {left} characters more" if left > 0 else text
