"""certexec drop with real programs: what is gone is gone, for every descendant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from certexec.cli.main import main
from tests.isolation import skip_or_fail

CERTEXEC = (sys.executable, "-m", "certexec.cli.main")
SOCKET = "import socket\ntry: socket.socket(); print('made')\nexcept OSError as e: print(e.errno)"
PROGRAM = "#!/bin/sh\nexec "


def drop(
    *words: str, env: Mapping[str, str] | None = None, **more: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CERTEXEC, "drop", *words], capture_output=True, text=True, timeout=60,
        env={**os.environ, **(env or {})}, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def python(code: str, *words: str) -> str:
    done = drop(*words, "--", sys.executable, "-I", "-S", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_dropped_call_fails_and_the_rest_works() -> None:
    assert python(SOCKET, "socket") == "1"
    assert python(SOCKET, "--errno", "EACCES", "socket") == "13"
    assert python(SOCKET, "mount") == "made"


def test_children_of_children_lack_it_too() -> None:
    done = drop("socket", "--", "sh", "-c", 'sh -c "$0 -I -S -c \\"$1\\"; true"; true',
                sys.executable, SOCKET)  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_nothing_brings_it_back() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
answers = [libc.prctl(39, 0, 0, 0, 0), libc.prctl(38, 0, 0, 0, 0)]
# mode 0, a filter that permits all, the filter's own number: each is refused or changes nothing
libc.prctl(22, 0, 0, 0, 0)
permit = (ctypes.c_uint64 * 1)(0x7FFF000000000006)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc.syscall(317, 1, 0, ctypes.byref(Program(1, ctypes.addressof(permit))))
""" + SOCKET + "\nprint(answers)"
    assert python(code, "socket").splitlines() == ["1", "[1, -1]"]


def test_more_can_be_dropped_below() -> None:
    inner = [*CERTEXEC, "drop", "kill", "--", sys.executable, "-I", "-S", "-c"]
    code = SOCKET + "\nimport os\ntry: os.kill(0, 0)\nexcept OSError as e: print(e.errno)"
    done = drop("--errno", "enosys", "socket", "--", *inner, code)
    assert done.stdout.split() == ["38", "1"], done.stderr


def test_execve_can_be_dropped_and_the_program_still_starts() -> None:
    done = drop("execve", "--", "sh", "-c", "/bin/true; echo $?")
    assert done.stdout == "126\n"


def test_fswrite_leaves_reading(tmp_path: Path) -> None:
    done = drop("fswrite", "--", "sh", "-c", f"cat /etc/passwd; echo x > {tmp_path}/made")
    assert done.stdout.startswith("root:") and not list(tmp_path.iterdir())
    assert done.returncode != 0


def test_the_exit_status_is_the_program_s() -> None:
    assert drop("socket", "--", "sh", "-c", "exit 7").returncode == 7
    assert drop("socket", "--", "sh", "-c", "kill -TERM $$").returncode == -15


def test_arguments_and_environment_arrive_as_they_are() -> None:
    done = drop("socket", "--", "sh", "-c", 'printf "%s|" "$0" "$@" "$OWN"', "a b", "--", "-x", "",
                env={"OWN": "é\n"})  # fmt: skip
    assert done.stdout == "a b|--|-x||é\n|"


def test_signals_that_the_interpreter_ignores_are_not_ignored() -> None:
    code = "import _signal; print(_signal.getsignal(25), open('/proc/self/status').read())"
    said = python(code, "socket")
    ignored = next(line for line in said.splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & (1 << 24) == 1 << 24  # python's own
    done = drop("socket", "--", "grep", "SigIgn", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) & (1 << 12 | 1 << 24) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sokcet", "--", "true"), 125, 'did you mean "socket"?'),
        (("exit", "--", "true"), 125, "cannot be dropped"),
        (("socket", "true"), 125, 'no "--" between'),
        (("socket", "--"), 125, 'no program behind the "--"'),
        ((), 125, 'no "--" between'),
        (("socket", "--errno", "eio", "--", "true"), 125, "options come first"),
        (("--errno", "eoi", "socket", "--", "true"), 125, 'did you mean "eio"?'),
        (("socket", "--", "no-such-program"), 127, "in $PATH"),
        (("socket", "--", "/no/such/program"), 127, "No such file"),
        (("write", "--", "/no/such/program"), 127, "No such file"),
        (("socket", "--", "/etc/passwd"), 126, "Permission denied"),
        (("socket", "--", "/"), 126, "Permission denied"),
    ],
)
def test_mistakes_are_told_and_end_as_the_run_path_does(
    words: tuple[str, ...], code: int, said: str
) -> None:
    done = drop(*words)
    assert done.returncode == code and said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_path_is_searched_as_execvp_does(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("one", "two", "three"))
    for place in (first, second, third):
        place.mkdir()
    (first / "prog").mkdir()
    (second / "prog").write_text("#!/bin/sh\necho no\n")  # not executable
    (third / "prog").write_text("#!/bin/sh\necho yes\n")
    (third / "prog").chmod(0o755)
    path = f"{first}:{second}:{third}:{os.environ['PATH']}"
    assert drop("socket", "--", "prog", env={"PATH": path}).stdout == "yes\n"
    assert drop("socket", "--", "prog", env={"PATH": f"{first}:{second}"}).returncode == 126


@pytest.mark.parametrize("ids", ["setresuid", "setresgid"])
def test_ids_that_no_new_privs_would_take_are_a_reason_to_refuse(ids: str) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can have different ids")
    code = f"import os, sys; os.{ids}(0, 12345, 0); from certexec.cli.main import main; "
    code += "sys.exit(main(['drop', 'socket', '--', 'true']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 126 and "no_new_privs" in done.stderr


def test_names_of_calls_are_completed_before_the_separator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, expected in (
        ("certexec drop sockp", ""), ("certexec drop socketp", "plain,socketpair"),
        ("certexec drop kill fsr", "plain,fsread"), ("certexec drop kill -- ma", "file,ma"),
    ):
        monkeypatch.setenv("_CERTEXEC_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        with pytest.raises(SystemExit):
            main([])
        assert capsys.readouterr().out.strip() == expected
