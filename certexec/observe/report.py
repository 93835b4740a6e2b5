"""What a report says: events counted, results listed, and what changed since the last report.

The state of the last report is a JSON object that is kept beside it. It is read back as something
that anybody may have written: what is not of its form counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from certexec.observe.reading import Seen

SCHEMA = 1
ROWS_MAX = 1000
"""rows of a table; the rest is counted."""
KEYS_MAX = 20_000
"""things that a state remembers"""
HOUR, DAY = 3600, 86400
BARS_MAX = 72
"""columns of the picture over time"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[str, ...]


class Row:
    """Events that are alike: how many, from when to when, and whether the last report had any."""

    __slots__ = ("count", "first", "key", "last", "new")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.count = 0
        self.first = self.last = 0.0
        self.new = False

    def add(self, seen: Seen) -> None:
        """Count an event."""
        self.count += seen.count
        since = seen.time
        self.first = min(self.first or since, since)
        self.last = max(self.last, since)


class LogReport:
    """What a log tells.

    Attributes:
        programs: by host, certificate, program and user: how many of which verdict.
        denials: by host, program, certificate, verdict, call, arguments and reason, most first.
        notes: words about certexec itself, and losses.
        bars: (start, width, {verdict: count}) over time.
        before: when the last report was made, "" for the first; gone: denials that only it had.
    """

    def __init__(self, events: Iterable[Seen], state: Mapping[str, object]) -> None:
        programs: dict[Key, dict[str, int]] = {}
        denials: dict[Key, Row] = {}
        notes: dict[Key, Row] = {}
        times: list[tuple[float, str, int]] = []
        self.total = 0
        self.first = self.last = 0.0
        for seen in events:
            self.total += seen.count
            if seen.time:
                self.first = min(self.first or seen.time, seen.time)
                self.last = max(self.last, seen.time)
            if seen.text("event") != "call":
                key = (seen.host, seen.text("event"), _words(seen))
                notes.setdefault(key, Row(key)).add(seen)
                continue
            verdict = seen.text("verdict")
            who = (
                seen.host, seen.text("certificate"), seen.text("program"), seen.text("user"),
            )  # fmt: skip
            counts = programs.setdefault(who, {})
            counts[verdict] = counts.get(verdict, 0) + seen.count
            if seen.time:
                times.append((seen.time, verdict, seen.count))
            if verdict != "permit":
                denial = (
                    seen.host, seen.text("program"), seen.text("certificate"), verdict,
                    seen.text("syscall"), argument_of(seen), seen.text("reason"),
                )  # fmt: skip
                denials.setdefault(denial, Row(denial)).add(seen)
        self.programs = dict(sorted(programs.items()))
        self.denials = sorted(denials.values(), key=lambda row: (-row.count, row.key))
        self.notes = sorted(notes.values(), key=lambda row: row.key)
        self.bars = _bars(times)
        self.before = _text(state.get("made"))
        known = _keys(state.get("denials"))
        for row in self.denials:
            row.new = bool(self.before) and row.key not in known
        now = {row.key for row in self.denials}
        self.gone = sorted(known - now)

    def state(self, made: str) -> dict[str, object]:
        """Return what the next report has to know."""
        return {
            "schema": SCHEMA, "kind": "log", "made": made,
            "denials": [list(row.key) for row in self.denials[:KEYS_MAX]],
        }


class VerifyReport:
    """What became of certificates: the records of ``certexec verify --json``.

    Attributes:
        results: the records; changes: path to what is not as in the last report.
        before: when that was made, "" for the first; gone: paths that only it had.
    """

    def __init__(
        self, results: Sequence[Mapping[str, object]], state: Mapping[str, object]
    ) -> None:
        self.results = sorted(
            results, key=lambda one: (bool(one.get("ok")), _text(one.get("path")))
        )
        self.before = _text(state.get("made"))
        before = state.get("certificates")
        known = before if isinstance(before, dict) else {}
        self.changes: dict[str, str] = {}
        for one in self.results:
            path = _text(one.get("path"))
            if self.before and (change := _change(known.get(path), _facts(one))):
                self.changes[path] = change
        self.gone = sorted(set(map(str, known)) - {_text(one.get("path")) for one in results})

    def state(self, made: str) -> dict[str, object]:
        """Return what the next report has to know."""
        return {
            "schema": SCHEMA, "kind": "verify", "made": made,
            "certificates": {_text(one.get("path")): _facts(one) for one in self.results},
        }


def read_state(data: bytes, kind: str) -> dict[str, object]:
    """Return the state of the last report of a kind ("log", "verify"), {} where there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict) or (value.get("schema"), value.get("kind")) != (SCHEMA, kind):
        return {}
    return value


def argument_of(seen: Seen) -> str:
    """Return what a call was about: its arguments but the flags, or its registers."""
    found = [
        f"{name}={value}" if name not in ("filename", "sockaddr") else value
        for name, value in seen.arguments.items()
    ]
    return ", ".join(found) or seen.text("args")


def _words(seen: Seen) -> str:
    if seen.text("event") == "overflow":
        return "more events than the log takes"
    return seen.text("text") or seen.text("reason")


def _bars(times: Sequence[tuple[float, str, int]]) -> list[tuple[float, float, dict[str, int]]]:
    if not times:
        return []
    first, last = min(one[0] for one in times), max(one[0] for one in times)
    width = next(
        (step for step in (60, 600, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)
         if (last - first) / step < BARS_MAX - 1),
        (last - first) / (BARS_MAX - 1) or 1,
    )  # fmt: skip
    start = first // width * width
    bars: list[tuple[float, float, dict[str, int]]] = [
        (start + number * width, width, {}) for number in range(int((last - start) / width) + 1)
    ]
    for moment, verdict, number in times:
        counts = bars[int((moment - start) / width)][2]
        counts[verdict] = counts.get(verdict, 0) + number
    return bars


def _facts(one: Mapping[str, object]) -> dict[str, object]:
    names = ("ok", "reason", "serial", "program", "valid_until", "grant")
    return {name: one.get(name) for name in names if name in one}


def _change(before: object, now: Mapping[str, object]) -> str:
    """Say what is not as it was, "" for nothing."""
    if not isinstance(before, dict):
        return "new"
    if before.get("ok") != now.get("ok"):
        return "valid again" if now.get("ok") else "not valid any more"
    if before == now:
        return ""
    changed = [name for name in now if before.get(name) != now.get(name)]
    return "another " + ", ".join(name.replace("_", " ") for name in changed)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _keys(value: object) -> set[Key]:
    if not isinstance(value, list):
        return set()
    return {
        tuple(key) for key in value[:KEYS_MAX]
        if isinstance(key, list) and all(isinstance(part, str) for part in key)
    }
