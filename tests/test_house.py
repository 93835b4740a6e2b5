"""The house: which room may use which, what the run path loads, how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "certexec"

MAY_USE = {
    "cli": {"browser", "tui", "run", "certificate", "trust", "policy", "kernel", "observe"},
    "tui": {"run", "policy", "observe"},
    "browser": {"kernel"},
    "run": {"certificate", "trust", "policy", "kernel", "observe"},
    "certificate": set(),
    "trust": {"certificate", "kernel"},
    "policy": {"kernel"},
    "kernel": set(),
    "observe": {"kernel"},
}
"""Arrows go down only; everybody may use the ground floor (errors, reasons, text, the version)."""
GROUND = {"errors", "reasons", "text"}
BESIDE_THE_RUN_PATH = {
    "certexec.certificate.sign",
    "certexec.trust.private_keys",
    "certexec.observe.syscall_text",
    "certexec.run.trace",
    "certexec.run.front",
    "certexec.run.agent",
    "certexec.run.certificate_files",
    "certexec.run.agent_desk",
    "certexec.run.drop",
    "certexec.run.memory",
    "certexec.run.once",
    "certexec.run.parallel",
    "certexec.run.reached",
    "certexec.run.verify",
    "certexec.policy.drop",
    "certexec.policy.difference",
    "certexec.observe.history",
    "certexec.observe.intake",
    "certexec.observe.reading",
    "certexec.observe.sources",
    "certexec.observe.report",
    "certexec.observe.report_page",
    "certexec.observe.collector",
    "certexec.run.gated_start",
    "certexec.run.learning",
    "certexec.run.processes",
    "certexec.run.record",
    "certexec.observe.event_log",
    "certexec.observe.noted_call",
    "certexec.observe.strace_log",
    "certexec.observe.typed_filter",
    "certexec.policy.learn",
    "certexec.policy.learned_paths",
    "certexec.policy.review",
    "certexec.policy.suggestions",
    "certexec.policy.tops",
    "certexec.policy.observation",
    "certexec.policy.watch",
}
"""Modules of run-path rooms that only the command line loads."""
FORBIDDEN = {
    "click", "logging", "dataclasses", "pathlib", "json", "ptrace", "re", "enum", "typing",
    "collections", "functools", "contextlib", "socket", "signal", "subprocess", "threading",
    "tomllib", "cbor2", "hashlib", "base64", "datetime", "ipaddress", "random", "site",
}  # fmt: skip
STANDARD = {
    "ctypes", "gc", "os", "sys", "time", "errno", "stat", "struct", "select", "fcntl", "syslog",
    "pwd", "grp", "array", "binascii", "zlib", "resource", "io", "abc", "codecs", "posixpath",
    "genericpath", "encodings", "types", "zipimport", "marshal", "posix", "builtins", "os.path",
}  # fmt: skip
LINES_MAX = 500
EXTRAS = {"textual", "textual_serve", "rich", "aiohttp"}
"""What only the terminal app and its browser need."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Name every certexec module that a file imports, at whatever level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(name for name in names if name.split(".")[0] == "certexec")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_down_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in MAY_USE:
        return
    for name in imports(path):
        parts = name.split(".")
        if len(parts) < 2 or parts[1] in GROUND or parts[1] in (room, "__version__"):
            continue
        assert parts[1] in MAY_USE[room], f"{room} must not use {name}"


def test_textual_is_imported_where_it_is_shown_and_nowhere_else() -> None:
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] in ("tui", "browser"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & EXTRAS, path


def run_path() -> set[str]:
    """Import the policy server as the launcher's child does, and name what got loaded."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.append(sys.argv[2])\n"
        "import certexec.run.server, certexec.run.supervise\n"
        "import cryptography.hazmat.bindings._rust\n"
        "print('\\n'.join(sys.modules))"
    )
    import cryptography

    site = str(Path(cryptography.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(PROJECT), site],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_run_path_loads_a_fixed_short_list() -> None:
    loaded = run_path()
    roots = {name.split(".")[0] for name in loaded}
    assert not loaded & FORBIDDEN, sorted(loaded & FORBIDDEN)
    assert not loaded & BESIDE_THE_RUN_PATH
    assert not any(name.startswith("certexec.cli") for name in loaded)
    foreign = {name for name in roots if not name.startswith("_")} - STANDARD
    assert foreign == {"certexec", "cryptography"}
    hazmat = {name for name in loaded if name.startswith("cryptography.")}
    assert hazmat <= {
        "cryptography.__about__",
        "cryptography.hazmat",
        "cryptography.hazmat.bindings",
        "cryptography.hazmat.bindings._rust",
    }


@pytest.mark.parametrize("room", ["certificate", "trust", "policy", "kernel", "run", "observe"])
def test_run_path_rooms_never_look_for_libraries_or_read_the_environment(room: str) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        name = f"certexec.{room}.{path.stem}"
        text = path.read_text()
        assert "find_library(" not in text
        if name not in BESIDE_THE_RUN_PATH:
            assert "os.environ" not in text and "os.getenv" not in text, name


@pytest.mark.parametrize("room", ["certificate", "policy"])
def test_pure_rooms_do_no_input_or_output(room: str) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "input", "print"), path
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"socket", "select", "fcntl"}


def test_every_file_is_one_concept_of_at_most_500_lines() -> None:
    sources = [*modules(), *(PROJECT / "binfmt").glob("*.[ch]")]
    long = {
        str(path.relative_to(PROJECT)): count
        for path in sources
        if (count := len(path.read_text().splitlines())) > LINES_MAX
        and path.name != "launch.c"
    }
    assert not long


def test_the_launcher_stays_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (PROJECT / "binfmt").glob("*.[ch]"))
    code = sum(
        1
        for path in (PROJECT / "binfmt").glob("*.[ch]")
        for line in path.read_text().splitlines()
        if line.strip() and not line.strip().startswith(("/*", "*", "//"))
    )
    # some 900 lines ask and apply, 330 more find out whether a kept plan still counts
    assert code <= 1250, (lines, code)
