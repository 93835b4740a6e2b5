"""certexec agent in a real headless browser, a confined program in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import chromium
from tests.supervision.test_agent_verb import AGENT, READY, Terminals, people, program, tmux

__all__ = ["chromium", "people", "tmux"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def address(tmux: Terminals) -> str:
    """The address that an agent tells its user."""
    tmux.open("agent", *AGENT, "--browser")
    return tmux.address("agent")


def test_answers_are_given_in_the_browser(
    tmux: Terminals, address: str, place: Path, chromium: Chromium
) -> None:
    chromium.go(address)
    chromium.sees("nothing is asked")
    program(tmux, place, "one", "yes")
    chromium.sees(f"filename: {place}/yes")
    chromium.sees(READY)
    chromium.press("p")
    tmux.shows("one", "ended 0")
    assert (place / "yes").is_dir()
    program(tmux, place, "two", "no")
    chromium.sees(f"filename: {place}/no")
    chromium.sees(READY)
    chromium.press("d")
    tmux.shows("two", "EPERM")
    assert not (place / "no").exists()
    chromium.press("q")
    tmux.shows("agent", "ended 0")


def test_what_waits_is_denied_when_the_page_is_closed(
    tmux: Terminals, address: str, place: Path, chromium: Chromium
) -> None:
    chromium.go(address)
    chromium.sees("nothing is asked")
    program(tmux, place, "one", "yes")
    chromium.sees(f"filename: {place}/yes")
    chromium.call("Page.navigate", url="about:blank")
    tmux.shows("one", "EPERM")
    assert not (place / "yes").exists()
    tmux.shows("agent", "ended")


def test_a_second_agent_is_refused_before_it_has_an_address(
    tmux: Terminals, address: str, chromium: Chromium
) -> None:
    chromium.go(address)
    chromium.sees("nothing is asked")
    tmux.open("other", *AGENT, "--browser")
    tmux.shows("other", "ended 1")
    assert "http://" not in tmux.text("other")
