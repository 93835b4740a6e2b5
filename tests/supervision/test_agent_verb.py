"""certexec agent in one terminal, a confined program in another: tmux types and reads."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, policy
from tests.isolation import skip_or_fail
from tests.supervision.conftest import PRELUDE, PYTHON, Cage, wait_for
from tests.supervision.test_asking import People, people, rules, sign
from tests.supervision.test_asking_unmatched import ASK as UNMATCHED
from tests.supervision.test_asking_unmatched import READS
from tests.supervision.test_asking_unmatched import sign as sign_silent

__all__ = ["people"]

AGENT = (sys.executable, "-m", "certexec.cli.main", "agent")
READY = "p permit once   a always"
"""What the app shows when a key counts for the question that it shows."""
ASK = "print(why(os.mkdir, sys.argv[1]), flush=True)"


PROMPT = "p, a, d, k?"
TWICE = "print(why(os.mkdir, sys.argv[1]), why(os.mkdir, sys.argv[1]), flush=True)"


class Terminals:
    """Terminals of tmux, with a server of their own."""

    def __init__(self, cage: Cage, directory: Path) -> None:
        self.cage = cage
        self._tmux = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]

    def open(self, name: str, *argv: str, uid: int = ALICE) -> None:
        world = self.cage.world
        command = world.machine.command(
            "env", f"PYTHONPATH={world.package}", "PATH=/usr/bin:/bin", *argv, uid=uid
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

    def address(self, name: str) -> str:
        """Return the address that a command with --browser tells its user."""
        self.shows(name, "it opens once")
        found = re.search(r"http://\S+", self.text(name))
        assert found is not None
        return found[0]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End what runs in a terminal as if it had crashed, or by another signal."""
        pid = subprocess.run(
            [*self._tmux, "list-panes", "-t", name, "-F", "#{pane_pid}"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = children[0]
        os.kill(int(pid), number)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def tmux(cage: Cage, people: People, tmp_path: Path) -> Iterator[Terminals]:
    if shutil.which("tmux") is None:
        skip_or_fail("tmux is not installed")
    made = Terminals(cage, tmp_path)
    yield made
    made.close()


@pytest.fixture
def terminals(tmux: Terminals) -> Terminals:
    """With an agent that prompts, line by line."""
    tmux.open("agent", *AGENT, "--plain")
    tmux.shows("agent", "waiting for questions")
    return tmux


@pytest.fixture
def app(tmux: Terminals) -> Terminals:
    """With an agent that is the terminal app."""
    tmux.open("agent", *AGENT)
    tmux.shows("agent", "nothing is asked")
    return tmux


def program(terminals: Terminals, place: Path, name: str, asked: str) -> None:
    path = sign(terminals.cage, rules(place))
    terminals.open(name, path, "-I", "-S", "-c", PRELUDE + ASK, str(place / asked))


def prompts(terminals: Terminals, count: int) -> None:
    """Wait until it takes an answer, for the so-manieth time."""
    try:
        wait_for(lambda: terminals.text("agent").count(PROMPT) == count)
    except AssertionError:
        pytest.fail(f"no prompt:\n{terminals.text('agent')}")


def test_answers_are_typed_while_programs_wait(terminals: Terminals, place: Path) -> None:
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.shows("agent", f"of uid {ALICE}")
    program(terminals, place, "two", "no")
    terminals.shows("agent", "(1 more wait)")
    prompts(terminals, 1)
    terminals.type("agent", "x", "Enter")
    terminals.shows("agent", "permit once, a always")
    terminals.type("agent", "p", "Enter")
    terminals.shows("agent", "#1: permit")
    terminals.shows("one", "ended 0")
    assert (place / "yes").is_dir()
    terminals.shows("agent", f"filename: {place}/no")
    prompts(terminals, 2)
    terminals.type("agent", "d", "Enter")
    terminals.shows("two", "EPERM")
    assert not (place / "no").exists()
    program(terminals, place, "three", "a")
    terminals.shows("agent", f"filename: {place}/a")
    prompts(terminals, 3)
    terminals.type("agent", "k", "Enter")
    terminals.shows("three", "ended 1")  # by a signal
    assert not (place / "a").exists()
    terminals.type("agent", "q", "Enter")
    terminals.shows("agent", "ended 0")


def test_what_was_typed_before_a_question_is_no_answer(terminals: Terminals, place: Path) -> None:
    terminals.type("agent", "p")  # without Enter: it stays in the terminal
    program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    prompts(terminals, 1)
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
    terminals.open("other", *AGENT)
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


def asked(app: Terminals, words: str) -> None:
    """Wait until the app shows a question, and takes an answer to it."""
    app.shows("agent", words)
    app.shows("agent", READY)


def test_the_app_answers_several_programs_with_one_key_each(app: Terminals, place: Path) -> None:
    program(app, place, "one", "yes")
    asked(app, f"filename: {place}/yes")
    program(app, place, "two", "no")
    app.shows("agent", "2 questions wait")
    app.type("agent", "p")
    app.shows("agent", "mkdir: permitted")
    app.shows("one", "ended 0")
    assert (place / "yes").is_dir()
    asked(app, f"filename: {place}/no")
    app.type("agent", "d")
    app.shows("two", "EPERM")
    assert not (place / "no").exists()
    program(app, place, "three", "a")
    asked(app, f"filename: {place}/a")
    app.type("agent", "k")
    app.shows("three", "ended 1")  # by a signal
    assert not (place / "a").exists()
    app.type("agent", "q")
    app.shows("agent", "ended 0")


def test_the_app_takes_always_for_all_that_is_the_same_in_this_run(
    app: Terminals, place: Path
) -> None:
    path = sign(app.cage, rules(place))
    app.open("one", path, "-I", "-S", "-c", PRELUDE + TWICE, f"{place}/yes")
    asked(app, f"filename: {place}/yes")
    app.type("agent", "a")
    app.shows("agent", "permitted in this run")
    app.shows("one", "ok EEXIST")


def test_the_app_denies_when_it_is_ended_and_leaves_no_socket(app: Terminals, place: Path) -> None:
    program(app, place, "one", "yes")
    app.shows("agent", f"filename: {place}/yes")
    app.type("agent", "C-c")
    app.shows("one", "EPERM")
    app.shows("agent", "ended 0")
    left = app.cage.world.machine.run("ls", f"/run/user/{ALICE}/certexec")
    assert left.stdout == ""


def test_the_app_shows_when_a_caller_is_gone(app: Terminals, place: Path) -> None:
    program(app, place, "one", "yes")
    app.shows("agent", f"filename: {place}/yes")
    app.type("one", "C-c")
    app.shows("agent", "withdrawn: nobody waits for it")
    app.shows("agent", "nothing is asked")


def test_what_a_dead_agent_left_is_denied_and_the_next_one_takes_its_place(
    app: Terminals, place: Path
) -> None:
    program(app, place, "one", "yes")
    asked(app, f"filename: {place}/yes")
    app.kill("agent")
    app.shows("one", "EPERM")
    app.open("next", *AGENT)
    app.shows("next", "nothing is asked")
    program(app, place, "two", "a")
    app.shows("next", f"filename: {place}/a")
    app.shows("next", READY)
    app.type("next", "p")
    app.shows("two", "ended 0")
    assert (place / "a").is_dir() and not (place / "yes").exists()


def test_nobody_is_asked_in_the_place_of_another_user(tmux: Terminals, place: Path) -> None:
    tmux.open("agent", *AGENT, uid=BOB)
    tmux.shows("agent", "nothing is asked")
    program(tmux, place, "one", "yes")
    tmux.shows("one", "EPERM")
    assert "nothing is asked" in tmux.text("agent")
    # nor can he sit where Alice's programs look
    done = tmux.cage.world.machine.run("ls", f"/run/user/{ALICE}", uid=BOB)
    assert done.returncode != 0


def test_a_second_app_is_refused_while_the_first_goes_on(app: Terminals, place: Path) -> None:
    app.open("other", *AGENT)
    app.shows("other", "there is an agent at")
    program(app, place, "one", "yes")
    asked(app, f"filename: {place}/yes")
    app.type("agent", "p")
    app.shows("one", "ended 0")


def test_an_app_ends_with_its_terminal(app: Terminals, place: Path) -> None:
    program(app, place, "one", "yes")
    app.shows("agent", f"filename: {place}/yes")
    subprocess.run([*app._tmux, "kill-session", "-t", "agent"], check=True)
    app.shows("one", "EPERM")
    left = app.cage.world.machine.run("ls", f"/run/user/{ALICE}/certexec")
    assert left.stdout == ""


# -- calls that no rule matches --------------------------------------------------------------------


def silent_policy() -> str:
    return policy(PYTHON, *READS)


def silent_program(terminals: Terminals, place: Path, name: str, asked: str) -> None:
    """Start a program under a policy that says nothing of what it asks for."""
    path = sign_silent(terminals.cage, *UNMATCHED)
    terminals.open(name, path, "-I", "-S", "-c", PRELUDE + TWICE, str(place / asked))


def test_a_question_without_a_rule_is_answered_in_the_terminal_and_its_rule_is_told(
    terminals: Terminals, place: Path
) -> None:
    silent_program(terminals, place, "one", "yes")
    terminals.shows("agent", f"filename: {place}/yes")
    terminals.shows("agent", "no rule of the policy matches it")
    prompts(terminals, 1)
    terminals.type("agent", "a", "Enter")
    terminals.shows("agent", "#1: always")
    rule = f'native-fswrite: filename eq "{place}/yes" then permit'
    terminals.shows("agent", f"a rule that permits it: {rule}")
    terminals.shows("one", "ok EEXIST")


def test_the_app_says_that_no_rule_matches_and_adds_the_one_that_would(
    tmux: Terminals, place: Path
) -> None:
    """With the rule in it, the policy needs no agent the next time."""
    file = place / "policy"
    file.write_text(silent_policy())
    os.chown(place, ALICE, ALICE)
    os.chown(file, ALICE, ALICE)
    tmux.open("agent", *AGENT, "--append", str(file))
    tmux.shows("agent", "nothing is asked")
    silent_program(tmux, place, "one", "yes")
    tmux.shows("agent", "(no rule)")
    asked(tmux, "no rule of the policy matches it")
    tmux.type("agent", "a")
    tmux.shows("one", "ok EEXIST")
    tmux.shows("agent", f'added to "{file}"')
    tmux.type("agent", "q")
    tmux.shows("agent", "ended 0")
    line = f'native-fswrite: filename eq "{place}/yes" then permit'
    assert file.read_text() == f"{silent_policy()}\t{line}\n"
    (place / "yes").rmdir()
    path = tmux.cage.world.sign("appended", PYTHON, *UNMATCHED, text=file.read_text())
    tmux.open("two", path, "-I", "-S", "-c", PRELUDE + TWICE, str(place / "yes"))
    tmux.shows("two", "ok EEXIST")


def test_two_programs_without_a_rule_get_their_own_answers_and_late_ones_are_denied(
    app: Terminals, place: Path
) -> None:
    silent_program(app, place, "one", "yes")
    asked(app, f"filename: {place}/yes")
    silent_program(app, place, "two", "no")
    app.shows("agent", "2 questions wait")
    app.type("agent", "d")
    asked(app, f"filename: {place}/no")
    app.shows("agent", "2 questions wait")  # the first one asks twice
    app.kill("agent")
    app.shows("one", "EPERM EPERM")
    app.shows("two", "EPERM EPERM")
    assert not (place / "yes").exists() and not (place / "no").exists()
