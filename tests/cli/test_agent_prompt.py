"""certexec agent, line by line: from when on a question takes what is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certexec.cli import agent as agent_module
from certexec.cli.answered_rules import AnsweredRules
from certexec.errors import RunError
from certexec.run import agent_protocol
from certexec.run.agent_desk import GRACE
from tests.run.test_agent_desk import Asked

PROMPT = "p, a, d, k?"


class Play:
    """A user who types p and Enter without end; each look at what is asked takes 0.3 seconds.

    Attributes:
        coming: what is asked at each look; done: what happened at which time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *coming: Asked | None) -> None:
        self.now = 100.0
        self.coming = list(coming)
        self.done: list[tuple[str, float]] = []
        monkeypatch.setattr(agent_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(agent_module.termios, "tcflush", lambda *_: self.note("flush"))
        monkeypatch.setattr(agent_module.select, "select", lambda *_: ([0], [], []))
        monkeypatch.setattr(agent_module.os, "read", self.read)

    def note(self, what: str) -> None:
        self.done.append((what, round(self.now - 100.0, 1)))

    def read(self, fd: int, size: int) -> bytes:
        self.note("read")
        return b"p\n" if self.coming else b""

    def wait(self, seconds: float) -> Asked | None:
        self.now += 0.3
        return self.coming.pop(0)

    def run(self) -> int:
        agent: Any = self
        return agent_module._Terminal(agent, lambda _: None, AnsweredRules()).run()


def test_what_is_typed_counts_once_the_question_could_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked()
    play = Play(monkeypatch, asked, None, None, None)
    assert 0.3 < GRACE <= 0.6 and play.run() == 0
    assert play.done == [("flush", 0.9), ("read", 0.9), ("read", 1.2)]
    assert asked.answers == ["permit"]
    assert capsys.readouterr().out.count(PROMPT) == 1


def test_what_an_added_rule_permits_is_answered_without_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked()
    monkeypatch.setattr(AnsweredRules, "permits", lambda _, question: question is asked)
    play = Play(monkeypatch, asked, None, None, None)
    assert play.run() == 0 and asked.answers == ["always"]
    out = capsys.readouterr().out
    assert "#1: a rule that was added permits it" in out and PROMPT not in out


def test_an_agent_without_its_place_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(agent_protocol, "directory_of", lambda uid: f"{tmp_path}/none/certexec")
    with pytest.raises(RunError) as caught:
        agent_module._agent()
    assert caught.value.reason == "not-found" and "install -d -m 700 -o" in caught.value.hint


def test_a_question_that_takes_another_ones_place_is_not_answered_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Asked(), Asked()
    play = Play(monkeypatch, first, second, None, None, None, None)
    wait = play.wait

    def withdraw(seconds: float) -> Asked | None:
        found = wait(seconds)
        first.withdrawn = not play.coming[3:]  # when its prompt would come
        return found

    monkeypatch.setattr(play, "wait", withdraw)
    assert play.run() == 0
    assert first.answers == [] and second.answers == ["permit"]
    assert play.done == [("flush", 1.5), ("read", 1.5), ("read", 1.8)]
