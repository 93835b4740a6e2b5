"""The terminal app of ``certexec monitor``: certexec.observe.history, shown by Textual."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.widgets import Footer, Input, Static

from certexec.errors import CertexecError
from certexec.observe.history import History
from certexec.observe.intake import Intake
from certexec.observe.reading import VERDICTS, Seen
from certexec.text import printable
from certexec.tui.event_columns import details, end_of
from certexec.tui.event_list import EventList
from certexec.tui.screens import LOW, LineScreen, TextScreen, YesScreen
from certexec.tui.signals import end_on_signals

STEP = 0.1
"""seconds between two looks at what came"""
WIDE, ROOMY = 90, 160
"""columns of a screen that has room for the counts beside the list; that shows them unasked"""
COUNTED = 36
"""columns of the counts"""
PROGRAMS_SHOWN = 200
"""programs that the counts list, those with the most denials first"""
_HINT = "NAME=VALUE (program, user, verdict, host, syscall, certificate), or words"
_DENIED = ("deny", "kill")


class Advice(NamedTuple):
    """What is known about an event beside what it says.

    Attributes:
        lines: for people.
        copied: one line that is worth copying: the rule that would permit it, or the event.
    """

    lines: list[str]
    copied: str


class MonitorApp(App[int]):
    """Shows events as they come."""

    TITLE = "certexec monitor"
    ENABLE_COMMAND_PALETTE = False
    CSS = f"""
    #head {{ background: $primary; color: $text; padding: 0 1; height: 1; }}
    #filter {{ height: 1; border: none; padding: 0 1; }}
    #filtered {{ height: auto; max-height: 1; padding: 0 1; color: $text-accent; }}
    #counted {{ width: {COUNTED}; display: none; border-left: solid $primary; padding: 0 1; }}
    #counted.open {{ display: block; }}
    #counts {{ width: auto; }}
    .alone #counted {{ width: 1fr; border-left: none; }}
    .alone EventList {{ display: none; }}
    #said {{ padding: 0 1; height: auto; max-height: 3; color: $text-warning; }}
    .box {{ width: 90%; height: auto; border: round $accent; background: $surface; padding: 1 2; }}
    .whole {{ width: 100%; height: 100%; padding: 0 1; }}
    #text {{ height: 1fr; }}
    #keys {{ height: auto; max-height: 2; color: $text-muted; }}
    #wrong {{ color: $text-error; height: auto; }}
    .-low .box {{ padding: 0 1; }}
    LineScreen, YesScreen, TextScreen {{ align: center middle; }}
    """
    VERTICAL_BREAKPOINTS = LOW
    BINDINGS = [
        # before the list sees it, so that what is typed behind it is for the filter already
        Binding("f", "filter", "filter", priority=True),
        Binding("slash", "search", "search", key_display="/"),
        Binding("n", "again(1)", "next", show=False),
        Binding("N", "again(-1)", "previous", show=False),
        Binding("space,p", "pause", "pause", key_display="space"),
        Binding("t", "counts", "counts"),
        Binding("w", "write", "write"),
        Binding("q,ctrl+c", "leave", "quit"),
    ]

    def __init__(
        self, intake: Intake, source: str, *, advise: Callable[[Seen], Advice],
        save: Callable[[list[Seen], str, bool], str], history: History | None = None,
    ) -> None:  # fmt: skip
        """``source``: what is read, in words.

        ``advise``: what is known about an event; ``save``: writes events to a file of that name,
        over one that is there only if told so, and says what to do with it (CertexecError
        "exists", and others where it cannot).
        """
        super().__init__()
        self.history = history if history is not None else History()
        self._intake = intake
        self._source = source
        self._advise = advise
        self._save = save
        self._ended = False
        self._words = ""
        self._wide = False
        self._chosen = False  # the counts were opened or closed by a key
        # looked up by no query: the clock ticks on while another screen is on top
        self._head = Static(Content(""), id="head")
        self._filter = Input(
            placeholder=_HINT, id="filter", compact=True, select_on_focus=False
        )
        self._filtered = Static(Content(""), id="filtered")
        self._list = EventList(self.history)
        self._counted = VerticalScroll(id="counted", can_focus=False)
        self._counts = Static(Content(""), id="counts")
        self._said = Static(Content(""), id="said")
        self._filter.display = self._said.display = False

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield self._head
        yield self._filter
        yield self._filtered
        with Horizontal(id="parts"):
            yield self._list
            with self._counted:
                yield self._counts
        yield self._said
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        end_on_signals(self)
        self._list.focus()
        self.set_interval(STEP, self.look)
        self.look()
        self.show()

    def on_resize(self, event: Resize) -> None:
        """Show the counts where there is room, unless a key has decided."""
        self._wide = event.size.width >= WIDE
        if not self._chosen:
            self._counted.set_class(event.size.width >= ROOMY, "open")
        self._place_counts()

    # -- what is shown ----------------------------------------------------------------------------

    def look(self) -> None:
        """Take what came, and show it."""
        events, words = self._intake.take()
        if events:
            self.history.add(events)
        if words:
            self.say(words[-1])
        elif not events and self._intake.ended and not self._ended:
            self._ended = True
            self.say(self._intake.ended)
        elif not events:
            return
        self.show()

    def show(self) -> None:
        """Show where the history is now."""
        self._head.update(Content(self._headline()))
        text = self.history.filter.text.strip()
        self._filtered.update(Content(printable(f"filter: {text}") if text else ""))
        self._filtered.display = bool(text) and not self._filter.display
        if self._counted.has_class("open"):
            self._counts.update(Content("\n".join(count_lines(self.history))))
        self._list.show()

    def _headline(self) -> str:
        history = self.history
        parts = [f"{history.taken} events" if history.taken != 1 else "1 event"]
        if history.filter.text.strip():
            parts.append(f"{len(history.shown)} shown")
        if history.dropped:
            parts.append(f"{history.dropped} oldest dropped (the last {history.kept_max} are kept)")
        if history.lost:
            parts.append(f"{history.lost} lost by the log")
        if history.paused:
            parts.insert(0, f"PAUSED, {history.waiting} new")
        elif history.shown and not history.following:
            parts.insert(0, f"{history.at + 1} of {len(history.shown)}")
        state = "ended" if self._ended else "waiting" if not history.taken else "live"
        return printable(f"certexec monitor, {state}: {', '.join(parts)}; {self._source}")

    def say(self, words: str) -> None:
        """Say something at the bottom."""
        self._said.update(Content(printable(words)))
        self._said.display = bool(words)

    def on_event_list_moved(self) -> None:
        """Say which event is marked."""
        self.show()

    def on_event_list_opened(self, opened: EventList.Opened) -> None:
        """Show all about an event."""
        advice = self._advise(opened.seen)
        said = [*map(printable, advice.lines), "", *details(opened.seen)]
        self.push_screen(TextScreen("\n".join(said).strip("\n"), printable(advice.copied)))

    # -- keys -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the letter to who reads letters."""
        typing = self._filter.display or len(self.screen_stack) > 1
        return not (action == "filter" and typing)

    def action_filter(self) -> None:
        """Type a filter; it is at work with each key."""
        self._before = self.history.filter.text
        self._filter.value = self._before
        self._filter.cursor_position = len(self._before)
        self._filter.display = True
        # at once: focus() would come after keys that wait already
        self.screen.set_focus(self._filter)
        self.show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter by what is typed so far."""
        if event.input is not self._filter or not self._filter.display:
            return
        try:
            self.history.choose(event.value, typing=True)
        except CertexecError as error:
            self.say(error.message)
        else:
            self.say("")
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        if event.input is not self._filter:
            return
        try:
            self.history.choose(event.value)
        except CertexecError as error:
            self.say(error.message)
        else:
            self._close_filter()

    def _close_filter(self) -> None:
        self._filter.display = False
        self.screen.set_focus(self._list)
        self.show()

    def key_escape(self) -> None:
        """Leave the filter as it was before, or take it away."""
        before = self._before if self._filter.display else ""
        self.history.choose(before)
        self.say("")
        self._close_filter()

    @work
    async def action_search(self) -> None:
        """Mark the next event that holds some words."""
        words = await self.push_screen_wait(LineScreen("search for", self._words))
        if words:
            self._words = words
            self.action_again(1)

    def action_again(self, step: int) -> None:
        """Search for the same again."""
        if self._words:
            found = self.history.find(self._words, step)
            self.say("" if found else f'nothing that is shown holds "{self._words}"')
            self.show()

    def action_pause(self) -> None:
        """Hold what is shown, or go on."""
        if self.history.paused:
            self.history.resume()
        else:
            self.history.pause()
        self.show()

    def action_counts(self) -> None:
        """Show the counts, or the list alone."""
        self._chosen = True
        self._counted.toggle_class("open")
        self._place_counts()

    def _place_counts(self) -> None:
        alone = self._counted.has_class("open") and not self._wide
        self.screen_stack[0].set_class(alone, "alone")
        self.show()

    @work
    async def action_write(self) -> None:
        """Write what is shown to a file."""
        events = [one.seen for one in self.history.shown]
        if not events:
            self.say("nothing is shown: there is nothing to write")
            return
        name = await self.push_screen_wait(LineScreen(f"write {len(events)} events to the file"))
        if not name:
            return
        try:
            try:
                said = self._save(events, name, False)
            except CertexecError as error:
                if error.reason != "exists":
                    raise
                asked = YesScreen(f"{printable(error.message)}. Replace it?")
                if not await self.push_screen_wait(asked):
                    return
                said = self._save(events, name, True)
        except CertexecError as error:
            said = error.message
        self.say(said)

    def action_leave(self) -> None:
        """Leave without a trace."""
        self.exit(0)


def count_lines(history: History) -> list[str]:
    """Return the counts as lines: of each verdict, then of each program."""
    known = [one for one in (*VERDICTS, "others") if one in history.verdicts]
    lines = [f"{history.verdicts[one]:>9} {one}" for one in known] or ["nothing was counted"]

    def most(one: tuple[str, dict[str, int]]) -> tuple[int, int]:
        denied = sum(one[1].get(verdict, 0) for verdict in _DENIED)
        return -denied, -sum(one[1].values())

    ranked = sorted(history.programs.items(), key=most)
    for program, counts in ranked[:PROGRAMS_SHOWN]:
        shown = ", ".join(f"{counts[one]} {one}" for one in (*VERDICTS, "others") if one in counts)
        lines += ["", end_of(program, COUNTED - 4), f"  {shown}"]
    if len(ranked) > PROGRAMS_SHOWN:
        lines += ["", f"and {len(ranked) - PROGRAMS_SHOWN} more programs"]
    return lines
