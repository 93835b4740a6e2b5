"""Who may come in to a server on loopback: whoever was told the address, and nobody else.

Loopback is open to every user of the machine and to every page in the user's browser, so each
request has to show more than that it came:

1. The Host header names this server by its number or as localhost: another name that resolves to
   127.0.0.1 is a page of somebody else's that wants to be taken for ours (DNS rebinding).
2. Only GET. Nothing is taken in but through the websocket.
3. The token, which the user was told, opens once. It is exchanged for a cookie, so that an address
   that is seen later (in the history, over a shoulder) is worth nothing.
4. Everything else wants the cookie, under a path that nobody else knows: browsers send cookies to
   every port of a host, but only where the path fits, so that a server of another user on
   another port of 127.0.0.1 is not sent it.
5. The websocket also wants the Origin to be this server: browsers let every page open one.

What is refused is told nothing, not even which of these it was.
"""

from __future__ import annotations

import secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENTER, PASS, REFUSE = "enter", "pass", "refuse"
"""What the door says: exchange the token, let through, refuse."""
TOKEN_BYTES = 32
"""of randomness in the token and the cookie, 256 bits; in the path too, which is no secret of
the user's but of the browser's."""
COOKIE = "certexec"
TOKEN = "token"
"""the name of the token in the address"""
WEBSOCKET = "ws"
"""the last part of the websocket's path"""


class Door:
    """The door of one server: one token, one cookie, one path.

    Attributes:
        token: what opens it once; cookie: what it is exchanged for.
        place: the path, with a slash at both ends, under which everything is.
    """

    def __init__(self, port: int) -> None:
        """Draw the secrets; ``port`` is the one that the server listens on."""
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.cookie = secrets.token_urlsafe(TOKEN_BYTES)
        self.place = f"/{secrets.token_urlsafe(TOKEN_BYTES)}/"
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._entered = False

    @property
    def address(self) -> str:
        """The address that is told to the user."""
        return f"http://{self._hosts[0]}/?{TOKEN}={self.token}"

    @property
    def set_cookie(self) -> str:
        """The header that gives the cookie: not to scripts, not from other sites."""
        return f"{COOKIE}={self.cookie}; Path={self.place}; HttpOnly; SameSite=Strict"

    def judge(
        self, method: str, path: str, query: Mapping[str, str],
        headers: Mapping[str, Sequence[str]],
    ) -> str:  # fmt: skip
        """Judge a request; ``headers`` by their names in lower case, each with all its values."""
        # 1.
        hosts = headers.get("host", ())
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return REFUSE
        # 2.
        if method != "GET":
            return REFUSE
        # 3.
        if path == "/":
            return self._enter(query.get(TOKEN, ""))
        # 4.
        if not path.startswith(self.place) or not self._knows(headers.get("cookie", ())):
            return REFUSE
        # 5.
        if path == self.place + WEBSOCKET and headers.get("origin", ()) != [f"http://{hosts[0]}"]:
            return REFUSE
        return PASS

    def _enter(self, token: str) -> str:
        if self._entered or not _same(token, self.token):
            return REFUSE
        self._entered = True
        return ENTER

    def _knows(self, cookies: Sequence[str]) -> bool:
        """Tell whether the right one is there, whatever stands beside it.

        Every server on every port of this host may set cookies that come here, too: of this name,
        or such as make the standard library's parser give up.
        """
        if len(cookies) != 1:
            return False
        pairs = [one.strip(" ").partition("=") for one in cookies[0].split(";")]
        return any(_same(value, self.cookie) for name, _, value in pairs if name == COOKIE)


def _same(given: str, secret: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
