"""How an app ends when it is told to by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from textual.app import App


def end_on_signals(app: App[Any], at_hangup: Callable[[], None] | None = None) -> None:
    """Let SIGTERM end an app in order, and SIGHUP at once; from within its event loop.

    By SIGTERM's default the terminal would stay as the app has set it. When the terminal has gone
    Textual would wait for ever for somebody who writes to it; ``at_hangup`` is what must not be
    left undone then.
    """

    def end_at_once(number: int, _frame: object) -> None:
        if at_hangup is not None:
            at_hangup()
        os._exit(128 + number)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, app.exit, 128 + signal.SIGTERM)
    signal.signal(signal.SIGHUP, end_at_once)
