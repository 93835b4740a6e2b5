"""certexec agent in one terminal, a confined program in another: tmux types and reads."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import ALICE
from tests.isolation import skip_or_fail
from tests.supervision.conftest import PRELUDE, Cage, wait_for
from tests.supervision.test_asking import People, people, rules, sign

__all__ = ["people"]

ASK = "print(why(os.mkdir, sys.argv[1]), flush=True)"


class Terminals:
    """Terminals of tmux, with a server of their own."""

    def __init__(self, cage: Cage, directory: Path) -> None:
        self.cage = cage
        self._tmux = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]

    def open(self, name: str, *argv: str) -> None:
        world = self.cage.world
        command = world.machine.command(
            "env", f"PYTHONPATH={world.package}", "PATH=/usr/bin:/bin", *argv, uid=ALICE
        )
        # the terminal stays when its command has ended
        shown = f"{shlex.join(command)}; echo ended $?; exec sleep 600"
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-s", name, "-x", "150", "-y", "50", shown],
            check=True,
        )

    def text(self, name: str) -> str:
        return subprocess.run(
            [*self._tmux, "capture-pane", "-p", "-J", "-t", name],
            check=True, capture_output=True, text=True,
        ).stdout

    def type(self, name: str, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", name, *keys], check=True)

    def shows(self, name: str, words: str) -> None:
        try:
            wait_for(lambda: words in self.text(name))
        except AssertionError:
            pytest.fail(f"{words!r} does not come:\n{self.text(name)}")

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def terminals(cage: Cage, people: People, tmp_path: Path) -> Iterator[Terminals]:
    if shutil.which("tmux") is None:
        skip_or_fail("tmux is not installed")
    made = Terminals(cage, tmp_path)
    made.open("agent", sys.executable, "-m", "certexec.cli.main", "agent")
    made.shows("agent", "waiting for questions")
    yield made
    made.close()


def program(terminals: Terminals, place: Path, name: str, asked: str) -> None:
    path = sign(terminals.cage, rules(place))
    terminals.open(name, path, "-I", "-S", "-c", PRELUDE + ASK, str(place / asked))


def test_answers_are_typed_while_programs_wait(terminals: Terminals, place: Path) -> None:
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.shows("agent", f"of uid {ALICE}")
    program(terminals, place, "two", "no")
    terminals.shows("agent", "(1 more wait)")
    terminals.type("agent", "x", "Enter")
    terminals.shows("agent", "permit once, a always")
    terminals.type("agent", "p", "Enter")
    terminals.shows("agent", "#1: permit")
    terminals.shows("one", "ended 0")
    assert (place / "yes").is_dir()
    terminals.shows("agent", f"filename: {place}/no")
    terminals.type("agent", "d", "Enter")
    terminals.shows("two", "EPERM")
    assert not (place / "no").exists()
    program(terminals, place, "three", "a")
    terminals.shows("agent", f"filename: {place}/a")
    terminals.type("agent", "k", "Enter")
    terminals.shows("three", "ended 1")  # by a signal
    assert not (place / "a").exists()
    terminals.type("agent", "q", "Enter")
    terminals.shows("agent", "ended 0")


def test_what_was_typed_before_a_question_is_no_answer(terminals: Terminals, place: Path) -> None:
    terminals.type("agent", "p")  # without Enter: it stays in the terminal
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.type("agent", "Enter")
    terminals.shows("agent", "s show it later")
    assert not (place / "yes").exists()
    terminals.type("agent", "d", "Enter")
    terminals.shows("one", "EPERM")


def test_an_agent_that_ends_denies_and_leaves_no_socket(terminals: Terminals, place: Path) -> None:
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.type("agent", "C-c")
    terminals.shows("one", "EPERM")
    left = terminals.cage.world.machine.run("ls", f"/run/user/{ALICE}/certexec")
    assert left.stdout == ""


def test_a_question_goes_away_with_its_caller(terminals: Terminals, place: Path) -> None:
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.type("one", "C-c")
    terminals.shows("agent", "#1 was withdrawn")
    terminals.type("agent", "p", "Enter")
    terminals.shows("agent", "nothing is asked")


def test_there_is_one_agent_and_it_needs_a_terminal(terminals: Terminals) -> None:
    terminals.open("other", sys.executable, "-m", "certexec.cli.main", "agent")
    terminals.shows("other", "there is an agent at")
    terminals.shows("other", "ended 1")
    world = terminals.cage.world
    done = subprocess.run(
        world.machine.command(
            "env", f"PYTHONPATH={world.package}", sys.executable, "-m", "certexec.cli.main",
            "agent", uid=ALICE,
        ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "an agent needs a terminal" in done.stderr
