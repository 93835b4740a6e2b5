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


def test_a_permitted_exchange_counts_for_the_state_of_the_tree() -> None:
    """The first look was at another file, on which no "after" had to come true."""
    happened: list[Any] = []
    permit = Verdict(Rule("native", "execve", action="permit", errno=0, line=1, text=""))
    judge = Stub(judge=lambda _: permit, narrowing=Stub(happens=happened.append))
    transitions = Stub(
        after_exec=lambda *_: 0, of=lambda _: 0, executed=lambda *_: None, one_policy=True
    )
    values = {"filename": ["/usr/bin/other"], "argv": ["x"]}
    call = Stub(task=Stub(tgid=1))
    execution = Stub(
        call=call, values={"filename": ["/usr/bin/one"], "argv": ["x"]}, verdict=permit,
        outcome=lambda _: values, outermost=permit, launched=False,
    )
    made: Any = ExecJudge(
        judge, transitions, None, None, False, lambda _: True, False, None, None  # type: ignore[arg-type]
    )
    assert made._objection(call, execution, True, 1) == ""
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
    call: Any = Stub(task=Stub(mask=None), status="theirs")
    judge._prepare(call)
    assert (seen, rights[-1], call.task.mask) == (["theirs"], "ours", mask)
