"""A real headless browser: Debian's chromium, driven over a pipe by the DevTools protocol.

The screen of a terminal in a page is a picture; what stands on it is read from the terminal's own
buffer, which is caught when the page makes it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.isolation import skip_or_fail

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 90.0
"""seconds for whatever is waited for, on a machine that has much else to do"""
CODES = {"ArrowDown": (40, ""), "Enter": (13, "\r"), "Escape": (27, "")}
"""Keys with names: the number that pages know them by, and what they type."""
FLAGS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--force-device-scale-factor=1",
)  # fmt: skip
CATCH = """
Object.defineProperty(Object.prototype, 'terminal', {configurable: true, set(made) {
  Object.defineProperty(this, 'terminal', {value: made, writable: true});
  window.caught = made;
}});
"""
"""The page keeps its terminal as a property of that name."""
READ = """
(() => {
  if (!window.caught) return '';
  const buffer = caught.buffer.active, lines = [];
  for (let at = 0; at < buffer.length; at++) lines.push(buffer.getLine(at).translateToString(true));
  return lines.join('\\n');
})()
"""


class NavigatedError(Exception):
    """The page that was asked gave way to another one."""


class Chromium:
    """One browser with one page."""

    def __init__(self, directory: Path, size: tuple[int, int] = (1000, 640)) -> None:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            skip_or_fail("chromium is not installed")
            raise AssertionError
        here, theirs = os.pipe(), os.pipe()

        def hand_over() -> None:
            # the browser reads 3 and writes 4
            low, high = os.dup(here[0]), os.dup(theirs[1])
            os.dup2(os.dup(low), 3)
            os.dup2(os.dup(high), 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={directory}",
             f"--window-size={size[0]},{size[1]}", "about:blank"],
            preexec_fn=hand_over, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
        )  # fmt: skip
        os.close(here[0])
        os.close(theirs[1])
        self._out, self._in = here[1], theirs[0]
        self._read = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = next(
            one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        self._session = self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=CATCH)

    def close(self) -> None:
        """End the browser and wait until it has."""
        os.close(self._out)
        os.close(self._in)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Make a call of the protocol; what happens meanwhile goes to ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._message(end, method)
            if answer.get("id") == self._number:
                if "navigated" in answer.get("error", {}).get("message", ""):
                    raise NavigatedError(method)
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def _message(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._read:
            left = max(0.0, end - time.monotonic())
            assert select.select([self._in], [], [], left)[0], f"no answer to {what}"
            data = os.read(self._in, 1 << 16)
            assert data, f"the browser has ended at {what}"
            self._read += data
        one, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(one))

    def go(self, address: str) -> int:
        """Open an address; returns the status of what it answers itself."""
        before = len(self.events)
        failure = self.call("Page.navigate", url=address).get("errorText")
        assert not failure, f"{address}: {failure}"
        return self.wait(lambda: self._status(address, before), f"no answer from {address}")

    def _status(self, address: str, since: int) -> int:
        self.value("0")  # takes the events in
        return next(
            (
                one["params"]["response"]["status"] for one in self.events[since:]
                if one["method"] == "Network.responseReceived"
                and one["params"]["response"]["url"] == address
            ),
            0,
        )  # fmt: skip

    def value(self, expression: str) -> Any:
        """Return what JavaScript in the page makes of an expression, None while there is none."""
        try:
            result = self.call(
                "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
            )
        except NavigatedError:
            return None  # the page of a moment ago
        return result["result"].get("value")

    def screen(self) -> str:
        """Return the text on the terminal's screen."""
        return str(self.value(READ) or "")

    def sees(self, text: str) -> str:
        """Wait until a text stands on the screen; returns all of it."""
        return self.wait(lambda: text in (seen := self.screen()) and seen, f"{text!r} is not seen")

    def wait(self, condition: Any, message: str) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < end, f"{message}: {self.screen()!r} {self.complaints()}"
            time.sleep(0.05)
        return found

    def press(self, key: str) -> None:
        """Press and let go of a key: a character, or a name such as Enter."""
        code, text = CODES.get(key, (ord(key[0].upper()), key))
        same = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def complaints(self) -> list[str]:
        """Return what the page's console complained of."""
        self.value("0")
        return [
            str(one["params"]) for one in self.events
            if one["method"] == "Runtime.exceptionThrown"
            or (one["method"] == "Log.entryAdded" and one["params"]["entry"]["level"] == "error")
        ]  # fmt: skip

    def picture(self) -> bytes:
        """Return the page as a PNG (base64 text, decoded)."""
        import base64

        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
