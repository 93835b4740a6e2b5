"""A real headless browser in front of the server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import Served

pytestmark = pytest.mark.timeout(300)


class Neighbour(http.server.ThreadingHTTPServer):
    """Another server on 127.0.0.1, which keeps the headers that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.sent: list[str] = []
        self.page = ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Neighbour

    def do_GET(self) -> None:
        self.server.sent.append(f"{self.path}\n{self.headers}")
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    one = Neighbour()
    yield one
    one.shutdown()
    one.server_close()


def test_the_app_is_seen_and_answers_keys(served: Served, chromium: Chromium) -> None:
    chromium.go(served.address)
    chromium.sees("first rule: untouched")
    chromium.press("p")
    chromium.sees("rule is permitted")
    assert served.file.read_text() == "untouched"
    chromium.press("s")
    assert served.ended() == 7
    assert served.file.read_text() == "permitted"
    chromium.wait(
        lambda: "has ended" in str(chromium.value("document.body.innerText")), "no end is shown"
    )
    assert chromium.complaints() == []
    assert not served.listens()


def test_the_address_is_worth_nothing_afterwards(
    served: Served, chromium: Chromium, tmp_path: Path
) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    second = Chromium(tmp_path / "second")
    try:
        assert second.go(served.address) == 403
        assert second.go(str(chromium.value("location.href"))) == 403
    finally:
        second.close()
    assert served.token not in str(chromium.value("location.href"))
    assert served.token not in str(chromium.value("document.referrer"))
    # and the session that there is goes on
    chromium.press("p")
    chromium.sees("rule is permitted")


def test_an_app_that_breaks_ends_the_session(served: Served, chromium: Chromium) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    chromium.press("b")
    assert served.ended() == 9
    chromium.wait(lambda: chromium.value("document.body.classList.contains('-closed')"), "no end")


def test_closing_the_page_ends_it(served: Served, chromium: Chromium) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    chromium.call("Page.navigate", url="about:blank")
    served.ended()
    assert not served.listens() and served.apps() == []


def test_a_file_leads_in_as_an_address_does(
    served: Served, chromium: Chromium, tmp_path: Path
) -> None:
    from certexec.cli.browser import PAGE

    page = tmp_path / "page.html"
    page.write_text(PAGE.format(served.address))
    chromium.call("Page.navigate", url=page.as_uri())
    chromium.sees("first rule")


def test_the_app_opens_no_addresses_and_delivers_no_files(
    served: Served, chromium: Chromium
) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    chromium.press("u")
    chromium.sees("asked to leave")
    chromium.press("p")
    chromium.sees("rule is permitted")
    said = [
        one["params"]["response"]["payloadData"] for one in chromium.events
        if one["method"] == "Network.webSocketFrameReceived"
        and one["params"]["response"]["opcode"] == 1
    ]  # fmt: skip
    assert not [text for text in said if "open_url" in text or "deliver" in text], said


def test_the_page_reaches_nobody_else(
    served: Served, chromium: Chromium, neighbour: Neighbour
) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    out = f"fetch('{neighbour.address}').then(() => 'out', () => 'held')"
    assert chromium.value(out) == "held"
    picture = (
        "new Promise(end => { const one = new Image(); one.onload = one.onerror = "
        f"() => end('over'); one.src = '{neighbour.address}'; }})"
    )
    assert chromium.value(picture) == "over"
    assert neighbour.sent == []


def test_the_cookie_is_no_scripts_and_no_neighbours(
    served: Served, chromium: Chromium, neighbour: Neighbour
) -> None:
    chromium.go(served.address)
    chromium.sees("first rule")
    assert chromium.value("document.cookie") == ""
    place = chromium.value("location.pathname")
    address = chromium.value("location.href")
    (cookie,) = chromium.call("Network.getCookies", urls=[address])["cookies"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == place
    chromium.go(neighbour.address)
    assert neighbour.sent and cookie["value"] not in "".join(neighbour.sent)


def test_a_page_of_somebody_else_cannot_take_part(
    served: Served, chromium: Chromium, neighbour: Neighbour
) -> None:
    # what it could not know is given to it: the path, and a browser that has the cookie
    served.enter()
    name, _, value = served.cookie.partition("=")
    chromium.call(
        "Network.setCookie", name=name, value=value, url=f"http://{served.host}{served.place}",
        path=served.place, httpOnly=True, sameSite="Strict",
    )  # fmt: skip
    socket = f"ws://{served.host}{served.place}ws"
    for host in ("127.0.0.1", "localhost"):
        chromium.go(neighbour.address.replace("127.0.0.1", host))
        opened = (
            f"new Promise(end => {{ const one = new WebSocket('{socket}');"
            "one.onopen = () => end('open'); one.onerror = () => end('refused'); })"
        )
        assert chromium.value(opened) == "refused"
    assert served.apps() == []
