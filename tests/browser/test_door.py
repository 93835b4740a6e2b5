"""Who is let in, request by request."""

from __future__ import annotations

import pytest

from certexec.browser.door import ENTER, PASS, REFUSE, TOKEN_BYTES, Door

PORT = 4321
HOST = f"127.0.0.1:{PORT}"


class Visitor:
    """Asks a door, with all that is right unless it is told otherwise."""

    def __init__(self) -> None:
        self.door = Door(PORT)

    def enters(self, token: str | None = None, method: str = "GET", host: str = HOST) -> str:
        query = {"token": self.door.token if token is None else token}
        return self.door.judge(method, "/", query, {"host": [host]})

    def asks(self, path: str = "", method: str = "GET", **headers: list[str]) -> str:
        right = {"host": [HOST], "cookie": [f"certexec={self.door.cookie}"], **headers}
        return self.door.judge(method, self.door.place + path, {}, right)


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


def test_secrets_are_long_and_drawn_anew() -> None:
    one, other = Door(PORT), Door(PORT)
    drawn = {door_secret for door in (one, other)
             for door_secret in (door.token, door.cookie, door.place)}  # fmt: skip
    assert len(drawn) == 6
    assert TOKEN_BYTES * 8 >= 128
    assert all(len(each.strip("/")) >= 43 for each in drawn)  # base64 of 32 bytes


def test_the_token_opens_once(visitor: Visitor) -> None:
    assert visitor.enters() == ENTER
    assert visitor.enters() == REFUSE


@pytest.mark.parametrize("token", ["", "x", "\udcff\u20ac"])
def test_another_token_does_not_open(visitor: Visitor, token: str) -> None:
    assert visitor.enters(token) == REFUSE
    assert visitor.enters(visitor.door.token[:-1]) == REFUSE
    assert visitor.enters(visitor.door.cookie) == REFUSE
    assert visitor.enters() == ENTER


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_counts_and_others_do_not_use_the_token_up(visitor: Visitor, method: str) -> None:
    assert visitor.enters(method=method) == REFUSE
    assert visitor.asks(method=method) == REFUSE
    assert visitor.enters() == ENTER


FOREIGN = [
    "evil.example", f"evil.example:{PORT}", "127.0.0.1", "localhost", f"127.0.0.1:{PORT + 1}",
    f"127.0.0.2:{PORT}", f"127.0.0.1.evil.example:{PORT}", f"0.0.0.0:{PORT}", f"[::1]:{PORT}", "",
    f"LOCALHOST:{PORT}.", f"x@127.0.0.1:{PORT}",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused_and_does_not_use_the_token_up(
    visitor: Visitor, host: str
) -> None:
    assert visitor.enters(host=host) == REFUSE
    assert visitor.asks(host=[host]) == REFUSE
    assert visitor.enters() == ENTER


def test_a_host_is_said_once(visitor: Visitor) -> None:
    assert visitor.asks(host=[HOST, HOST]) == REFUSE
    assert visitor.asks(host=[]) == REFUSE
    assert visitor.asks(host=[f"localhost:{PORT}"]) == PASS


def test_without_the_cookie_nothing_passes(visitor: Visitor) -> None:
    for path in ("", "ws", "page.js", "static/js/textual.js", "none"):
        origin = [f"http://{HOST}"]
        assert visitor.asks(path, cookie=[], origin=origin) == REFUSE
        assert visitor.asks(path, cookie=["certexec=x"], origin=origin) == REFUSE
        assert visitor.asks(path, cookie=[f"other={visitor.door.cookie}"], origin=origin) == REFUSE
        assert visitor.asks(path, origin=origin) == PASS


def test_the_cookie_is_sent_once_and_may_stand_beside_others(visitor: Visitor) -> None:
    ours = f"certexec={visitor.door.cookie}"
    assert visitor.asks(cookie=[f"a=b; {ours}; c=d"]) == PASS
    assert visitor.asks(cookie=[ours, ours]) == REFUSE
    assert visitor.asks(cookie=["certexec=\udcff"]) == REFUSE


@pytest.mark.parametrize("theirs", ["certexec=x", "x y=1", "nameless", "=", "a=\"", "é=\udcff"])
def test_what_another_server_of_this_machine_sets_does_not_lock_the_user_out(
    visitor: Visitor, theirs: str
) -> None:
    ours = f"certexec={visitor.door.cookie}"
    for sent in (f"{ours}; {theirs}", f"{theirs}; {ours}"):  # cookies do not know ports
        assert visitor.asks(cookie=[sent]) == PASS
    assert visitor.asks(cookie=[theirs]) == REFUSE


def test_the_cookie_counts_under_its_path_only(visitor: Visitor) -> None:
    headers = {"host": [HOST], "cookie": [f"certexec={visitor.door.cookie}"]}
    for path in ("/static/js/textual.js", "/x/", "//", visitor.door.place.rstrip("/"), "/ws"):
        assert visitor.door.judge("GET", path, {}, headers) == REFUSE


@pytest.mark.parametrize("origin", [
    [], ["null"], ["http://evil.example"], [f"https://{HOST}"], [f"http://127.0.0.1:{PORT + 1}"],
    [f"http://localhost:{PORT}"], [f"http://{HOST}", f"http://{HOST}"],
])  # fmt: skip
def test_the_websocket_wants_the_origin_to_be_this_server(
    visitor: Visitor, origin: list[str]
) -> None:
    assert visitor.asks("ws", origin=origin) == REFUSE
    assert visitor.asks("ws", origin=[f"http://{HOST}"]) == PASS
    assert visitor.asks(
        "ws", host=[f"localhost:{PORT}"], origin=[f"http://localhost:{PORT}"]
    ) == PASS


def test_the_cookie_is_for_this_server_alone(visitor: Visitor) -> None:
    said = visitor.door.set_cookie.split("; ")
    assert said[1:] == [f"Path={visitor.door.place}", "HttpOnly", "SameSite=Strict"]
    assert len(visitor.door.place) > 40
