"""certexec verify over many files: in several processes, with nothing else different."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from certexec.cli import progress as progress_module
from certexec.cli import verify as verify_module
from certexec.cli.progress import Progress, picture
from certexec.run.certificate_files import Item
from certexec.run.verify import Result, Verifier
from tests.cli.conftest import Script
from tests.cli.test_verify import as_nobody

ROOT = Path(__file__).resolve().parents[2]
GOOD, BAD = 60, (3, 31, 32, 58)


@pytest.fixture
def many(signed: Script) -> Script:
    """Return a script with a directory "all": good certificates, four bad ones, other files."""
    content = signed.path("hello.cert").read_bytes()
    for number in range(GOOD):
        path = signed.path(f"all/{number % 3}/{number:03}.cert")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + b"x" * (number in BAD))
        path.with_suffix(".txt").write_text("no certificate")
    return signed


def verify(script: Script, *arguments: str) -> tuple[int, str, str]:
    code = script.certexec("verify", "--trust", "trust", *arguments)
    return code, script.stdout, script.stderr


@pytest.mark.parametrize("flags", [(), ("--json",), ("-q",), ("--no-binary",), ("--at", "+91d")])
def test_several_processes_print_what_one_prints(many: Script, flags: tuple[str, ...]) -> None:
    alone = verify(many, "-j", "1", *flags, "all", "missing", "hello.cert", "all/1")
    assert alone[0] == 1
    for jobs in ("2", "3", "7"):
        assert verify(many, "-j", jobs, *flags, "all", "missing", "hello.cert", "all/1") == alone
    assert verify(many, *flags, "all", "missing", "hello.cert", "all/1") == alone


def test_the_order_is_that_of_the_names(many: Script) -> None:
    _, out, _ = verify(many, "-j", "3", "all")
    names = [line.partition(":")[0] for line in out.splitlines()]
    assert names == sorted(names) and len(names) == GOOD


def test_each_line_of_json_is_one_certificate(many: Script) -> None:
    code, out, error = verify(many, "-j", "3", "--json", "all")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and len(lines) == GOOD and error == ""
    bad = [line for line in lines if not line["ok"]]
    assert [line["path"][-8:-5] for line in bad] == sorted(
        (f"{number:03}" for number in BAD), key=lambda name: (int(name) % 3, name)
    )
    assert {line["reason"] for line in bad} == {"malformed"}


def test_standard_input_is_read_by_the_one_that_has_it(many: Script) -> None:
    many.stdin = many.path("hello.cert").read_bytes()
    code, out, _ = verify(many, "-j", "3", "all/1", "-", "all/0")
    assert "\n-: OK (" in out and code == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_is_told_by_several_processes_too(many: Script) -> None:
    many("chmod 700 all/1\nchmod 600 all/2/002.cert")
    told = as_nobody(many, "-j", "3", "all")
    assert told.startswith("1\n"), told
    assert "all/1: UNKNOWN (unreadable)" in told
    assert "all/2/002.cert: UNKNOWN (unreadable)" in told
    assert told == as_nobody(many, "-j", "1", "all")


def test_a_process_that_dies_costs_its_certificate_an_answer(
    many: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, mine = Verifier.judge, os.getpid()

    def judge(self: Verifier, item: Item) -> Result | None:
        if item.path == "all/1/004.cert" and os.getpid() != mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, item)

    monkeypatch.setattr(Verifier, "judge", judge)
    code, out, error = verify(many, "-j", "3", "all/1")
    assert "all/1/004.cert: UNKNOWN (internal)\n" in out
    assert "all/1/004.cert: the process that worked on it was killed by signal 9" in error
    assert out.count(": OK") == GOOD // 3 - 1 - len([n for n in BAD if n % 3 == 1])
    assert code == 1
    code, out, _ = verify(many, "-j", "3", "--json", "all/1")
    dead = [json.loads(line) for line in out.splitlines() if "004.cert" in line]
    assert dead[0]["reason"] == "internal" and dead[0]["exit_code"] == 2


def test_a_certificate_or_a_binary_that_vanishes_meanwhile_is_told(
    many: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Verifier.judge

    def judge(self: Verifier, item: Item) -> Result | None:
        if item.path == "all/0/006.cert":
            os.unlink(item.path)
        if item.path == "all/0/009.cert":
            os.rename(many.path("hello"), many.path("gone"))
        try:
            return real(self, item)
        finally:
            if item.path == "all/0/009.cert":
                os.rename(many.path("gone"), many.path("hello"))

    monkeypatch.setattr(Verifier, "judge", judge)
    _, out, _ = verify(many, "-j", "1", "all/0")
    assert "006.cert" not in out  # as if it had never been there
    assert "all/0/009.cert: FAIL (binary-missing)" in out
    assert "all/0/012.cert: OK" in out


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "513"])
def test_a_number_of_processes_that_makes_no_sense_is_refused(many: Script, jobs: str) -> None:
    assert verify(many, "-j", jobs, "all")[0] == 2


# -- as a program ----------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "certexec.cli.main", "verify", "--trust", "trust", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


def test_a_result_is_printed_before_the_next_is_judged(
    many: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no list of them grows; what several processes hold is a window, see their tests."""
    judged, printed = [0], [0]
    real_judge, real_print = Verifier.judge, verify_module._print

    def judge(self: Verifier, item: Item) -> Result | None:
        result = real_judge(self, item)
        judged[0] += result is not None
        assert judged[0] == printed[0] + 1 or result is None
        return result

    def show(told: verify_module.Told) -> None:
        printed[0] += 1
        real_print(told)

    monkeypatch.setattr(Verifier, "judge", judge)
    monkeypatch.setattr(verify_module, "_print", show)
    assert verify(many, "-j", "1", "--json", "all")[0] == 1
    assert printed == [GOOD]


def test_interrupting_leaves_nobody_behind(many: Script) -> None:
    program = subprocess.Popen(
        command("-j", "3", *["all"] * 400), cwd=many.directory, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.readline()
    os.killpg(program.pid, signal.SIGINT)
    error = program.communicate(timeout=30)[1]
    assert program.returncode == -signal.SIGINT
    assert "Traceback" not in error
    assert _gone(program.pid)


def test_a_reader_that_goes_away_ends_it(many: Script) -> None:
    program = subprocess.Popen(
        command("-j", "3", *["all"] * 400), cwd=many.directory, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.readline()
    program.stdout.close()
    assert program.wait(timeout=30) == -signal.SIGPIPE
    assert _gone(program.pid)


def _gone(session: int) -> bool:
    """Wait until no process of a session is left."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


# -- how far it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "total", "final", "shown"),
    [
        (5, 100, False, "verify: 5 of 100 or more"),
        (0, 10, True, "verify: [" + "." * 30 + "] 0 of 10"),
        (5, 10, True, "verify: [" + "#" * 15 + "." * 15 + "] 5 of 10"),
        (10, 10, True, "verify: [" + "#" * 30 + "] 10 of 10"),
        (0, 0, True, "verify: [" + "." * 30 + "] 0 of 0"),
    ],
)
def test_progress_is_a_bar_once_the_whole_is_known(
    done: int, total: int, final: bool, shown: str
) -> None:
    assert picture("verify", done, total, final) == shown


def on_a_terminal(many: Script, *arguments: str, **settings: str) -> str:
    """Run a verify with a terminal as standard error; return what it shows."""
    return shown_on_a_terminal(many, "verify", "--trust", "trust", *arguments, **settings)


def shown_on_a_terminal(script: Script, *arguments: str, **settings: str) -> str:
    """Run certexec with a terminal as standard error; return what it shows."""
    terminal, ours = pty.openpty()
    code = (
        "import sys\nfrom certexec.cli import progress\n"
        "progress.DELAY = progress.INTERVAL = 0\n"
        "from certexec.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=script.directory, env={**environment(), **settings}, stdout=subprocess.DEVNULL,
        stderr=ours,
    )  # fmt: skip
    os.close(ours)
    shown = b""
    while True:
        select.select([terminal], [], [], 30)
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    program.wait(timeout=30)
    return shown.decode()


def test_a_terminal_sees_progress_and_is_clean_afterwards(many: Script) -> None:
    shown = on_a_terminal(many, "-j", "3", "all")
    assert "\rverify: [" in shown and "of 120" in shown
    errors = [part for part in shown.split("\r") if "certexec: " in part]
    assert len(errors) == 2 * len(BAD)  # an error and its hint
    assert shown.endswith("\r\x1b[K")


def test_who_compares_policies_on_a_terminal_sees_how_far_it_is(script: Script) -> None:
    header = "Policy: /bin/x, Emulation: native\n\t"
    script.write("one.policy", header + 'native-chdir: filename eq "/" then permit\n')
    script.write("two.policy", header + "native-write: permit\n")
    for what, arguments in (
        ("merge", ("merge",)), ("diff", ("diff", "--semantic")), ("check", ("check", "--lint"))
    ):
        shown = shown_on_a_terminal(script, "policy", *arguments, "one.policy", "two.policy")
        assert f"\r{what}: [" in shown and shown.count("\r\x1b[K") >= 1
        quiet = shown_on_a_terminal(script, "-q", "policy", *arguments, "one.policy", "two.policy")
        assert f"{what}: [" not in quiet


@pytest.mark.parametrize(
    ("arguments", "settings"), [(("-q",), {}), ((), {"TERM": "dumb"})], ids=["quiet", "dumb"]
)
def test_progress_is_not_shown(
    many: Script, arguments: tuple[str, ...], settings: dict[str, str]
) -> None:
    assert "verify: " not in on_a_terminal(many, *arguments, "all/1", **settings)


def test_progress_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(progress_module, "DELAY", 0)
    progress = Progress("verify")
    progress.show(1, 2, True)
    progress.hide()
    assert capfd.readouterr() == ("", "")
