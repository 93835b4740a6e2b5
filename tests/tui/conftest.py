"""The terminal app without a terminal: Textual's pilot presses the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

Play = Callable[[Pilot[Any]], Coroutine[Any, Any, None]]


def play(app: App[Any], steps: Play) -> Any:
    """Run an app, let ``steps`` happen, and return the app's result."""

    async def run() -> Any:
        async with app.run_test(size=(110, 40)) as pilot:
            await pilot.pause()
            await steps(pilot)
            await pilot.pause()
        return app.return_value

    return asyncio.run(run())


def shown(app: App[Any], name: str) -> str:
    """Return the text of a part of the screen."""
    return str(app.screen.query_one(f"#{name}", Static).content)


def choices(app: App[Any], name: str = "suggestions") -> list[str]:
    return [str(one.prompt) for one in app.query_one(f"#{name}", OptionList).options]


async def until(pilot: Pilot[Any], holds: Callable[[], bool]) -> None:
    """Wait for a condition, however long that takes."""
    while not holds():  # the test's own time limit ends it
        await pilot.pause(0.02)
