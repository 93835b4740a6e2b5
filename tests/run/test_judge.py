"""Whom the rules see: names and homes are looked up only for rules that ask for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.userdb import SystemUsers
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.syntax import parse_policy
from certexec.run.judge import Judge

FILES = {"filename": ["/home/alice/notes"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the accounts were asked, in which there is Alice."""
    questions: list[str] = []

    def answer(what: str, text: str | None) -> Any:
        def look(users: SystemUsers, uid: int) -> str | None:
            questions.append(what)
            return text if uid == 1000 else None

        return look

    monkeypatch.setattr(SystemUsers, "home", answer("home", "/home/alice"))
    monkeypatch.setattr(SystemUsers, "name", answer("name", "alice"))
    return questions


def verdict(rule: str, uid: int) -> str | None:
    """What one rule says of a read by ``uid``."""
    text = f"Policy: /bin/x, Emulation: native\n\tnative-fsread: {rule}\n"
    policy = parse_policy(text, name="x", users=SystemUsers(), privileged=True).policies[0]
    places: Any = SimpleNamespace(policies=[policy], layers={})
    judge = Judge(places, "/bin/x", "x", "/home", [])
    call: Any = SimpleNamespace(rights=SimpleNamespace(uids=(uid,) * 4, gids=(uid,) * 4))
    found = evaluate(effective_rules(policy, "stat"), FILES, judge.subject(call))
    return None if found is None else found.action


def test_a_rule_without_a_name_in_it_asks_nobody(asked: list[str]) -> None:
    assert verdict('filename match "/home/*" then permit', 1000) == "permit"
    assert verdict('filename match "/home/*" then permit, if user = 1000', 1000) == "permit"
    assert verdict('filename match "/home/*" then permit, if user = 1001', 1000) is None
    assert asked == []


@pytest.mark.parametrize(("macro", "whose"), [("$HOME/*", 1000), ("/home/$USER/*", 1000)])
def test_a_rule_about_home_or_name_is_about_the_callers(
    asked: list[str], macro: str, whose: int
) -> None:
    rule = f'filename match "{macro}" then permit'
    assert verdict(rule, whose) == "permit"
    assert verdict(rule, whose + 1) is None
    assert set(asked) == {"home", "name"}


def test_the_directory_is_that_of_the_start_whoever_calls(asked: list[str]) -> None:
    assert verdict('filename match "$CWD/*" then permit', 1000) == "permit"
