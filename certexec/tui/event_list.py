"""The list of events: however many there are, only the lines on the screen are made."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from certexec.observe.history import History
from certexec.observe.reading import Seen
from certexec.tui.event_columns import Column, briefly, cell, columns

TITLES = {"times": "folded"}


class EventList(Widget, can_focus=True):
    """Shows what a history shows; keys mark another event."""

    COMPONENT_CLASSES = {"title", "marked", "deny", "kill", "ask", "permit"}
    DEFAULT_CSS = """
    EventList { height: 1fr; width: 1fr; }
    EventList > .title { text-style: bold; color: $text-muted; }
    EventList > .marked { background: $primary 40%; text-style: bold; }
    EventList > .deny { color: $text-error; }
    EventList > .kill { color: $text-error; text-style: bold; }
    EventList > .ask { color: $text-warning; }
    EventList > .permit { color: $text-success; }
    """
    BINDINGS = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "top", show=False),
        Binding("end,G", "newest", "newest", key_display="end"),
        Binding("enter", "open", "details", key_display="enter"),
    ]

    class Opened(Message):
        """Somebody wants to know all about an event."""

        def __init__(self, seen: Seen) -> None:
            super().__init__()
            self.seen = seen

    class Moved(Message):
        """Another event was marked."""

    def __init__(self, history: History) -> None:
        super().__init__(id="events")
        self.history = history
        self._top = 0

    @property
    def rows(self) -> int:
        """How many events there is room for; the first line holds titles."""
        return max(self.size.height - 1, 1)

    def show(self) -> None:
        """Draw it anew, with the marked event on the screen."""
        history, rows = self.history, self.rows
        at = history.at
        self._top = min(max(self._top, at - rows + 1), at)
        self._top = max(min(self._top, len(history.shown) - rows), 0)
        self.refresh()

    def on_resize(self) -> None:
        """Keep the marked event on the screen."""
        self.show()

    def render_line(self, y: int) -> Strip:
        """Make one line of the screen."""
        width = self.size.width
        wanted = columns(width, self.history.hosts)
        if y == 0:
            style = self.get_component_rich_style("title")
            titles = [TITLES.get(one.name, one.name)[: one.width or None] for one in wanted]
            return self._strip(" ", list(zip(wanted, titles, strict=True)), style, width)
        place = self._top + y - 1
        if place >= len(self.history.shown):
            return Strip.blank(width, self.rich_style)
        seen = self.history.shown[place].seen
        is_marked = place == self.history.at
        style = self.get_component_rich_style("marked") if is_marked else self.rich_style
        # the mark is no matter of colour alone
        texts = [(one, cell(seen, one)) for one in wanted]
        last, text = texts[-1]
        if cell_len(text) > width - sum(one.width + 1 for one in wanted):
            texts[-1] = last, briefly(seen)
        return self._strip(">" if is_marked else " ", texts, style, width)

    def _strip(
        self, mark: str, texts: list[tuple[Column, str]], style: Style, width: int
    ) -> Strip:
        segments = [Segment(mark, style)]
        left = width - 1
        for column, text in texts:
            room = max(min(column.width or left, left), 0)
            colour = style
            if column.name == "verdict" and text in self.COMPONENT_CLASSES:
                colour = style + self.get_component_rich_style(text, partial=True)
            segments.append(Segment(fitted(text, room), colour))
            left -= room
            if left > 0:
                segments.append(Segment(" ", style))
                left -= 1
        return Strip(segments).adjust_cell_length(width, style)

    # -- keys and the mouse -----------------------------------------------------------------------

    def _go(self, place: int) -> None:
        self.history.go(place)
        self.show()
        self.post_message(self.Moved())

    def action_move(self, step: int) -> None:
        """Mark the event before, or the next."""
        self._go(self.history.at + step)

    def action_page(self, step: int) -> None:
        """Mark one a screen away."""
        self.action_move(step * self.rows)

    def action_top(self) -> None:
        """Mark the oldest."""
        self._go(0)

    def action_newest(self) -> None:
        """Mark the newest, and go on with it."""
        self._go(len(self.history.shown) - 1)

    def action_open(self) -> None:
        """Ask for all about the marked one."""
        if self.history.marked is not None:
            self.post_message(self.Opened(self.history.marked))

    def on_click(self, event: events.Click) -> None:
        """Mark what is clicked at; twice opens it."""
        place = self._top + event.y - 1
        if event.y >= 1 and place < len(self.history.shown):
            self._go(place)
            if event.chain == 2:
                self.action_open()

    def on_mouse_scroll_up(self) -> None:
        """Go back."""
        self.action_move(-3)

    def on_mouse_scroll_down(self) -> None:
        """Go on."""
        self.action_move(3)


def fitted(text: str, width: int) -> str:
    """Return a text of exactly so many cells; ".." stands for what was cut in it.

    The end stays: that is what tells names in one directory apart.
    """
    if cell_len(text) > width > 8:
        end = (width - 2) // 2
        text = set_cell_size(text, width - 2 - end) + ".." + text[-end:]
    return set_cell_size(text, width)
