"""The frame of the command: help, flags anywhere, mistakes, exit codes, errors."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from certexec import __version__
from certexec.cli import main as main_module
from certexec.cli import output
from certexec.cli.main import VERBS, exit_code_for, main
from certexec.errors import CertexecError, TrustError
from certexec.reasons import HINTS, REASONS
from tests.cli.conftest import Script

ROOT = Path(__file__).resolve().parents[2]


def test_help_shows_the_daily_verbs_first(script: Script) -> None:
    script("certexec --help")
    at = [script.stdout.index(word) for word in ("Daily:", "  sign ", "  verify ", "  inspect ",
                                                 "Set-up:", "  keygen ", "  trust ")]
    assert at == sorted(at)
    assert "not X.509" in script.stdout


def test_help_imports_no_verb() -> None:
    program = (
        "import sys; from certexec.cli.main import main; main(['--help']); "
        "print([name for name in sys.modules if name.startswith('certexec.cli.') and "
        "name not in ('certexec.cli.main', 'certexec.cli.output')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_every_verb_of_this_installation_has_help(script: Script) -> None:
    for verb in VERBS:
        if verb.present:
            script(f"certexec {verb.name} --help")
            assert "Usage: certexec" in script.stdout


@pytest.mark.parametrize("group", ["policy", "binfmt", "trust", "key"])
def test_the_list_of_verbs_below_a_verb_is_not_cut_off(script: Script, group: str) -> None:
    script(f"certexec {group} --help")
    assert "..." not in script.stdout.partition("Commands:")[2]


def test_a_verb_that_is_not_part_of_the_installation_is_not_there(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = main_module.Verb("later", "certexec.cli.later", "Daily", "Not here.")
    monkeypatch.setattr(main_module, "VERBS", (*VERBS, gone))
    script(
        """
        certexec --help
        ! stdout later
        ? certexec later
        stderr 'no such command "later"'
        """
    )


def test_the_version_is_one_line(script: Script) -> None:
    script("certexec -V")
    assert script.stdout == f"certexec {__version__}\n"


def test_a_mistyped_verb_is_recognised(script: Script) -> None:
    script(
        """
        ? certexec verfy x.cert
        stderr 'did you mean "verify"'
        ? certexec nonsense
        ! stderr 'did you mean'
        ? certexec sign --valid-fro 1d x
        stderr 'error: no such option'
        ? certexec
        """
    )


def test_global_flags_work_before_and_after_the_verb(signed: Script) -> None:
    signed(
        """
        certexec -q verify --trust trust hello.cert
        ! stdout .
        certexec verify -q --trust trust hello.cert
        ! stdout .
        certexec verify --trust trust hello.cert --color always
        stdout '\\x1b\\[32mOK'
        certexec --color never verify --trust trust hello.cert
        stdout 'hello.cert: OK'
        certexec trust list -q --trust trust
        certexec -v trust add ops.pub --trust trust
        stderr 'may grant nothing'
        certexec trust add ops.pub --trust trust -v
        stderr 'may grant nothing'
        certexec trust add ops.pub --trust trust
        ! stderr .
        """
    )


def test_a_configuration_file_is_refused_with_the_reason(signed: Script) -> None:
    for line in (
        "? certexec --config x verify --trust trust hello.cert",
        "? certexec verify --trust trust hello.cert --config=x",
        "? certexec --config x",
        "? certexec trust list --config x",
    ):
        signed(line)
        assert signed.stderr == (
            "certexec: error: there is no configuration file: "
            "what counts is signed, or in the trust store\n"
        )
    assert signed.certexec("run", "--config", "x", "hello.cert") == 125
    signed("certexec --help\n! stdout config")


def test_an_error_is_one_line_and_a_hint(signed: Script) -> None:
    signed("! certexec verify --trust trust hello hello.cert")
    lines = signed.stderr.splitlines()
    assert lines[0].startswith("certexec: error: hello: ")
    assert all(line.startswith("certexec: ") for line in lines)
    assert not any(line.endswith(".") for line in lines)


def test_exit_codes_tell_no_from_could_not_tell() -> None:
    for word in REASONS:
        error = CertexecError(word, "x")
        expected = 2 if word in ("usage", "unreadable", "not-found", "not-root", "internal") else 1
        assert exit_code_for(error, "verify") == expected
        assert exit_code_for(error, "run") == REASONS[word][0]


def raising(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("boom", callback=callback)


@pytest.fixture
def boom(monkeypatch: pytest.MonkeyPatch) -> "pytest.MonkeyPatch":
    monkeypatch.setattr(main_module.cli, "get_command", lambda ctx, name: monkeypatch.boom)  # type: ignore[attr-defined]
    return monkeypatch


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TrustError("bad-key", "it broke", "mend it"), 1, "certexec: hint: mend it\n"),
        (TrustError("unreadable", "it broke"), 2, "certexec: error: it broke\n"),
        (ZeroDivisionError("oops"), 2, "error: internal error: ZeroDivisionError: oops\n"),
        (click.Abort(), 2, "certexec: error: stopped, nothing was done\n"),
        (click.UsageError("Bad thing."), 2, "certexec: error: bad thing\n"),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    boom: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int,
    line: str,
) -> None:  # fmt: skip
    boom.boom = raising(error)  # type: ignore[attr-defined]
    assert main(["boom"]) == code
    shown = capsys.readouterr().err
    assert line in shown
    assert "Traceback" not in shown


def test_an_interrupt_at_a_question_kills_as_any_other(boom: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise click.Abort from None  # as click.confirm does

    def die(number: int) -> None:
        raise SystemExit(128 + number)

    boom.boom = click.Command("boom", callback=ask)  # type: ignore[attr-defined]
    boom.setattr(main_module, "_die_of", die)
    with pytest.raises(SystemExit) as ended:
        main(["boom"])
    assert ended.value.code == 128 + signal.SIGINT


def test_certexec_debug_shows_the_traceback(boom: pytest.MonkeyPatch) -> None:
    boom.boom = raising(ZeroDivisionError("oops"))  # type: ignore[attr-defined]
    boom.setenv("CERTEXEC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["boom"])


def test_output_into_a_closed_pipe_dies_of_sigpipe(signed: Script) -> None:
    command = f"{sys.executable} -m certexec.cli.main inspect --diag hello.cert"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, cwd=signed.directory, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stdout.strip() in ("0", "141")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("verify --trust trust hello.cert >/dev/full", 2, "No space left on device"),
        ("verify --trust trust nope.cert >/dev/full", 2, "No space left on device"),
        ("inspect --json hello.cert >/dev/full", 2, "No space left on device"),
        ("policy template --unsafe-permit-all true >/dev/full", 2, "No space left on device"),
        ("--help >/dev/full", 2, "No space left on device"),
        ("-V >/dev/full", 2, "No space left on device"),
        ("run --trust trust --explain hello.cert >/dev/full", 125, "No space left on device"),
        ("inspect hello.cert >&-", 2, "Bad file descriptor"),
        ("verify --trust trust - <&-", 2, 'cannot read "-": Bad file descriptor'),
    ],
)
def test_a_result_that_cannot_be_written_is_told(
    signed: Script, line: str, code: int, said: str
) -> None:
    done = in_shell(signed, line)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "internal" not in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"])
def test_the_answer_does_not_change_because_nobody_hears_the_reason(
    signed: Script, to: str
) -> None:
    assert in_shell(signed, f"verify --trust trust hello.cert {to}").returncode == 0
    assert in_shell(signed, f"verify --trust trust hello.policy {to}").returncode == 1
    assert in_shell(signed, f"verify --trust trust nope.cert {to}").returncode == 2
    assert in_shell(signed, f"run --trust trust nope.cert {to}").returncode == 127


def in_shell(signed: Script, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m certexec.cli.main {line}"],
        capture_output=True, text=True, cwd=signed.directory, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_name_that_the_terminal_cannot_show_is_no_failure(signed: Script) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "certexec.cli.main", "verify", "--trust", "trust", "→.cert"],
        capture_output=True, text=True, cwd=signed.directory, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1:strict"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "\\u2192.cert: UNKNOWN (not-found)\n")


@pytest.mark.parametrize(
    ("when", "environment", "colorful"),
    [("always", {}, True), ("never", {}, False), ("auto", {}, False),
     ("always", {"NO_COLOR": "1"}, True)],
)  # fmt: skip
def test_colours(
    monkeypatch: pytest.MonkeyPatch, when: str, environment: dict[str, str], colorful: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(output.settings, "color", when)
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    assert output.settings.colorful(1) is colorful


def test_no_color_turns_colours_off_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.settings, "color", "auto")
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.settings.colorful(1)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.settings.colorful(1)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.settings.colorful(1)


def test_a_hint_of_the_table_stands_in_only_where_an_error_has_none() -> None:
    assert set(HINTS) <= set(REASONS)
    for word, hint in HINTS.items():
        assert CertexecError(word, "x").hint == hint
        assert CertexecError(word, "x", "its own").hint == "its own"
        assert hint[0].islower() or hint[0] == '"'
        assert not hint.endswith(".")
    assert CertexecError("expired", "x").hint == ""


@pytest.mark.parametrize("verb", ["agent", "learn", "monitor", "policy review"])
def test_examples_in_a_help_keep_their_lines(script: Script, verb: str) -> None:
    script(f"certexec {verb} --help")
    lines = script.stdout.splitlines()
    assert sum(line.startswith(f"  certexec {verb} ") or line == f"  certexec {verb}"
               for line in lines) >= 2  # fmt: skip
    assert "\\b" not in script.stdout and "\b" not in script.stdout


@pytest.mark.parametrize(
    "verb", [["inspect"], ["run", "--trust", "."], ["policy", "template"], ["policy", "check"],
             ["verify"], ["install", "--to", "."], ["nonsense"]],
)  # fmt: skip
def test_a_name_cannot_steer_the_terminal_in_an_error(
    verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*verb, "./\x1b[31mred\n\u202eback\udcff"])
    shown = capsys.readouterr().err
    assert shown
    assert all(line.isprintable() and line.startswith("certexec:") for line in shown.splitlines())


def test_a_policy_s_name_cannot_steer_the_terminal_though_its_error_has_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "a\n\x1b[31m.policy"
    policy.write_text("x\x1b[31m\n")
    assert main(["policy", "check", str(policy)]) == 2
    first, source, caret, *_ = capsys.readouterr().err.splitlines()
    assert first.isprintable() and "a\\n\\x1b[31m.policy" in first
    assert source == "x\\x1b[31m"
    assert caret.strip() == "^"


def test_the_package_is_the_command_for_python_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "certexec", "-V"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("certexec ")
