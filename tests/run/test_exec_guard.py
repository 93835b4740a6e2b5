"""What a process has at its exec stop, compared with what it had before."""

from __future__ import annotations

import os
from typing import Any

import pytest

from certexec.kernel.procfs import Status, read_status
from certexec.run import exec_guard
from certexec.run.exec_guard import excess, keeps_rights


def status(**changes: Any) -> Status:
    """Return that of a user without a capability, but for these."""
    made = read_status(os.getpid())
    made.uids, made.gids, made.groups = (7, 7, 7, 7), (8, 8, 8, 8), [8, 9]
    made.caps = dict.fromkeys(made.caps, 0)
    for name, value in changes.items():
        if name in made.caps:
            made.caps[name] = value
        else:
            setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {}, ""),
        ({"uids": (7, 0, 0, 0)}, {"uids": (0, 7, 7, 7)}, ""),  # which are no more
        ({}, {"uids": (7, 0, 7, 7)}, "exec gave uid 0"),
        ({}, {"uids": (7, 7, 0, 7)}, "exec gave uid 0"),
        ({}, {"gids": (8, 8, 8, 9)}, "exec gave gid 9"),  # of its groups, but it had not that
        ({}, {"groups": [8]}, ""),
        ({}, {"groups": [8, 9, 10]}, "exec gave a group"),
        ({"prm": 6}, {"prm": 2, "eff": 6, "amb": 4}, ""),  # of what it was permitted
        ({}, {"prm": 2}, "exec gave capabilities 0x2"),
        ({}, {"eff": 2}, "exec gave capabilities 0x2"),
        ({}, {"amb": 2}, "exec gave capabilities 0x2"),
        ({"prm": 2}, {"inh": 2}, "exec gave capabilities 0x2"),
        ({"prm": 2}, {"bnd": 2}, "exec gave capabilities 0x2"),
        ({"prm": 1}, {"prm": 3}, "exec gave capabilities 0x2"),
    ],
)
def test_nothing_may_be_more(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], after: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(exec_guard, "read_status", lambda pid: status(**after))
    assert excess(status(**before), os.getpid()) == why


@pytest.mark.parametrize(
    ("after", "same"),
    [
        ({}, True), ({"umask": 0o77, "tgid": 9, "ppid": 1}, True), ({"groups": [9, 8]}, False),
        ({"uids": (7, 7, 7, 8)}, False), ({"gids": (8, 8, 9, 8)}, False), ({"prm": 3}, False),
        ({"prm": 0}, False), ({"eff": 1}, False), ({"inh": 1}, False), ({"bnd": 1}, False),
        ({"amb": 1}, False), ({"no_new_privs": 1}, False),
    ],
)  # fmt: skip
def test_rights_are_kept_when_nothing_is_more_or_less(after: dict[str, Any], same: bool) -> None:
    before = status(prm=1, no_new_privs=0)
    later = status(**{"prm": 1, "no_new_privs": 0, **after})
    assert keeps_rights(before, 1, lambda pid: later) is same


@pytest.mark.parametrize("error", [OSError, KeyError, ValueError])
def test_rights_that_cannot_be_read_are_not_kept(error: type[Exception]) -> None:
    def read(pid: int) -> Status:
        raise error

    assert not keeps_rights(status(), 1, read)


def test_what_cannot_be_told_is_more() -> None:
    assert excess(status(), 0) == "its new ids cannot be read"
