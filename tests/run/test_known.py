"""What the resident server has judged before counts only for what it was judged of."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.run import known as module
from certexec.run.decide import read_policy
from certexec.run.identity import Permitted
from certexec.run.invoker import Invoker
from certexec.run.known import Known

TEXT = "Policy: /bin/true, Emulation: native\n\tnative-getpid: permit\n"


def thing() -> Any:
    return SimpleNamespace()


def permitted(uid: int = 1, gid: int = 2) -> Permitted:
    return Permitted(Invoker.assumed(uid, gid, False))


def test_a_plan_is_for_these_ids_this_certificate_and_this_filter() -> None:
    known, certificate, compiled = Known(), thing(), thing()
    known.keep_plan(certificate, compiled, permitted(), b"plan")
    assert known.plan(certificate, compiled, permitted()) == b"plan"
    for other in (permitted(uid=3), permitted(gid=3)):
        assert known.plan(certificate, compiled, other) == b""
    for name in ("uid", "euid", "gid", "egid"):
        granted = permitted()
        setattr(granted, name, 0)
        assert known.plan(certificate, compiled, granted) == b""
    assert known.plan(thing(), compiled, permitted()) == b""
    assert known.plan(certificate, thing(), permitted()) == b""


def certificate(content: str, **signed: Any) -> Any:
    from hashlib import sha256

    digest = sha256(content.encode()).digest()
    policy = SimpleNamespace(**{"text": content, "path": None, "sha256": digest, **signed})
    return SimpleNamespace(policy=policy, claims=SimpleNamespace(sub="name"))


def test_a_policy_that_stands_in_a_certificate_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, one = Known(), certificate(TEXT)
    file = read_policy(one, known)
    monkeypatch.setattr(module, "parse_policy", None)
    known._text = ""
    assert read_policy(one, known) is file
    assert known._text == TEXT  # others may learn it


def test_a_policy_that_stands_elsewhere_is_read_each_time(tmp_path: Any) -> None:
    known, path = Known(), tmp_path / "policy"
    path.write_text(TEXT)
    one = certificate(TEXT, text=None, path=str(path))
    read_policy(one, known)
    path.write_text(TEXT + "\n")
    with pytest.raises(Exception, match="not the one that was signed"):
        read_policy(one, known)


def test_the_names_in_a_policy_are_asked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()
    one = certificate(TEXT.replace("permit", "permit, if user = root"))
    file = read_policy(one, known)
    assert known.policy_inside(one) is file
    monkeypatch.setattr(module.Lookup, "_ask", lambda self: "another")
    assert known.policy_inside(one) is None


def test_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    known, compiled = Known(), thing()
    things = [thing() for _ in range(3)]
    for one in things:
        known.keep_plan(one, compiled, permitted(), os.urandom(1))
    assert [bool(known.plan(one, compiled, permitted())) for one in things] == [False, True, True]
