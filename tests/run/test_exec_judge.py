"""What is done at an exec stop when something else runs than was judged."""

from __future__ import annotations

from typing import Any

import pytest

from certexec.policy.evaluate import Verdict
from certexec.policy.model import Rule
from certexec.run import exec_judge
from certexec.run.exec_judge import ExecJudge


class Stub:
    """Holds what it is given."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


NOBODY: Any = Stub(**dict.fromkeys(("uids", "gids", "groups", "caps", "no_new_privs"), ()))
"""Somebody's rights."""


def judge_of(**fields: Any) -> Any:
    """Return a judge of execs with these parts, and no others."""
    made: Any = ExecJudge.__new__(ExecJudge)
    steady = Stub(holds=lambda cookie: False)
    parts: dict[str, Any] = {
        "gains": False, "permissive": False, "nested": None, "steady": steady,
        "permitted": lambda _: True,
    }  # fmt: skip
    made.__dict__.update(parts | fields)
    return made


@pytest.mark.parametrize("after", [NOBODY, Stub(**{**NOBODY.__dict__, "caps": (1,)})])
def test_what_was_known_of_rights_goes_on_only_after_an_exec_that_left_them(after: Any) -> None:
    went_on: list[int] = []
    steady = Stub(holds=lambda cookie: cookie == 5, go_on=went_on.append)
    made = judge_of(steady=steady, read=lambda pid: after)
    made._objection(Stub(notification=Stub(cookie=5)), None, False, 1, NOBODY)
    made._objection(Stub(notification=Stub(cookie=6)), None, False, 1, NOBODY)
    assert went_on == ([5] if after is NOBODY else [])


def test_an_exec_is_compared_with_the_rights_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read once the kernel goes on is what came out."""
    order: list[str] = []

    class Caller(Stub):
        @property
        def rights(self) -> str:
            order.append("read")
            return "before"

    def guard(call: Any, objection: Any, failed: Any) -> str:
        order.append("executed")
        objection(1)
        failed()
        return ""

    monkeypatch.setattr(exec_judge, "guard", guard)
    monkeypatch.setattr(exec_judge, "excess", lambda before, pid: order.append(before) or "")
    made = judge_of(gains=True, steady=Stub(holds=lambda _: False, go_on=order.append))
    made._happen(Caller(notification=Stub(cookie=5)), None, False)
    assert order == ["read", "executed", "before", 5]


def test_a_permitted_exchange_counts_for_the_state_of_the_tree() -> None:
    """The first look was at another file, on which no "after" had to come true."""
    happened: list[Any] = []
    permit = Verdict(Rule("native", "execve", action="permit", errno=0, line=1, text=""))
    judge = Stub(judge=lambda _: permit, narrowing=Stub(happens=happened.append))
    transitions = Stub(
        after_exec=lambda *_: 0, of=lambda _: 0, executed=lambda *_: None, one_policy=True
    )
    values = {"filename": ["/usr/bin/other"], "argv": ["x"]}
    call = Stub(task=Stub(tgid=1), notification=Stub(cookie=1))
    execution = Stub(
        call=call, values={"filename": ["/usr/bin/one"], "argv": ["x"]}, verdict=permit,
        outcome=lambda _: values, outermost=permit, launched=False,
    )
    made = judge_of(judge=judge, transitions=transitions)
    assert made._objection(call, execution, True, 1, NOBODY) == ""
    assert happened == [execution] and execution.values == values


def test_a_file_is_looked_up_with_the_rights_of_who_executes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rights: list[str] = ["ours"]
    seen: list[str] = []
    mask: Any = Stub(assume=rights.append, restore=lambda: rights.append("ours"))
    monkeypatch.setattr(exec_judge, "Execution", lambda *_: seen.append(rights[-1]))
    judge: Any = ExecJudge.__new__(ExecJudge)
    judge.mask, judge.resolver = mask, None
    call: Any = Stub(task=Stub(mask=None), rights="theirs")
    judge._prepare(call)
    assert (seen, rights[-1], call.task.mask) == (["theirs"], "ours", mask)
