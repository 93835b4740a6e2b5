"""certexec monitor --app in one terminal, or a browser, a confined program in another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import chromium
from tests.execution.world import ALICE, SUPERVISED, policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage
from tests.supervision.test_agent_verb import Terminals, people, tmux

__all__ = ["chromium", "people", "tmux"]

pytestmark = pytest.mark.timeout(300)
CERTEXEC = (sys.executable, "-m", "certexec.cli.main")
TRY = "print(*(why(os.mkdir, name) for name in sys.argv[1:]), flush=True)"
HOSTILE = "[red]\x1b[2J\x1b]52;c;eA==\x07x"


class Watched:
    """A certificate that may make no directory, what it is run with, and its log."""

    def __init__(self, cage: Cage, tmux: Terminals) -> None:
        self.tmux = tmux
        world = cage.world
        self.place = world.directory("watched", 0o700, ALICE)
        trust = world.directory("watched-trust", 0o700, ALICE)
        shutil.copy(world.path("ops.pub"), trust)
        os.chown(trust / "ops.pub", ALICE, ALICE)
        self.log = self.place / "log"
        self.log.touch()
        os.chown(self.log, ALICE, ALICE)
        self.policy = self.place / "watched.policy"
        rules = (
            f'fswrite: filename match "{self.place}/secret*" then deny log',
            f'fswrite: not filename match "{self.place}" then permit',
            *(rule for rule in SUPERVISED if "fswrite" not in rule),
        )
        self.policy.write_text(policy(PYTHON, *rules))
        os.chown(self.policy, ALICE, ALICE)
        certificate = world.sign("watched.cert", PYTHON, text=self.policy.read_text())
        self.run = (
            *CERTEXEC, "run", "--trust", str(trust), "--log", str(self.log), "--log-format",
            "json", certificate, "-I", "-S", "-c", PRELUDE + TRY,
        )  # fmt: skip

    def tries(self, terminal: str, *names: str) -> None:
        """Let the program try to make some directories, which it is denied."""
        self.tmux.open(terminal, *self.run, *(str(self.place / name) for name in names))
        self.tmux.shows(terminal, "ended 0")


@pytest.fixture
def watched(cage: Cage, tmux: Terminals) -> Iterator[Watched]:
    made = Watched(cage, tmux)
    yield made
    shutil.rmtree(made.place)
    shutil.rmtree(made.place.with_name("watched-trust"))


def test_a_program_is_watched_its_denials_told_apart_and_written_down(
    watched: Watched, tmux: Terminals
) -> None:
    options = ("--file", str(watched.log), "--policy", str(watched.policy))
    tmux.open("app", *CERTEXEC, "monitor", "--app", *options)
    tmux.shows("app", "waiting: 0 events")
    watched.tries("one", "a", "secret1", HOSTILE)
    tmux.shows("app", "live: 3 events")
    text = tmux.text("app")
    assert "watched/secret1" in text and "b[2J\\x1b]52;c;eA==\\x07x" in text
    # the counts, and what is typed chooses among the events
    tmux.type("app", "t")
    tmux.shows("app", "3 deny")
    tmux.type("app", "t")
    tmux.type("app", "f", "verdict=deny program=python* secret", "Enter")
    tmux.shows("app", "filter: verdict")
    # which rule denied one
    tmux.type("app", "Enter")
    tmux.shows("app", "deny: a rule of its policy says so")
    tmux.shows("app", 'secret*" then deny')
    tmux.type("app", "Escape")
    tmux.shows("app", "1 shown")
    tmux.type("app", "Escape")
    tmux.shows("app", "live: 3 events;")
    # and what would permit the other
    tmux.type("app", "Home", "Enter")
    tmux.shows("app", "no rule of its policy permits it")
    tmux.shows("app", f'native-fswrite: filename eq "{watched.place}/a" then permit')
    tmux.type("app", "Escape")
    tmux.shows("app", "1 of 3")
    written = watched.place / "written"
    tmux.type("app", "w")
    tmux.shows("app", "write 3 events to the file")
    tmux.type("app", str(written), "Enter")
    tmux.shows("app", "certexec policy review --log")
    tmux.type("app", "q")
    tmux.shows("app", "ended 0")
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [one["arguments"]["filename"][len(str(watched.place)) + 1 :] for one in lines] == [
        "a", "secret1", HOSTILE
    ]
    assert written.stat().st_mode & 0o777 == 0o600
    names = {"log", "watched.policy", "written"}
    assert {one.name for one in watched.place.iterdir()} == names
    # what was written is what learning reads
    tmux.open("learn", *CERTEXEC, "learn", "--from-log", str(written))
    tmux.shows("learn", f'{watched.place}/a" then permit')
    assert "secret1" not in tmux.text("learn")


def test_standard_input_is_watched_while_keys_come_from_the_terminal(
    watched: Watched, tmux: Terminals
) -> None:
    watched.tries("one", "a", "b")
    app = f"{' '.join(CERTEXEC)} monitor --app --file -; echo gone $?"
    command = f"{{ cat {watched.log}; sleep 600; }} | {{ {app}; }}"
    tmux.open("app", "sh", "-c", command)
    tmux.shows("app", "live: 2 events")
    tmux.type("app", "f", "nowhere", "Enter")
    tmux.shows("app", "filter: nowhere")
    tmux.type("app", "q")
    tmux.shows("app", "gone 0")


def test_the_end_by_a_signal_leaves_the_terminal_as_it_was(
    watched: Watched, tmux: Terminals
) -> None:
    tmux.open("app", *CERTEXEC, "monitor", "--app", "--file", str(watched.log))
    tmux.shows("app", "waiting: 0 events")
    tmux.kill("app", signal.SIGTERM)
    tmux.shows("app", "ended 143")


@pytest.fixture
def address(watched: Watched, tmux: Terminals) -> str:
    """The address that the monitor tells its user."""
    tmux.open("app", *CERTEXEC, "monitor", "--browser", "--file", str(watched.log),
              "--verdict", "deny")  # fmt: skip
    return tmux.address("app")


def test_a_program_is_watched_in_a_browser(
    watched: Watched, tmux: Terminals, address: str, chromium: Chromium
) -> None:
    assert chromium.go(address) == 200
    chromium.sees("waiting: 0 events")
    watched.tries("one", "a", HOSTILE)
    chromium.sees("live: 2 events")
    chromium.sees("eA==\\x07x")
    for key in "f/a":
        chromium.press(key)
    chromium.press("Enter")
    chromium.sees("filter: /a")
    chromium.press("Enter")
    chromium.sees("no rule of its policy permits it")
    chromium.press("Escape")
    chromium.sees("1 shown")
    chromium.press("q")
    tmux.shows("app", "ended 0")


def test_the_monitor_ends_when_the_page_is_closed(
    watched: Watched, tmux: Terminals, address: str, chromium: Chromium
) -> None:
    chromium.go(address)
    chromium.sees("waiting: 0 events")
    chromium.call("Page.navigate", url="about:blank")
    tmux.shows("app", "ended")
