"""Which events are wanted."""

from __future__ import annotations

import pytest

from certexec.observe.reading import Seen
from certexec.observe.selection import Selection, is_violation

CALL = Seen(
    {"event": "call", "verdict": "deny", "user": "alice", "uid": 1000, "program": "/usr/bin/nc",
     "syscall": "connect", "certificate": "nc.cert", "time": "1970-01-01T00:01:00Z"},
    "web1",
)  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [{}, {"programs": ["nc"]}, {"programs": ["/usr/*"]}, {"programs": ["x", "n?"]},
     {"users": ["alice"]}, {"users": ["1000"]}, {"verdicts": ["kill", "deny"]},
     {"hosts": ["web*"]}, {"calls": ["connect"]}, {"certificates": ["*.cert"]}, {"since": 60.0},
     {"until": 60.0}, {"programs": ["nc"], "users": ["alice"], "hosts": ["web1"]}],
)  # fmt: skip
def test_what_fits_is_wanted(wanted) -> None:
    assert Selection(**wanted).wants(CALL)


@pytest.mark.parametrize(
    "wanted",
    [{"programs": ["nc*x"]}, {"users": ["bob", "0"]}, {"verdicts": ["permit"]}, {"hosts": ["db*"]},
     {"calls": ["open"]}, {"certificates": ["nc"]}, {"since": 61.0}, {"until": 59.0},
     {"programs": ["nc"], "users": ["bob"]}],
)  # fmt: skip
def test_what_does_not_fit_is_not(wanted) -> None:
    assert not Selection(**wanted).wants(CALL)


def test_violations_are_denied_and_killed_calls() -> None:
    def told(**members) -> bool:
        return is_violation(Seen({"event": "call", **members}))

    assert told(verdict="deny") and told(verdict="kill")
    assert not told(verdict="permit") and not told(verdict="deny", event="note")
