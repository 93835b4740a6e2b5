"""certexec policy review in the app: keys, and what comes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from certexec.errors import CliError
from certexec.policy.learned_paths import Places
from certexec.policy.review import Review
from certexec.tui.review_app import ReviewApp
from certexec.tui.screens import LineScreen, YesScreen
from tests.policy.common import ALICE, USERS
from tests.tui.conftest import choices, play, shown, until

TEXT = """\
Policy: /bin/x, Emulation: native
# what it reads
\tnative-fsread: filename eq "/etc/hosts" then permit # names
\tnative-fsread: filename match "/usr/share" then permit
\tnative-read: permit
"""
PLACES = Places("", "/home/alice", "alice", ("/home/alice",))


class Desk:
    """A review, its app, and what was saved."""

    def __init__(self, text: str = TEXT, save: Callable[[str], None] | None = None) -> None:
        self.saved: list[str] = []
        self.counted: list[str] = []
        self.review = Review(
            text, name="x.policy", users=USERS, presets={}, subject=ALICE, places=PLACES
        )
        self.app = ReviewApp(self.review, count=self.count, save=save or self.saved.append)

    def count(self, condition: str) -> str:
        self.counted.append(condition)
        return f"{len(condition)} files"


OPENS = ("slash", "e", "q")
"""Keys that open a screen, when there is something to ask."""


async def opened(pilot: Pilot[Any], desk: Desk) -> None:
    """Wait for a screen that takes keys: what is typed before it is there is not for it."""
    await until(pilot, lambda: isinstance(desk.app.screen, YesScreen)
                or isinstance(desk.app.screen, LineScreen) and desk.app.focused is not None)


def keys(desk: Desk, *pressed: str) -> Any:
    async def steps(pilot: Pilot[Any]) -> None:
        for key in pressed:
            await pilot.press(key)
            if key in OPENS:
                await opened(pilot, desk)

    return play(desk.app, steps)


def test_one_rule_is_shown_with_suggestions_and_how_many_files_they_cover() -> None:
    desk = Desk()

    async def steps(pilot: Pilot[Any]) -> None:
        assert 'native-fsread: filename eq "/etc/hosts" then permit' in shown(desk.app, "what")
        assert "1 of 3" in shown(desk.app, "head")
        await until(pilot, lambda: all("files)" in one for one in choices(desk.app)[:-1]))
        assert [one.split(":")[0] for one in choices(desk.app)] == [
            "1. as it stands", "2. directory", "3. tree", "4. any",
        ]  # fmt: skip
        assert "holds the things of many programs" in choices(desk.app)[2]

    play(desk.app, steps)


def test_answers_change_lines_and_nothing_else() -> None:
    desk = Desk()
    assert keys(desk, "down", "down", "p", "d", "s", "w") is True
    changed = TEXT.replace('eq "/etc/hosts" then', 'match "/etc" then')
    changed = changed.replace('"/usr/share" then permit', '"/usr/share" then deny')
    assert desk.saved == [changed]


def test_undo_takes_one_answer_back_each_time() -> None:
    desk = Desk()
    keys(desk, "d", "d", "u", "u", "u")
    assert desk.review.at == 0 and not desk.review.changed


def test_saving_where_nothing_would_change_leaves() -> None:
    desk = Desk()

    async def steps(pilot: Pilot[Any]) -> None:
        await pilot.press("w")

    assert play(desk.app, steps) is False
    assert desk.saved == []


def test_an_edit_that_is_no_rule_is_told_and_stays_on_the_screen() -> None:
    desk = Desk()

    async def steps(pilot: Pilot[Any]) -> None:
        await pilot.press("e")
        await opened(pilot, desk)
        await pilot.press("end", *"xbogus", "enter")
        await until(pilot, lambda: bool(shown(desk.app, "wrong")))
        assert desk.review.at == 0
        for _ in "xbogus":
            await pilot.press("backspace")
        await pilot.press("space", "l", "o", "g", "enter")
        await until(pilot, lambda: desk.review.at == 1)
        await pilot.press("w")

    assert play(desk.app, steps) is True
    assert desk.saved == [TEXT.replace("then permit # names", "then permit log # names")]


def test_search_goes_to_what_holds_the_words() -> None:
    desk = Desk()
    keys(desk, "slash", *"native-read", "enter")
    assert desk.review.at == 2


@pytest.mark.parametrize(("last", "left"), [("y", True), ("n", False)])
def test_leaving_with_answers_asks_first_and_writes_nothing(last: str, left: bool) -> None:
    desk = Desk()
    result = keys(desk, "d", "q", last)
    assert (result is False) == left
    assert desk.saved == []


def test_a_file_that_cannot_be_written_keeps_the_app_and_the_answers() -> None:
    def fail(_: str) -> None:
        raise CliError("unreadable", "the disk is full")

    desk = Desk(save=fail)

    async def steps(pilot: Pilot[Any]) -> None:
        await pilot.press("d", "w")
        await until(pilot, lambda: "the disk is full" in shown(desk.app, "said"))

    assert play(desk.app, steps) is None
    assert desk.review.changed


def test_what_a_policy_says_cannot_drive_the_screen() -> None:
    desk = Desk(TEXT.replace("/etc/hosts", "/etc/[red]x\x1b[2J"))

    async def steps(pilot: Pilot[Any]) -> None:
        assert "/etc/[red]x\\x1b[2J" in shown(desk.app, "what")

    play(desk.app, steps)


def test_a_count_that_ends_while_another_screen_is_open_is_shown_after_it() -> None:
    desk = Desk()
    gate = threading.Event()
    desk.app._count = lambda condition: str(gate.wait() and f"{len(condition)} files")

    async def steps(pilot: Pilot[Any]) -> None:
        await pilot.press("e")
        await opened(pilot, desk)
        gate.set()
        await until(pilot, lambda: all("files)" in str(one.prompt) for one in
                                       desk.app._options.options[:-1]))  # fmt: skip
        await pilot.press("escape")

    play(desk.app, steps)
