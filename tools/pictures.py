"""Draw the pictures in docs/pictures: review, agent, monitor, reports, the app in a browser.

    make pictures

What they show is made up here, so that they are the same wherever they are drawn. Pages are drawn
by a headless Chromium, the app by Textual itself.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from textual.app import App

from certexec.cli.question_text import readable_lines
from certexec.observe.intake import Intake
from certexec.observe.reading import Seen
from certexec.observe.report import LogReport, VerifyReport
from certexec.observe.report_page import log_page, verify_page
from certexec.policy.evaluate import subject_of
from certexec.policy.learned_paths import Places
from certexec.policy.review import Review
from certexec.run.agent import Agent, Question
from certexec.run.agent_desk import Desk
from certexec.tui.agent_app import AgentApp
from certexec.tui.monitor_app import Advice, MonitorApp
from certexec.tui.review_app import ReviewApp
from tests.browser.chromium import Chromium

PROJECT = Path(__file__).resolve().parents[1]
PICTURES = PROJECT / "docs" / "pictures"
SIZE = (100, 26)
"""columns and lines of a terminal"""
PAGE = (1180, 620)
"""points of a page"""
FONTS = re.compile(r"@font-face\s*\{[^}]*\}\s*")
"""Textual names fonts on somebody's server; any font of even width does."""
NUMBERED = re.compile(r"\bterminal-[0-9]+")
"""Rich numbers what it draws by what is in memory."""
STILL = 1.0
"""seconds without a change after which a page is drawn: longer than a cursor's blinking"""
COLOURS = 64
"""are enough for text on plain ground"""
MADE, BEFORE = "2026-11-22T10:00:00Z", "2026-11-21T10:00:00Z"
POLICY = """\
Language: certexec 1
Policy: /usr/sbin/nginx, Emulation: native
\tinclude base 1
\tinclude sockets 1
\tnative-fsread: filename eq "/etc/nginx/nginx.conf" then permit
\tnative-fsread: filename match "/srv/www/*" then permit
\tnative-fswrite: filename eq "/var/log/nginx/access.log" then permit
\tnative-bind: sockaddr match "inet-*:80" then permit
"""


class Nobody:
    """Users of no machine."""

    def name(self, uid: int) -> str | None:
        """Return no name."""
        return None

    def uid(self, name: str) -> int | None:
        """Return no number."""
        return None

    def gid(self, name: str) -> int | None:
        """Return no number."""
        return None

    def home(self, uid: int) -> str | None:
        """Return no home."""
        return None


COVERED = {
    "/etc/nginx/*.conf": 3, "/etc/nginx/*": 14, "/etc/nginx": 41, "/etc": 1613, "/srv/www": 212,
    "/srv/www/*": 212, "/srv": 230, "/var/log/nginx/*.log": 2, "/var/log/nginx/*": 9,
    "/var/log/nginx": 9, "/var/log": 148, "/var": 6210,
}  # fmt: skip
"""Names in conditions, and how many files of a machine that is not there they cover."""


def covered(condition: str) -> str:
    """Say how many files a condition covers, as certexec.cli.covered_files does."""
    number = COVERED.get(condition.split('"')[1], 1)
    return "1 file" if number == 1 else f"{number} files"


def review_app() -> ReviewApp:
    """Return a review of a server's policy."""
    from certexec.cli.presets import load_presets

    review = Review(
        POLICY, name="nginx.policy", users=Nobody(), presets=load_presets(),
        subject=subject_of(1000, 1000, home="/home/alice", user="alice", cwd="/home/alice"),
        places=Places("", "/home/alice", "alice", ("/home/alice",), ("/tmp",)),
    )  # fmt: skip
    return ReviewApp(review, count=covered, save=lambda _text: None)


class _Asked(Question):
    """A question that nobody asks."""

    def __init__(self, milliseconds: int, **event: object) -> None:
        self.event = {
            "user": "alice", "certificate": "/usr/local/bin/mutt", "program": "/usr/bin/mutt",
            "policy": "/usr/bin/mutt", "pid": 4711, "reason": "ask", **event,
        }  # fmt: skip
        self.milliseconds = milliseconds
        self.by_registers = False
        self.asker_uid, self.asker_pid = 1000, 4712

    def is_withdrawn(self) -> bool:
        return False

    def answer(self, word: str) -> bool:
        return True


class _Asking(Agent):
    """An agent of which three things are asked."""

    def __init__(self) -> None:
        self._questions: list[Question] = [
            _Asked(27000, syscall="connect", reason="unmatched", arguments={
                "sockaddr": "inet-[192.0.2.25]:587"}),
            _Asked(28000, syscall="openat", arguments={
                "filename": "/home/alice/.gnupg/secring.gpg", "oflags": "ro"}),
            _Asked(29000, syscall="execve", pid=4790, arguments={
                "filename": "/usr/bin/xdg-open", "argv": "xdg-open /tmp/mutt-4711/invoice.pdf"}),
        ]  # fmt: skip

    def wait(self, seconds: float) -> Question | None:
        return self._questions.pop(0) if self._questions else None


class _Log(Intake):
    """A log that everything has come from."""

    def __init__(self, events: list[Seen]) -> None:
        self._events = events
        self.ended = ""

    def take(self) -> tuple[list[Seen], list[str]]:
        events, self._events = self._events, []
        return events, []


def monitor_app() -> MonitorApp:
    """Return what came of two web servers and somebody's mail."""

    def call(minute: int, program: str, user: str, syscall: str, host: str = "web1",
             verdict: str = "deny", count: int = 1, **arguments: str) -> Seen:  # fmt: skip
        return Seen({
            "event": "call", "time": f"2026-11-22T09:{minute:02}:07Z", "count": count,
            "verdict": verdict, "reason": "unmatched", "user": user, "program": program,
            "certificate": program.rpartition("/")[2], "syscall": syscall, "arguments": arguments,
        }, host)  # fmt: skip

    nginx, php, mutt = "/usr/sbin/nginx", "/usr/sbin/php-fpm8.2", "/usr/bin/mutt"
    web = "www-data"
    events = [
        call(2, nginx, web, "openat", filename="/etc/shadow", oflags="ro"),
        call(2, nginx, web, "openat", "web2", filename="/etc/shadow", oflags="ro"),
        call(7, php, web, "connect", "web2", count=212, sockaddr="inet-[203.0.113.9]:4444"),
        call(7, php, web, "execve", "web2", "kill", filename="/bin/sh", argv="sh -i"),
        call(8, php, web, "connect", "web2", count=64, sockaddr="inet-[203.0.113.9]:4444"),
        call(15, mutt, "alice", "openat", "desk", filename="/home/alice/.ssh/id_ed25519"),
        call(16, mutt, "alice", "execve", "desk", "ask", filename="/usr/bin/xdg-open"),
        call(16, mutt, "alice", "execve", "desk", "permit", filename="/usr/bin/xdg-open"),
        call(21, php, web, "openat", "web2", filename="/var/www/.htaccess", oflags="wo"),
        call(21, php, web, "rename", "web2", filename="/var/www/index.php"),
        call(30, nginx, web, "connect", count=3, sockaddr="inet-[192.0.2.53]:53"),
    ]
    return MonitorApp(
        _Log(events), "/var/log/certexec.log", advise=lambda _seen: Advice([], ""),
        save=lambda _events, _name, _force: "",
    )


def terminal(app: App[object], *keys: str, size: tuple[int, int] = SIZE) -> str:
    """Return an app's screen as SVG, after some keys."""

    async def play() -> str:
        async with app.run_test(size=size) as pilot:
            for key in keys:
                await pilot.press(key)
            await pilot.pause()
            await app.workers.wait_for_complete()
            await pilot.pause()
            return NUMBERED.sub("terminal", FONTS.sub("", app.export_screenshot()))

    return asyncio.run(play())


def monitor_svg() -> str:
    """Return the monitor with its counts."""
    return terminal(monitor_app(), "t", "up", size=(130, 20))  # type: ignore[arg-type]


def agent_svg() -> str:
    """Return the agent, once a key counts for its first question."""
    app = AgentApp(
        _Asking(), lambda _waiting: None, lambda _question: "", lines=readable_lines, grace=0.0
    )
    app.desk = Desk(clock=lambda: 0.0)  # where no time passes
    return terminal(app)  # type: ignore[arg-type]


def log_report() -> str:
    """Return the page that "certexec log --html" writes."""

    def call(hour: int, verdict: str = "deny", count: int = 1, **members: object) -> Seen:
        return Seen({
            "event": "call", "verdict": verdict, "reason": "unmatched", "user": "www-data",
            "program": "/usr/sbin/nginx", "certificate": "/usr/local/sbin/nginx", "count": count,
            "time": f"2026-11-22T{hour:02}:12:00Z", **members,
        })  # fmt: skip

    passwd = {"syscall": "openat", "arguments": {"filename": "/etc/shadow", "oflags": "ro"}}
    out = {"syscall": "connect", "arguments": {"sockaddr": "inet-[203.0.113.9]:4444"}}
    shell = {"syscall": "execve", "arguments": {"filename": "/bin/sh", "argv": "sh -i"}}
    mutt = {
        "program": "/usr/bin/mutt", "certificate": "/usr/local/bin/mutt", "user": "alice",
        "syscall": "openat", "arguments": {"filename": "/home/alice/.ssh/id_ed25519"},
    }  # fmt: skip
    old = LogReport([call(1, **mutt)], {})
    events = [
        call(1, **mutt), call(2, count=2, **passwd), call(5, **passwd), call(7, count=6, **out),
        call(7, "kill", **shell), call(8, count=4, **out), call(9, "permit", count=9, **mutt),
    ]  # fmt: skip
    return log_page(LogReport(events, old.state(BEFORE)), MADE)


def verify_report() -> str:
    """Return the page that "certexec verify --html" writes."""
    results: list[dict[str, object]] = [
        {"path": f"/usr/local/{name}", "program": f"/usr/{program}", "ok": reason is None,
         "reason": reason, "message": message, "signers": [{"name": "ops"}], "serial": serial,
         "grant": grant, "valid_until": until}
        for name, program, serial, grant, until, reason, message in (
            ("bin/mutt", "bin/mutt", 3, False, "2027-02-20", None, ""),
            ("sbin/nginx", "sbin/nginx", 12, True, "2027-02-20", None, ""),
            ("bin/tcpdump", "bin/tcpdump", 2, True, "2027-02-20", "digest-mismatch",
             '"/usr/bin/tcpdump" is not the file that was signed'),
            ("bin/wget", "bin/wget", 5, False, "2026-11-20", "expired", "it expired"),
        )
    ]  # fmt: skip
    before = [{**one, "ok": True, "reason": None} for one in results[:3]]
    state = VerifyReport(before, {}).state(BEFORE)
    return verify_page(VerifyReport(results, state), MADE)


def small(png: bytes) -> bytes:
    """Return a picture with few colours, in as few bytes as they take."""
    found = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS)
    buffer = io.BytesIO()
    found.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def draw_page(browser: Chromium, page: str) -> bytes:
    """Return a page, as far down as it goes."""
    browser.call("Page.navigate", url="about:blank")
    (frame,) = (browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"],)
    browser.call("Page.setDocumentContent", frameId=frame, html=page)
    height = browser.value("document.documentElement.scrollHeight")
    whole = {"x": 0, "y": 0, "width": PAGE[0], "height": height, "scale": 1}
    taken = browser.call(
        "Page.captureScreenshot", format="png", clip=whole, captureBeyondViewport=True
    )
    return small(base64.b64decode(taken["data"]))


def draw_app(browser: Chromium) -> bytes:
    """Return the review as a browser shows it."""
    words = [sys.executable, "-m", "tools.pictures", "--serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as server:
        assert server.stdout is not None
        browser.go(server.stdout.readline().strip())
        browser.sees(f"({COVERED['/etc']} files)")
        picture = b""
        while picture != (picture := browser.picture()):
            time.sleep(STILL)
        picture = small(picture)
        browser.call("Page.navigate", url="about:blank")
    return picture


def main(options: Sequence[str]) -> int:
    """Draw all of them; the options are for the processes that this one starts."""
    if options == ["--app"]:
        review_app().run()
        return 0
    if options == ["--serve"]:
        from certexec.browser.server import serve

        app = [sys.executable, "-m", "tools.pictures", "--app"]
        return serve(app, lambda address: print(address, flush=True))
    os.environ["TZ"] = "UTC"
    time.tzset()
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / "review.svg").write_text(terminal(review_app(), "s", "s"))
    (PICTURES / "agent.svg").write_text(agent_svg())
    (PICTURES / "monitor.svg").write_text(monitor_svg())
    with tempfile.TemporaryDirectory() as directory:
        browser = Chromium(Path(directory), PAGE)
        try:
            (PICTURES / "log.png").write_bytes(draw_page(browser, log_report()))
            (PICTURES / "verify.png").write_bytes(draw_page(browser, verify_report()))
            (PICTURES / "browser.png").write_bytes(draw_app(browser))
        finally:
            browser.close()
    for one in sorted(PICTURES.iterdir()):
        print(f"{one.relative_to(PROJECT)}: {one.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
