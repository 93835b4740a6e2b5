"""``certexec policy review --browser``, as people use it, in a real headless browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import PATIENCE, Chromium

pytestmark = pytest.mark.timeout(300)

POLICY = """\
Policy: /usr/bin/id, Emulation: native
\tnative-fsread: filename eq "/etc/hostname" then permit
\tnative-fsread: filename eq "/etc/passwd" then permit
\tnative-exit_group: permit
"""
COMMAND = (sys.executable, "-P", "-m", "certexec.cli.main")


class Reviewing:
    """The command, at work on a policy."""

    def __init__(self, directory: Path) -> None:
        self.policy = directory / "id.policy"
        self.policy.write_text(POLICY)
        self.process = subprocess.Popen(
            [*COMMAND, "policy", "review", "--browser", str(self.policy)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@pytest.fixture
def reviewing(tmp_path: Path) -> Iterator[Reviewing]:
    one = Reviewing(tmp_path)
    yield one
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
        one.end()


def test_a_rule_is_denied_in_the_browser_and_saved(
    reviewing: Reviewing, chromium: Chromium
) -> None:
    assert chromium.go(reviewing.address) == 200
    chromium.sees('filename eq "/etc/hostname"')
    chromium.press("d")
    chromium.sees("line 3")
    chromium.press("w")
    code, out, err = reviewing.end()
    assert (code, out) == (0, "") and f'"{reviewing.policy}": saved' in err
    text = reviewing.policy.read_text()
    assert 'filename eq "/etc/hostname" then deny' in text
    assert 'filename eq "/etc/passwd" then permit' in text


def test_a_rule_is_permitted_more_widely(reviewing: Reviewing, chromium: Chromium) -> None:
    chromium.go(reviewing.address)
    chromium.sees("2. ")
    chromium.press("ArrowDown")
    chromium.press("p")
    chromium.sees("1 answered")
    chromium.press("w")
    assert reviewing.end()[0] == 0
    assert reviewing.policy.read_text() != POLICY


def test_the_address_opens_once_and_closing_the_page_leaves_the_file_as_it_was(
    reviewing: Reviewing, chromium: Chromium, tmp_path: Path
) -> None:
    chromium.go(reviewing.address)
    chromium.sees("/etc/hostname")
    second = Chromium(tmp_path / "second")
    try:
        assert second.go(reviewing.address) == 403
    finally:
        second.close()
    chromium.press("d")
    chromium.sees("1 answered")
    chromium.call("Page.navigate", url="about:blank")
    code, _, err = reviewing.end()
    assert code == 0 and "left as it was" in err
    assert reviewing.policy.read_text() == POLICY


def test_an_interrupt_leaves_the_file_as_it_was(reviewing: Reviewing, chromium: Chromium) -> None:
    chromium.go(reviewing.address)
    chromium.sees("/etc/hostname")
    reviewing.process.send_signal(signal.SIGINT)
    assert reviewing.end()[0] == -signal.SIGINT
    assert reviewing.policy.read_text() == POLICY
