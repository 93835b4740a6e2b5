"""What is done at an exec stop when something else runs than was judged."""

from __future__ import annotations

from typing import Any

from certexec.policy.evaluate import Verdict
from certexec.policy.model import Rule
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
