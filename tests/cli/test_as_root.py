"""How somebody who is not root gets done what only root may do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from certexec.cli.as_root import need_root
from certexec.errors import RunError


def hint(monkeypatch: pytest.MonkeyPatch, called: str, *, sudo: bool) -> str:
    """Return the hint of ``certexec setup --remove`` for a user who called it so."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(sys, "argv", [called])
    found = {"sudo": "/usr/bin/sudo" if sudo else None, "certexec": "/opt/c/bin/certexec"}
    monkeypatch.setattr("shutil.which", found.get)
    with pytest.raises(RunError) as caught:
        need_root("certexec setup --remove")
    assert caught.value.reason == "not-root"
    return caught.value.hint


def test_sudo_is_given_the_path_of_the_program_that_was_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = 'run "sudo /opt/c/bin/certexec setup --remove"'
    assert hint(monkeypatch, "/opt/c/bin/certexec", sudo=True) == wanted
    assert hint(monkeypatch, "certexec", sudo=True) == wanted
    assert "sudo '/a b/certexec' setup" in hint(monkeypatch, "/a b/certexec", sudo=True)


def test_a_relative_path_becomes_one_that_holds_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"sudo {tmp_path}/bin/certexec setup" in hint(monkeypatch, "bin/certexec", sudo=True)


def test_where_sudo_is_missing_it_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = 'as root: "/opt/c/bin/certexec setup --remove"'
    assert hint(monkeypatch, "/opt/c/bin/certexec", sudo=False) == wanted


def test_a_module_that_was_run_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = hint(monkeypatch, "/lib/certexec/__main__.py", sudo=True)
    assert f"{sys.executable} -m certexec setup --remove" in shown


def test_root_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    need_root("certexec setup")
