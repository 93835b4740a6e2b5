"""certexec monitor in the app: keys, floods, and what others wrote into the log."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from certexec.errors import CliError
from certexec.observe.history import History
from certexec.observe.intake import Intake
from certexec.observe.reading import Seen, read_line
from certexec.tui.monitor_app import Advice, MonitorApp
from certexec.tui.screens import LineScreen, TextScreen, YesScreen
from tests.observe.sample import HOSTILE
from tests.tui.conftest import play, shown, until


def call(number: int = 0, **members: object) -> Seen:
    made = {
        "event": "call", "verdict": "deny", "program": "/usr/sbin/nginx", "user": "www-data",
        "syscall": "openat", "pid": number, "arguments": {"filename": f"/etc/file{number}"},
    }  # fmt: skip
    found = read_line(json.dumps({**made, **members}))
    assert found is not None
    return found


class Watch:
    """An app whose events a test hands in."""

    def __init__(self, *events: Seen, kept: int = 10_000) -> None:
        self.coming: list[Seen | str] = list(events)
        self.saved: list[tuple[list[Seen], str, bool]] = []
        self.taken_names: set[str] = set()
        self.copied: list[str] = []
        self.ended = ""
        self.app = MonitorApp(
            self, "x.log", advise=self.advise, save=self.save, history=History(kept)  # type: ignore[arg-type]
        )
        self.app.copy_to_clipboard = self.copied.append  # type: ignore[method-assign]

    def take(self) -> tuple[list[Seen], list[str]]:
        coming, self.coming = self.coming, []
        return (
            [one for one in coming if isinstance(one, Seen)],
            [one for one in coming if isinstance(one, str)],
        )

    def advise(self, seen: Seen) -> Advice:
        return Advice(["advice [red]one[/red]\x1b[2J"], "a rule")

    def save(self, events: list[Seen], name: str, force: bool) -> str:
        if name in self.taken_names and not force:
            raise CliError("exists", f'"{name}" exists')
        if name == "full":
            raise CliError("unreadable", "the disk is full")
        self.saved.append((events, name, force))
        return f"{len(events)} written"

    @property
    def parts(self) -> list[Static]:
        """The parts of the app's own screen, whatever screen is on top."""
        return list(self.app.screen_stack[0].query(Static))

    def part(self, name: str) -> Static:
        return next(one for one in self.parts if one.id == name)

    def lines(self) -> list[str]:
        """The list, line by line."""
        widget = self.app._list
        return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]

    def sees(self, words: str, name: str = "head") -> bool:
        return words in str(self.part(name).content)

    async def comes(self, pilot: Pilot[Any], *events: Seen) -> None:
        wanted = self.app.history.taken + len(events)
        self.coming += events
        await until(pilot, lambda: self.app.history.taken == wanted)


async def opened(pilot: Pilot[Any], watch: Watch, kind: type = LineScreen) -> None:
    """Wait for a screen that takes keys."""
    await until(pilot, lambda: isinstance(watch.app.screen, kind)
                and (kind is not LineScreen or isinstance(watch.app.focused, Input)))  # fmt: skip


def test_events_are_lines_and_the_newest_is_followed() -> None:
    watch = Watch(call(1), call(2, count=12, host="web1"))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("live: 2 events"))
        title, first, second, *_ = watch.lines()
        assert title.split()[:6] == ["time", "host", "verdict", "folded", "user", "program"]
        assert first.startswith("  ") and "deny" in first and "/etc/file1" in first
        assert second.startswith("> ") and "web1" in second and "x12" in second
        await watch.comes(pilot, *(call(number) for number in range(100)))
        assert watch.lines()[-1].startswith(">") and "/etc/file99" in watch.lines()[-1]
        await pilot.press("up", "up")
        await watch.comes(pilot, call(100))
        assert any(line.startswith(">") and "/etc/file97" in line for line in watch.lines())
        assert watch.sees("100 of 103")
        await pilot.press("home")
        assert watch.lines()[1].startswith(">")
        await pilot.press("pagedown", "end")
        assert "/etc/file100" in watch.lines()[-1]
        await watch.comes(pilot, call(101))
        assert "/etc/file101" in watch.lines()[-1]

    play(watch.app, steps)


def test_a_filter_works_while_it_is_typed() -> None:
    watch = Watch(call(1), call(2, verdict="permit"), call(3, program="/bin/id", user="bob"))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("3 events"))
        await pilot.press("f", *"verd")
        assert watch.sees("3 shown") or watch.sees("3 events")
        await pilot.press(*"ict=d")
        assert watch.sees("2 shown")
        await pilot.press(*" program=id")
        assert watch.sees("1 shown")
        await pilot.press("enter")
        assert watch.sees("filter: verdict=d program=id", "filtered")
        # keys are keys again, and a filter that is none is told
        await pilot.press("f", *" verdict=x")
        assert watch.sees('"x" is no verdict', "said") and watch.sees("1 shown")
        await pilot.press("enter")
        assert watch.app._filter.display
        await pilot.press("escape")
        assert watch.sees("1 shown") and watch.app.history.filter.text == "verdict=d program=id"
        await pilot.press("escape")
        assert not watch.sees("shown") and watch.app.history.filter.text == ""

    play(watch.app, steps)


def test_a_pause_holds_the_list_and_says_how_many_came() -> None:
    watch = Watch(call(1))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("1 event"))
        await pilot.press("space")
        await watch.comes(pilot, call(2), call(3))
        await until(pilot, lambda: watch.sees("PAUSED, 2 new"))
        assert "/etc/file1" in watch.lines()[1] and watch.lines()[2] == ""
        await pilot.press("space")
        assert "/etc/file3" in watch.lines()[3]

    play(watch.app, steps)


def test_a_search_marks_and_goes_on_both_ways() -> None:
    watch = Watch(call(1), call(2, user="bob"), call(3), call(4, user="bob"))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("4 events"))
        await pilot.press("slash")
        await opened(pilot, watch)
        await pilot.press(*"BOB", "enter")
        await until(pilot, lambda: watch.app.history.at == 1)
        await pilot.press("n")
        assert watch.app.history.at == 3
        await pilot.press("N")
        assert watch.app.history.at == 1
        await pilot.press("slash")
        await opened(pilot, watch)
        await pilot.press(*"[red]", "enter")
        await until(pilot, lambda: watch.sees('nothing that is shown holds "[red]"', "said"))

    play(watch.app, steps)


def test_counts_are_by_verdict_and_program_with_the_most_denied_first() -> None:
    watch = Watch(call(1, verdict="permit", program="/bin/[b]id"), call(2, count=5), call(3))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("3 events"))
        assert not watch.app._counted.display
        await pilot.press("t")
        lines = str(watch.part("counts").content).split("\n")
        assert lines[0].split() == ["6", "deny"] and lines[1].split() == ["1", "permit"]
        assert lines[3:] == ["/usr/sbin/nginx", "  6 deny", "", "/bin/[b]id", "  1 permit"]
        await pilot.press("t")
        assert not watch.app._counted.display

    play(watch.app, steps)


def test_details_show_all_of_an_event_and_what_is_known_and_copy_the_rule() -> None:
    watch = Watch(call(1, certificate="nginx.cert", reason="unmatched"))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("1 event"))
        await pilot.press("enter")
        await opened(pilot, watch, TextScreen)
        text = str(watch.app.screen.query("#text Static").first().content)  # type: ignore[attr-defined]
        assert text.startswith("advice [red]one[/red]\\x1b[2J")
        assert {"certificate: nginx.cert", "filename: /etc/file1"} <= set(text.split("\n"))
        await pilot.press("down", "c")
        assert watch.copied == ["a rule"] and "copied: a rule" in shown(watch.app, "keys")
        await pilot.press("q")
        assert not isinstance(watch.app.screen, TextScreen)

    assert play(watch.app, steps) is None


def test_what_is_shown_is_written_and_nothing_is_replaced_unasked() -> None:
    watch = Watch(call(1), call(2, verdict="permit"))
    watch.taken_names.add("log")

    async def write(pilot: Pilot[Any], name: str) -> None:
        await pilot.press("w")
        await opened(pilot, watch)
        await pilot.press(*name, "enter")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("2 events"))
        await pilot.press("f", *"verdict=deny", "enter")
        await write(pilot, "log")
        await opened(pilot, watch, YesScreen)
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(watch.app.screen, YesScreen))
        assert watch.saved == []
        await write(pilot, "log")
        await opened(pilot, watch, YesScreen)
        await pilot.press("y")
        await until(pilot, lambda: watch.sees("1 written", "said"))
        await write(pilot, "full")
        await until(pilot, lambda: watch.sees("the disk is full", "said"))
        await pilot.press("f", *" nothing", "enter", "w")
        await until(pilot, lambda: watch.sees("nothing to write", "said"))

    play(watch.app, steps)
    ((events, name, force),) = watch.saved
    assert [one.text("pid") for one in events] == ["1"] and (name, force) == ("log", True)


def test_a_flood_leaves_keys_working_and_what_was_dropped_is_told() -> None:
    watch = Watch(kept=1000)

    async def steps(pilot: Pilot[Any]) -> None:
        for round_ in range(10):
            await watch.comes(pilot, *(call(round_ * 2000 + at) for at in range(2000)))
            await pilot.press("up" if round_ % 2 else "end")
        assert watch.sees("20000 events, 19000 oldest dropped (the last 1000 are kept)")
        await pilot.press("end", "f", *"file19999", "enter")
        assert watch.sees("1 shown") and "/etc/file19999" in watch.lines()[1]

    play(watch.app, steps)


@pytest.mark.parametrize("member", ["program", "user", "verdict", "syscall", "host", "reason"])
def test_what_others_wrote_cannot_drive_the_screen(member: str) -> None:
    odd = "[red]" + HOSTILE + "\x1b]52;c;eA==\x07"
    watch = Watch(call(1, **{member: odd}), call(2, arguments={odd: odd}))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("2 events"))
        await pilot.press("t")
        texts = [*watch.lines(), *(str(one.content) for one in watch.parts)]
        assert any("eA==\\x07" in text for text in texts) or member == "reason"
        assert all(line.isprintable() for text in texts for line in text.split("\n"))
        await pilot.press("enter")
        await opened(pilot, watch, TextScreen)
        drawn = watch.app.export_screenshot()
        assert "\x1b" not in drawn and "\x9b" not in drawn and "\u202e" not in drawn

    play(watch.app, steps)


def test_the_end_of_the_log_and_words_of_the_feed_are_told() -> None:
    watch = Watch()

    async def steps(pilot: Pilot[Any]) -> None:
        assert watch.sees("waiting: 0 events; x.log")
        watch.coming.append('"/bin/tell" was not started')
        await until(pilot, lambda: watch.sees("was not started", "said"))
        watch.ended = "the log has ended"
        await until(pilot, lambda: watch.sees("has ended", "said") and watch.sees("ended: 0"))
        await pilot.press("enter", "up", "end", "n", "w")  # where there is nothing
        await pilot.press("q")

    assert play(watch.app, steps) == 0


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (300, 80), (10, 3)])
def test_any_size_of_terminal_will_do(size: tuple[int, int]) -> None:
    watch = Watch(*(call(number, host="web1") for number in range(50)))

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: watch.sees("50 events"))
        await pilot.resize_terminal(*size)
        await until(pilot, partial(_is_drawn, watch, size))
        await pilot.press("t", "t", "up", "enter", "escape", "f", "x", "escape")
        if size >= (40, 10):
            lines = watch.lines()
            assert any(line.startswith(">") for line in lines) and len(lines) >= 6
            assert any("/etc/file4" in line for line in lines)

    play(watch.app, steps)


def _is_drawn(watch: Watch, size: tuple[int, int]) -> bool:
    return watch.app.size == size and watch.app._list.size.width <= size[0]


def test_an_intake_is_what_the_app_takes_from() -> None:
    intake = Intake(one for one in (call(1), "said", None))
    app = MonitorApp(intake, "x", advise=lambda _: Advice([], ""), save=lambda *_: "")
    intake.start()

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.history.taken == 1)

    play(app, steps)
    intake.finish()
