"""``--browser`` up to where a browser is needed; tests/browser has one."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from certexec.cli import browser
from certexec.cli.main import main

POLICY = "Policy: /usr/bin/id, Emulation: native\n\tnative-fsread: permit\n"
ADDRESS = "http://127.0.0.1:4321/?token=secret"


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "id.policy"
    path.write_text(POLICY)
    return str(path)


def test_without_textual_serve_the_extra_is_named(
    policy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "textual_serve" else find(name)
    )
    assert main(["policy", "review", "--browser", policy]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "textual-serve is not installed" in err and "certexec[browser]" in err


def test_a_port_wants_a_browser_and_a_browser_no_prompts(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "review", "--port", "4000", policy]) == 2
    assert "--port is for --browser" in capsys.readouterr().err
    assert main(["policy", "review", "--browser", "--plain", policy]) == 2
    assert "--plain does without" in capsys.readouterr().err
    assert main(["policy", "review", "--browser", "--port", "0", policy]) == 2


def test_a_port_that_is_taken_is_said(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["policy", "review", "--browser", "--port", port, policy]) == 2
    out, err = capsys.readouterr()
    assert not out and f"cannot listen on port {port}" in err and "hint" in err


def test_what_is_no_policy_is_said_before_anything_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none"
    assert main(["policy", "review", "--browser", str(path)]) == 2
    path.write_text("nonsense")
    assert main(["policy", "review", "--browser", str(path)]) != 0
    assert "127.0.0.1" not in capsys.readouterr().out


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop whose xdg-open tells what it was given; returns where it tells it."""
    told = tmp_path / "told"
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\necho "$@" > {told}.new\nmv {told}.new {told}\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{opener.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return told


def test_the_browser_is_given_a_private_file_and_not_the_address(desktop: Path) -> None:
    from tests.browser.conftest import until

    with browser._opened(ADDRESS):
        until(desktop.exists, "nothing was opened")
        arguments = desktop.read_text()
        assert "secret" not in arguments and "4321" not in arguments
        page = Path(arguments.strip())
        assert page.read_text() == browser.PAGE.format(ADDRESS)
        assert page.stat().st_mode & 0o777 == 0o600
        assert page.parent.stat().st_mode & 0o777 == 0o700
    assert not page.exists() and not page.parent.exists()


@pytest.mark.parametrize("missing", ["DISPLAY", "opener", "user"])
def test_nothing_is_opened_for_root_or_without_a_desktop(
    desktop: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "DISPLAY":
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    elif missing == "opener":
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("something was started"))
    with browser._opened(ADDRESS):
        assert not list(desktop.parent.glob("*/certexec.html"))


def test_the_help_shows_it() -> None:
    from certexec.cli.main import cli

    said = CliRunner().invoke(cli, ["policy", "review", "--help"]).output
    assert "--browser" in said and "--port" in said
