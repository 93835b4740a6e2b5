"""As whom a single call is made: as the very one that the rule names which permits it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certexec.policy.evaluate import Verdict
from certexec.policy.model import Rule
from certexec.run.elevation import Elevation

ROOT, SERVICE, GROUP = (0, None), (7, None), (None, 7)


def verdict(elevate: tuple[int | None, int | None] | None) -> Verdict:
    rule = Rule("native", "bind", action="permit", errno=0, line=1, text="", elevate=elevate)
    return Verdict(rule)


@pytest.mark.parametrize("tried", [ROOT, SERVICE, GROUP])
@pytest.mark.parametrize("named", [ROOT, SERVICE, GROUP, None])
def test_rights_are_for_the_rule_that_names_them(
    tried: tuple[int | None, int | None], named: tuple[int | None, int | None] | None
) -> None:
    judge: Any = SimpleNamespace(judge=lambda operation: verdict(named))
    none: Any = None
    elevation = Elevation(judge, none, none, {ROOT: "root", SERVICE: "service", GROUP: ":web"})
    operation: Any = SimpleNamespace(values=None)
    values = {"sockaddr": ["inet-[0.0.0.0]:80"]}
    assert elevation._is_for(operation, values, tried) == (tried == named)
    assert operation.values == values


def test_without_a_rule_there_are_none() -> None:
    judge: Any = SimpleNamespace(judge=lambda operation: None)
    none: Any = None
    elevation = Elevation(judge, none, none, {ROOT: "root"})
    operation: Any = SimpleNamespace(values=None)
    assert not elevation._is_for(operation, {}, ROOT)
