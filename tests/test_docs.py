"""The documents cannot drift from the code."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted((PROJECT / "man").glob("*.[1-8]"))
MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"


def load_tool(name: str) -> object:
    spec = importlib.util.spec_from_file_location(name, PROJECT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_reasons_is_the_tables() -> None:
    tool = load_tool("generate_reasons")
    assert (PROJECT / "man" / "certexec-reasons.7").read_text() == tool.page()  # type: ignore[attr-defined]


def test_reasons_are_shown_where_the_page_says(tmp_path: Path) -> None:
    """Verify and JSON have the words; messages of the other commands have none."""
    (tmp_path / "x").write_text("no certificate")
    (tmp_path / "trust").mkdir(0o700)

    def said(*argv: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "certexec.cli.main", *argv],
            capture_output=True, text=True, cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip
        return done.stdout, done.stderr

    assert "(malformed)" in said("verify", "--trust", "trust", "x")[0]
    assert '"reason": "malformed"' in said("verify", "--json", "--trust", "trust", "x")[0]
    assert '"reason": "policy-syntax"' in said("policy", "check", "--json", "x")[0]
    for argv in (("inspect", "x"), ("run", "--trust", "trust", "missing")):
        output, error = said(*argv)
        assert output == "" and "error: " in error and "(" not in error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_manual_pages_are_clean(page: Path) -> None:
    if shutil.which("mandoc") is None:
        if MUST_WORK:
            pytest.fail("mandoc is not installed")
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(page)], capture_output=True, text=True
    )
    assert done.stdout == ""


def verbs() -> list[str]:
    from certexec.cli.main import VERBS

    return [verb.name for verb in VERBS if not verb.alias_of and verb.present]


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_a_manual_page_that_names_its_options(verb: str) -> None:
    pages = [page for page in PAGES if page.name.startswith(f"certexec-{verb}.")]
    if verb == "completion":
        assert "completion" in (PROJECT / "man" / "certexec.1").read_text()
        return
    assert pages, f"no manual page for {verb}"
    help_text = subprocess.run(
        [sys.executable, "-m", "certexec.cli.main", verb, "--help"],
        capture_output=True, text=True, check=True, cwd=PROJECT,
    ).stdout  # fmt: skip
    page = pages[0].read_text().replace("\\-", "-")
    for option in re.findall(r"^\s+(?:-\w, )?--([\w-]+)", help_text, re.M):
        if option != "help":
            assert f"-{option}" in page, f"{pages[0].name} does not name --{option}"


def test_every_path_that_readme_names_exists() -> None:
    readme = (PROJECT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (PROJECT / target).exists(), target


def test_every_make_target_that_readme_names_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", (PROJECT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.M), target
