"""Manual pages cannot drift from the commands: every option is in its page, and pages are clean."""

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from certexec.cli import output
from certexec.cli.main import VERBS, cli

MAN = Path(__file__).resolve().parents[2] / "man"
PAGES = ("drop", "keygen", "key", "trust", "sign", "verify", "inspect", "monitor", "log", "agent")


def options(command: click.Command) -> set[str]:
    """Return the flags of a verb and of the verbs below it, without those that all verbs have."""
    found = {
        flag
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for flag in (*param.opts, *param.secondary_opts)
    }
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        found |= options(below)
    return found


def documented(page: str) -> set[str]:
    """Return the flags that a page has in its source, as they are typed."""
    found: set[str] = set()
    for line in (MAN / page).read_text().splitlines():
        if line.startswith("."):
            found |= {f"-{flag}" for flag in re.findall(r"\bFl (-?[A-Za-z][\w-]*)", line)}
            found |= {f"-{flag}" for flag in re.findall(r"^\.It Fl \S+ , (-[\w-]+)", line)}
    return found


@pytest.mark.parametrize("verb", PAGES)
def test_every_option_is_in_the_page(verb: str) -> None:
    command = importlib.import_module(f"certexec.cli.{verb}").command
    missing = options(command) - documented(f"certexec-{verb}.1")
    assert not missing


@pytest.mark.parametrize("verb", PAGES)
def test_the_page_has_no_option_that_is_not_there(verb: str) -> None:
    command = importlib.import_module(f"certexec.cli.{verb}").command
    known = options(command) | {"-q", "--quiet", "-v", "--verbose", "--color", "-h", "--help"}
    assert not {flag for flag in documented(f"certexec-{verb}.1") if flag not in known}


@pytest.mark.parametrize(
    "name",
    [
        one.name for one in VERBS if not one.alias_of
    ],
)
def test_the_main_page_names_every_verb(name: str) -> None:
    text = (MAN / "certexec.1").read_text()
    assert re.search(rf"^\.It Cm {name}$|^\.It Cm {name} |^\.Cm {name}\b", text, re.MULTILINE)


def test_the_main_page_names_every_option_that_all_verbs_have() -> None:
    text = (MAN / "certexec.1").read_text()
    for flag in options(cli) - {"--help", "-h"}:
        assert flag in documented("certexec.1")
    assert all(word in text for word in output.COLOR_CHOICES)


def test_pages_are_clean() -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        if os.environ.get("CERTEXEC_MUST_WORK"):
            pytest.fail("mandoc is not installed")
        pytest.skip("mandoc is not installed")
    for page in sorted(MAN.iterdir()):
        done = subprocess.run(
            [mandoc, "-Tlint", "-W", "warning", str(page)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
