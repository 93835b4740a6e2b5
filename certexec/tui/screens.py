"""Small screens that ask for a line of text, or for a yes, and one that shows a text."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

LOW = [(0, "-low"), (16, "-high")]
"""A terminal of fewer lines than these has the class "-low": no room for frames and distance."""


class LineScreen(ModalScreen[str | None]):
    """Asks for a line; ``check`` says what is wrong with it, "" for nothing."""

    BINDINGS = [Binding("escape", "leave", "leave it")]

    def __init__(
        self, words: str, value: str = "", check: Callable[[str], str] | None = None
    ) -> None:
        super().__init__()
        self._words = words
        self._value = value
        self._check = check

    def compose(self) -> ComposeResult:
        """Make the box."""
        with Vertical(classes="box"):
            yield Static(Content(self._words))
            yield Input(self._value, id="line")
            yield Static(Content(""), id="wrong")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line, or say what is wrong with it."""
        wrong = self._check(event.value) if self._check is not None else ""
        if wrong:
            self.query_one("#wrong", Static).update(Content(wrong))
        else:
            self.dismiss(event.value)

    def action_leave(self) -> None:
        """Leave without a line."""
        self.dismiss(None)


class YesScreen(ModalScreen[bool]):
    """Asks for a yes: one key."""

    BINDINGS = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def compose(self) -> ComposeResult:
        """Make the box."""
        with Vertical(classes="box"):
            yield Static(Content(self._words))
            yield Static(Content("y: yes    n: no"), id="keys")

    def action_answer(self, yes: bool) -> None:
        """Take the answer."""
        self.dismiss(yes)


class TextScreen(ModalScreen[None]):
    """Shows lines that may be more than there is room for, and copies what is worth it."""

    BINDINGS = [
        Binding("escape,q,enter", "leave", "back"),
        Binding("c", "copy", "copy"),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
    ]

    def __init__(self, text: str, copied: str) -> None:
        """``text``: fit for a terminal; ``copied``: one line."""
        super().__init__()
        self._text = text
        self._copied = copied

    def compose(self) -> ComposeResult:
        """Make the box."""
        with Vertical(classes="box whole"):
            with VerticalScroll(id="text", can_focus=False):
                yield Static(Content(self._text))
            yield Static(Content("escape: back    c: copy"), id="keys")

    def action_copy(self) -> None:
        """Put it where the terminal pastes from."""
        self.app.copy_to_clipboard(self._copied)
        self.query_one("#keys", Static).update(Content(f"copied: {self._copied}"))

    def action_scroll(self, lines: int) -> None:
        """Show what is above or below."""
        self.query_one("#text", VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)
