"""The server as somebody else on the machine meets it, and its end."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from certexec.browser.server import NobodyCameError, serve
from tests.browser.conftest import Served, cmdline, until


def test_it_listens_on_loopback_only_and_on_a_port_that_is_not_known_before(
    served: Served, tmp_path: Path
) -> None:
    assert served.listens()
    for other in ("127.0.0.2", "::1"):
        assert not served.listens(other), other
    other_file = tmp_path / "other"
    other_file.write_text("")
    another = Served(other_file)
    try:
        assert another.port != served.port
    finally:
        another.process.terminate()
        another.process.communicate()


def test_everything_is_refused_without_the_token(served: Served) -> None:
    for path in ("/", "/?token=", "/ws", "/static/js/textual.js", "/download/x", "/none", "//"):
        answer = served.get(path)
        assert (answer.status, answer.body) == (403, b"refused\n"), path
    assert served.connect().status == 403
    assert served.apps() == []


def test_the_address_opens_once(served: Served) -> None:
    assert served.get(f"/?token={served.token}", Host="evil.example").status == 403
    assert served.get(f"/?token={served.token}", method="POST").status == 403
    entered = served.enter()
    assert served.place.encode() in entered.body
    assert served.get(f"/?token={served.token}").status == 403
    assert served.get(f"/?token={served.token}", Cookie=None).status == 403
    assert served.get(served.place).status == 200


def test_pages_scripts_and_the_websocket_want_the_cookie_and_the_host(served: Served) -> None:
    served.enter()
    for path in ("", "page.js", "static/js/textual.js", "static/css/xterm.css"):
        assert served.get(served.place + path).status == 200, path
        assert served.get(served.place + path, Cookie=None).status == 403, path
        assert served.get(served.place + path, Cookie="certexec=x").status == 403, path
        assert served.get(served.place + path, Host="evil.example").status == 403, path
    assert served.connect(Cookie=None).status == 403
    assert served.connect(Host=f"evil.example:{served.port}").status == 403
    assert served.apps() == []


def test_a_page_from_elsewhere_cannot_open_the_websocket(served: Served) -> None:
    served.enter()
    for origin in ("http://evil.example", f"http://127.0.0.1:{served.port + 1}", "null", None):
        assert served.connect(Origin=origin).status == 403, origin
    assert served.apps() == []
    assert served.connect().status == 101


def test_there_is_one_session_and_never_a_second(served: Served) -> None:
    served.enter()
    assert served.connect().status == 101
    assert served.connect().status == 409
    until(served.apps, "the app has not started")
    assert len(served.apps()) == 1


def test_files_are_neither_listed_nor_taken_nor_given(served: Served) -> None:
    served.enter()
    for path in ("static/", "static", "static/js/", "download/x", "upload", "static/../server.py",
                 "static/%2e%2e/server.py", "static//etc/passwd"):  # fmt: skip
        assert served.get(served.place + path).status in (403, 404), path
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert served.get(served.place, method=method).status == 403
    assert served.get(served.place + "ws").status in (400, 403)


def test_answers_are_not_kept_not_framed_and_tell_nobody_where_they_were(served: Served) -> None:
    for answer in (served.get("/none"), served.enter(), served.get(served.place)):
        headers = answer.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert f"connect-src ws://{served.host};" in policy
    assert b"//" not in served.get(served.place).body.replace(f"ws://{served.host}".encode(), b"")


def test_the_command_is_what_it_was_and_screens_are_no_larger_than_can_be_drawn(
    served: Served
) -> None:
    served.enter()
    assert served.connect("?width=9999&height=9999&command=id&argv=id").status == 101
    until(served.apps, "the app has not started")
    (app,) = served.apps()
    assert cmdline(app)[2:] == cmdline(served.process.pid)[6:]
    environment = Path(f"/proc/{app}/environ").read_text().split("\0")
    assert {"COLUMNS=500", "ROWS=200"} <= set(environment)


def test_no_process_shows_the_token_to_others(served: Served) -> None:
    served.enter()
    served.connect()
    until(served.apps, "the app has not started")
    secrets = (served.token, served.cookie.partition("=")[2], served.place.strip("/"))
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        assert not any(secret in " ".join(cmdline(pid)) for secret in secrets)
    (app,) = served.apps()
    environment = Path(f"/proc/{app}/environ").read_text()
    assert not any(secret in environment for secret in secrets)


def _is_gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_all_of_it_ends_when_the_browser_closes(served: Served) -> None:
    served.enter()
    served.connect()
    until(served.apps, "the app has not started")
    (app,) = served.apps()
    served.open.pop().close()
    served.ended()
    assert _is_gone(app) and not served.listens()
    assert served.file.read_text() == "untouched"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("begun", [False, True])
def test_all_of_it_ends_by_a_signal(served: Served, number: signal.Signals, begun: bool) -> None:
    apps = []
    if begun:
        served.enter()
        served.connect()
        until(served.apps, "the app has not started")
        apps = served.apps()
    served.process.send_signal(number)
    served.ended()
    assert all(map(_is_gone, apps)) and not served.listens()


def test_the_app_does_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    number = tmp_path / "number"
    # an app that does not look whether anybody is there
    app = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    served = Served(number, "-c", app)
    served.enter()
    served.connect()
    until(lambda: number.exists() and number.read_text(), "the app has not started")
    served.process.kill()
    served.process.communicate()
    try:
        until(lambda: _is_gone(int(number.read_text())), "the app lives on")
    finally:
        if not _is_gone(int(number.read_text())):
            os.kill(int(number.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("said", [b"what", b'["what"]', b'"what"', b'["stdin",7]'])
def test_what_no_page_says_ends_the_session(served: Served, said: bytes) -> None:
    served.enter()
    served.connect()
    until(served.apps, "the app has not started")
    # a text frame, masked with zeros as a client must
    served.open[0].sendall(b"\x81" + bytes([0x80 | len(said)]) + bytes(4) + said)
    served.ended()
    assert served.apps() == []


def test_a_door_is_not_left_standing_when_nobody_comes() -> None:
    addresses: list[str] = []
    with pytest.raises(NobodyCameError):
        serve(["/bin/false"], addresses.append, opening=0.2)
    port = int(addresses[0].partition("127.0.0.1:")[2].partition("/")[0])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serve(["/bin/false"], lambda _: None, port=taken.getsockname()[1])
