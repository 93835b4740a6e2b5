"""The app's process behind one websocket: Textual's web driver, spoken to by textual-serve.

textual-serve starts a command through a shell, delivers files and opens addresses for the app.
Nothing of that is wanted here: the command is an argument list that was made before the server
was, and of what the app says only its screen and its end are passed on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from certexec.kernel.libc import syscall
from certexec.kernel.syscalls import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    from aiohttp import web

_PR_SET_PDEATHSIG = 1
COLUMNS, LINES = 500, 200
"""The largest screen that a browser may ask for: the app draws as much as it says."""
PATIENCE = 10.0
"""seconds that an app has to end after it was asked to, before it is made to"""


class Session(AppService):
    """One run of the app for one browser."""

    def __init__(self, argv: Sequence[str], websocket: web.WebSocketResponse) -> None:
        """Prepare to run ``argv`` for who is at the other end of ``websocket``."""

        async def close() -> None:
            await websocket.close()

        super().__init__(
            "", write_bytes=websocket.send_bytes, write_str=websocket.send_str, close=close,
            download_manager=DownloadManager(),
        )  # fmt: skip
        self._argv = tuple(argv)
        self._websocket = websocket

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        parent = os.getpid()

        def follow() -> None:
            # an app that outlived its server would hold what it holds (an agent: its socket)
            # with nobody in front of it
            syscall(NUMBERS["prctl"], _PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=follow,
            env=self._build_environment(_at_most(width, COLUMNS), _at_most(height, LINES)),
        )  # fmt: skip
        self._stdin = process.stdin
        return process

    async def run(self) -> None:
        """Pass on what the app says until it ends; then the browser is let go, however it ended."""
        try:
            await super().run()
        finally:
            await self.remote_close()

    async def on_data(self, payload: bytes) -> None:
        """Pass on what the app draws; go on reading when nobody looks, so that it can end."""
        if not self._websocket.closed:
            try:
                await self.remote_write_bytes(payload)
            except ConnectionError:
                pass

    async def on_meta(self, data: bytes) -> None:
        """Pass on nothing: no addresses to open, no files; the end is seen as an end."""

    async def on_packed(self, payload: bytes) -> None:
        """Deliver nothing."""

    async def take(self, text: str) -> None:
        """Take one message of the page's. Raises ValueError for what the page never says."""
        message = json.loads(text)
        if not isinstance(message, list) or not message:
            raise ValueError(text)
        match message:
            case ["stdin", str(typed)]:
                await self.send_bytes(typed.encode("utf-8", "surrogatepass"))
            case ["resize", {"width": int(width), "height": int(height)}]:
                await self.set_terminal_size(_at_most(width, COLUMNS), _at_most(height, LINES))
            case ["ping", data]:
                await self.remote_write_str(json.dumps(["pong", data]))
            case ["focus", *_]:
                await self.focus()
            case ["blur", *_]:
                await self.blur()
            case _:
                raise ValueError(text)

    async def end(self) -> int:
        """Ask the app to end, make it end when it does not, and return its exit status."""
        process, reader = self._process, self._task
        if process is None:
            return 0
        if process.returncode is None:
            await self.send_meta({"type": "quit"})
        for force in (process.terminate, process.kill):
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
                break
            except TimeoutError:
                force()
        status = await process.wait()
        if reader is not None:
            await reader
        return status


def _at_most(asked: int, limit: int) -> int:
    return max(1, min(asked, limit))
