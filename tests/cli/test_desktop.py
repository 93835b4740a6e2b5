"""Questions told on the desktop, where there is one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest

from certexec.cli.desktop import BODY_MAX, Desktop
from certexec.run.agent import Question
from certexec.run.agent_desk import Waiting
from tests.run.test_agent_desk import Asked


def question(name: str) -> Waiting:
    asked = Asked(program="/bin/x", syscall="mkdir", arguments={"filename": name})
    return Waiting(1, cast(Question, asked), 0.0)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program that stands for the desktop writes what it is told."""
    said, script = tmp_path / "said", tmp_path / "notify-send"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}.new && mv {said}.new {said}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return said


def test_a_question_is_told_as_text_that_is_no_markup_and_no_option(said: Path) -> None:
    Desktop().tell(question("<b>&x</b>\x1b[2J" + "y" * 1000))
    while not said.exists():  # the test's own time limit ends it
        time.sleep(0.01)
    lines = said.read_text().splitlines()
    assert lines[:3] == ["--app-name=certexec", "--", "certexec asks"]
    assert "filename: (b>+x(/b>\\x1b[2Jyyy" in lines[3] and len(lines) == 4
    assert len(lines[3]) <= BODY_MAX


def test_without_a_desktop_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    Desktop().tell(question("/x"))
    desktop = Desktop()
    desktop._program = str(tmp_path / "gone")  # it was removed meanwhile
    desktop.tell(question("/x"))
    assert desktop._program is None and capfd.readouterr() == ("", "")
