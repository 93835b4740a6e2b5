"""Who may run a certificate, from where, with what, and when."""

from __future__ import annotations

import grp
import pwd

import pytest

from certexec.certificate.model import Invocation
from certexec.errors import RunError
from certexec.run.invocation import admit

NOON_MONDAY = 1700481600 - 1700481600 % 86400 + 12 * 3600  # 2023-11-20, a Monday, 12:00 UTC
EVERYONE = (True, "everyone", "", 0)


class Somebody:
    """An invoker as ``admit`` sees one."""

    def __init__(self, uid: int = 4711, gid: int = 4711, groups: tuple[int, ...] = ()) -> None:
        self.uid, self.gid, self.groups, self.tty = uid, gid, list(groups), 0


def refusal(invocation: Invocation, who: Somebody, argv: tuple[bytes, ...] = (b"x",)) -> str:
    try:
        admit(invocation, who, argv, NOON_MONDAY)  # type: ignore[arg-type]
    except RunError as error:
        return error.reason
    return "admitted"


def rules(*entries: tuple[bool, str, str, int], **more: object) -> Invocation:
    return Invocation(list(entries), **more)  # type: ignore[arg-type]


def test_an_empty_list_means_nobody() -> None:
    assert refusal(rules(), Somebody()) == "acl-denied"
    assert refusal(rules(), Somebody(uid=0, gid=0)) == "acl-denied"


def test_the_first_entry_that_names_the_invoker_decides() -> None:
    deny_then_allow = rules((False, "user", "", 4711), EVERYONE)
    allow_then_deny = rules(EVERYONE, (False, "user", "", 4711))
    assert refusal(deny_then_allow, Somebody()) == "acl-denied"
    assert refusal(deny_then_allow, Somebody(uid=1)) == "admitted"
    assert refusal(allow_then_deny, Somebody()) == "admitted"


def test_primary_and_supplementary_groups_count() -> None:
    assert refusal(rules((True, "group", "", 7)), Somebody(gid=7)) == "admitted"
    assert refusal(rules((True, "group", "", 7)), Somebody(groups=(6, 7))) == "admitted"
    assert refusal(rules((True, "group", "", 7)), Somebody(groups=(6,))) == "acl-denied"


def test_a_name_that_has_another_number_here_lets_nobody_in() -> None:
    root = pwd.getpwuid(0).pw_name
    assert refusal(rules((True, "user", root, 4711)), Somebody()) == "acl-denied"
    assert refusal(rules((True, "user", "no-such-user", 4711)), Somebody()) == "acl-denied"
    assert refusal(rules((True, "user", root, 0)), Somebody(uid=0)) == "admitted"


def test_a_denied_name_keeps_out_by_name_and_by_number() -> None:
    root = pwd.getpwuid(0).pw_name
    group = grp.getgrgid(0).gr_name
    assert refusal(rules((False, "user", root, 4711), EVERYONE), Somebody(uid=0)) == "acl-denied"
    assert refusal(rules((False, "user", root, 4711), EVERYONE), Somebody()) == "acl-denied"
    assert refusal(rules((False, "group", group, 9), EVERYONE), Somebody(gid=0)) == "acl-denied"


def test_a_terminal_can_be_required() -> None:
    who = Somebody()
    assert refusal(rules(EVERYONE, tty=True), who) == "tty-required"
    who.tty = 34816
    assert refusal(rules(EVERYONE, tty=True), who) == "admitted"


def test_every_argument_must_match_a_glob() -> None:
    only = rules(EVERYONE, argv_globs=["-c", "[0-9]*"])
    assert refusal(only, Somebody(), (b"prog", b"-c", b"12")) == "admitted"
    assert refusal(only, Somebody(), (b"prog", b"-c", b"x")) == "argv-denied"
    assert refusal(only, Somebody(), (b"prog",)) == "admitted"


@pytest.mark.parametrize(
    ("window", "verdict"),
    [
        ((1, 0, 1440), "admitted"),
        ((2, 0, 1440), "time-denied"),
        ((127, 720, 721), "admitted"),
        ((127, 0, 720), "time-denied"),
        ((127, 721, 1440), "time-denied"),
    ],
)
def test_windows_bound_the_time_of_day(window: tuple[int, int, int], verdict: str) -> None:
    assert refusal(rules(EVERYONE, windows=[window]), Somebody()) == verdict
