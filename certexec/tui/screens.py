"""Small screens that ask for a line of text, or for a yes."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static


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
