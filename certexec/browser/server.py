"""A server on loopback for one app and one browser: it listens until that session has ended.

1. a socket on 127.0.0.1, so that the port is known before anybody is told of it;
2. the door, before every route, those that do not exist included;
3. the address is told, and the wait for the browser has a limit: a door is not left standing;
4. the first websocket is the session, there is never a second;
5. the end: the browser closed, the app ended, a signal, or nobody came. Nothing listens after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from importlib import resources
from string import Template

import textual_serve
from aiohttp import WSMsgType, web

from certexec.browser.door import ENTER, PASS, WEBSOCKET, Door
from certexec.browser.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

LOOPBACK = "127.0.0.1"
OPENING = 600.0
"""seconds in which the address must be opened, else the server ends"""
CLOSING = 5.0
"""seconds for requests that are being answered when the server ends"""
HEARTBEAT = 15.0
"""seconds between two signs of life that the browser must give"""
HANDSHAKE = 2.0
"""seconds that the browser has to say that it has seen the end"""
MESSAGE_MAX = 1 << 20
"""bytes of one message of the page's: a large paste"""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src {websocket}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy: the page loads and reaches nothing but this server. Styles are inline
because the terminal in the page makes its own."""
HEADERS = {
    "Cache-Control": "no-store",  # the page would be shown again from a cache
    "Referrer-Policy": "no-referrer",  # the address of the first page holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class NobodyCameError(Exception):
    """The address was not opened in time."""


class StoppedError(Exception):
    """A signal ended the server; ``number`` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def serve(
    argv: Sequence[str], told: Callable[[str], None], *, port: int = 0, opening: float = OPENING
) -> int:
    """Serve the Textual app that ``argv`` starts, to one browser; return its exit status.

    ``told``: called with the address, once the server listens; ``port``: 0 for any that is free;
    ``opening``: seconds in which the address must be opened. Raises OSError (the port is taken),
    NobodyCameError and StoppedError; whichever way it ends, app and server are gone.
    """
    # 1.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        listening.listen()
        return asyncio.run(_Server(argv, listening).run(told, opening))


class _Server:
    def __init__(self, argv: Sequence[str], listening: socket.socket) -> None:
        self._argv = argv
        self._listening = listening
        self._door = Door(listening.getsockname()[1])
        self._session: Session | None = None

    async def run(self, told: Callable[[str], None], opening: float) -> int:
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = loop.create_future()
        for number in ENDING:
            loop.add_signal_handler(number, self._stop, number)
        runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=CLOSING
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._listening).start()
            # 3.
            told(self._door.address)
            loop.call_later(opening, self._give_up)
            # 5.
            return await self._over
        finally:
            if self._session is not None:
                await self._session.end()  # which ends the handler that the clean-up waits for
            await runner.cleanup()

    def _application(self) -> web.Application:
        # 2.
        application = web.Application(middlewares=[self._judge])
        place = self._door.place
        static = os.path.join(os.path.dirname(textual_serve.__file__), "static")
        application.router.add_get(place, self._page)
        application.router.add_get(f"{place}page.js", self._script)
        application.router.add_get(place + WEBSOCKET, self._websocket)
        application.router.add_static(place + "static", static)
        return application

    @web.middleware
    async def _judge(
        self, request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:  # fmt: skip
        headers = {name.lower(): request.headers.getall(name) for name in request.headers}
        verdict = self._door.judge(request.method, request.path, request.query, headers)
        if verdict == ENTER:
            answer: web.StreamResponse = self._entrance()
        elif verdict == PASS:
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                answer = web.Response(status=error.status)
        else:
            answer = web.Response(status=403, text="refused\n")
        if not answer.prepared:
            answer.headers.update(HEADERS)
            answer.headers["Content-Security-Policy"] = POLICY.format(
                websocket=f"ws://{request.headers.get('Host', '')}" if verdict == PASS else "'none'"
            )
        return answer

    def _entrance(self) -> web.Response:
        # A page that leads on, no redirect: a browser that came from elsewhere (a file, a mail)
        # sends a SameSite=Strict cookie only to what this server itself has led to.
        page = Template(_file("enter.html")).substitute(place=self._door.place)
        answer = web.Response(text=page, content_type="text/html")
        answer.headers["Set-Cookie"] = self._door.set_cookie
        return answer

    async def _page(self, request: web.Request) -> web.Response:
        websocket = f"ws://{request.headers['Host']}{self._door.place}{WEBSOCKET}"
        page = Template(_file("page.html")).substitute(websocket=websocket)
        return web.Response(text=page, content_type="text/html")

    async def _script(self, _request: web.Request) -> web.Response:
        return web.Response(text=_file("page.js"), content_type="text/javascript")

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        # 4. no await between the look and the deed
        if self._session is not None or self._over.done():
            return web.Response(status=409, text="there is one session already\n")
        websocket = web.WebSocketResponse(
            heartbeat=HEARTBEAT, max_msg_size=MESSAGE_MAX, timeout=HANDSHAKE
        )
        if not websocket.can_prepare(request).ok:
            return web.Response(status=400)
        self._session = session = Session(self._argv, websocket)
        try:
            await websocket.prepare(request)
            await session.start(_number(request, "width", 80), _number(request, "height", 24))
            async for message in websocket:
                if message.type != WSMsgType.TEXT:
                    break
                await session.take(message.data)
        except ValueError:
            pass  # no page of ours says that
        finally:
            status = await session.end()
            await websocket.close()
            if not self._over.done():
                self._over.set_result(status)
        return websocket

    def _give_up(self) -> None:
        if self._session is None and not self._over.done():
            self._over.set_exception(NobodyCameError())

    def _stop(self, number: int) -> None:
        if not self._over.done():
            self._over.set_exception(StoppedError(number))


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else default


def _file(name: str) -> str:
    return resources.files("certexec.browser").joinpath(name).read_text()
