"""A small app to be served: shows a file, changes it on keys, and says what it was given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from textual.app import App, ComposeResult
from textual.widgets import Static


class Small(App[int]):
    BINDINGS = [("p", "permit"), ("s", "save"), ("u", "leave"), ("b", "break")]

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.text = self.path.read_text()

    def compose(self) -> ComposeResult:
        yield Static(f"first rule: {self.text}", id="rule")
        yield Static(f"columns {os.environ['COLUMNS']} rows {os.environ['ROWS']}")

    def action_permit(self) -> None:
        self.text = "permitted"
        self.query_one("#rule", Static).update("rule is permitted")

    def action_save(self) -> None:
        self.path.write_text(self.text)
        self.exit(7)

    def action_leave(self) -> None:
        self.open_url("http://example.com/")
        self.deliver_text(self.path, open_method="download")
        self.query_one("#rule", Static).update("asked to leave")

    def action_break(self) -> None:
        os._exit(9)


if __name__ == "__main__":
    sys.exit(Small(sys.argv[1]).run())
