"""certexec agent in the app: which question a key answers, and what is shown of it."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from textual.pilot import Pilot

from certexec.run.agent import Agent
from certexec.run.agent_desk import Waiting
from certexec.tui.agent_app import AgentApp
from tests.run.test_agent_desk import Asked
from tests.tui.conftest import play, shown, until


class Bench:
    """An app whose questions a test hands in."""

    def __init__(self, grace: float = 0.0) -> None:
        self.coming: list[Asked] = []
        self.told: list[Waiting] = []
        self.app = AgentApp(
            cast(Agent, self), self.told.append, lambda question: f"rule of {question.event}",
            grace=grace,
        )

    def wait(self, seconds: float) -> Asked | None:
        assert seconds == 0.0
        return self.coming.pop(0) if self.coming else None

    def ask(self, name: str, milliseconds: int = 30000) -> Asked:
        asked = Asked(
            milliseconds, program="/bin/x", pid=7, syscall="mkdir", arguments={"filename": name}
        )
        self.coming.append(asked)
        return asked

    def sees(self, name: str, words: str) -> bool:
        return words in shown(self.app, name)


def test_what_an_added_rule_permits_is_told_and_not_asked() -> None:
    bench = Bench()
    bench.app._permits = lambda question: question.event["arguments"] == {"filename": "/tmp/a"}

    async def steps(pilot: Pilot[Any]) -> None:
        asked = bench.ask("/tmp/a")
        await until(pilot, lambda: asked.answers == ["always"])
        await until(pilot, lambda: bench.sees("outcomes", "permitted by a rule that was added"))
        assert bench.sees("waiting", "nothing is asked") and not bench.told

    play(bench.app, steps)


def test_each_question_is_told_once_and_answered_by_one_key() -> None:
    bench = Bench()
    words = {"p": "permit", "a": "always", "d": "deny", "k": "kill"}

    async def steps(pilot: Pilot[Any]) -> None:
        assert bench.sees("waiting", "nothing is asked")
        for key, word in words.items():
            asked = bench.ask(f"/tmp/{word}")
            await until(pilot, partial(bench.sees, "what", f"/tmp/{word}"))
            await pilot.press(key)
            assert asked.answers == [word]
            await until(pilot, lambda: bench.sees("waiting", "nothing is asked"))

    play(bench.app, steps)
    assert [one.number for one in bench.told] == [1, 2, 3, 4]


def test_a_key_answers_the_marked_question_and_no_other() -> None:
    bench = Bench()
    first, second, third = (bench.ask(f"/tmp/{name}") for name in "abc")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("head", "3 questions wait"))
        await pilot.press("down", "d")
        await pilot.press("up", "p")
        await until(pilot, lambda: bench.sees("head", "1 question waits"))

    play(bench.app, steps)
    assert (first.answers, second.answers, third.answers) == ([], ["deny"], ["permit"])


def test_a_key_that_was_on_its_way_before_the_question_came_does_not_count() -> None:
    bench = Bench(grace=3600.0)
    asked, other = bench.ask("/tmp/a"), bench.ask("/tmp/b")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("what", "/tmp/a"))
        assert shown(bench.app, "keys") == "..."
        await pilot.press("p", "d", "k", "a")
        assert asked.answers == []
        bench.app._changed = 0.0  # long ago
        # who goes to a question chose it
        await pilot.press("down", "p")

    play(bench.app, steps)
    assert (asked.answers, other.answers) == ([], ["permit"])


def test_a_question_that_moved_up_is_not_answered_for_the_one_that_stood_there() -> None:
    bench = Bench()
    first, second, third = (bench.ask(f"/tmp/{name}") for name in "abc")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("head", "3 questions wait"))
        bench.app._grace, bench.app._changed = 3600.0, 0.0
        second.withdrawn = True
        await until(pilot, lambda: bench.sees("head", "2 questions wait"))
        await pilot.press("down", "p")
        assert bench.sees("what", "/tmp/c") and shown(bench.app, "keys") == "..."
        bench.ask("/tmp/d")
        bench.app._changed = 0.0
        await until(pilot, lambda: bench.sees("head", "3 questions wait"))
        await pilot.press("down", "p")  # to one that came this moment
        assert bench.sees("what", "/tmp/d")

    play(bench.app, steps)
    assert first.answers == second.answers == third.answers == []


def test_what_nobody_waits_for_goes_and_the_next_question_is_not_answered_for_it() -> None:
    bench = Bench(grace=3600.0)
    bench.app._grace = 0.0
    first, second = bench.ask("/tmp/a"), bench.ask("/tmp/b")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("head", "2 questions wait"))
        bench.app._grace = 3600.0
        first.withdrawn = True
        await until(pilot, lambda: bench.sees("outcomes", "withdrawn"))
        await pilot.press("p")

    play(bench.app, steps)
    assert (first.answers, second.answers) == ([], [])


def test_a_question_whose_time_is_over_is_told_as_denied() -> None:
    bench = Bench()
    asked = bench.ask("/tmp/a", milliseconds=1)

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("outcomes", "denied: its time is over"))
        await pilot.press("p")

    play(bench.app, steps)
    assert asked.answers == []


def test_what_a_program_names_cannot_drive_the_screen() -> None:
    bench = Bench()
    bench.ask("/tmp/[red]\x1b[2J\n#9 permitted\u202e")

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: bench.sees("what", "[red]\\x1b[2J\\n#9 permitted\\u202e"))
        assert bench.sees("waiting", "[red]\\x1b[2J\\n#9 permitted\\u202e")

    play(bench.app, steps)
