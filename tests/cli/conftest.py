"""Command lines as short scripts, in the manner of Go's testscript.

Each line is a command; a test passes when all of them do what they say:

    certexec ARGS...        must end with 0; "! certexec" with 1, "? certexec" with 2
    stdout REGEX            the last certexec's output holds a match; "! stdout": none
    stderr REGEX            likewise
    exists FILE...          "! exists FILE...": there is none
    mode FILE OCTAL         its permission bits
    same FILE FILE          both have the same bytes; "! same": they differ
    cp FROM TO  rm FILE  mkdir DIR  chmod OCTAL FILE  append FILE TEXT
"""

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certexec.cli.main import main
from tests.trust.conftest import safe_dir

__all__ = ["safe_dir", "script"]

EXPECTED = {"": 0, "!": 1, "?": 2}


class Capture:
    """Standard output or error as a program sees it: a text stream with bytes below."""

    def __init__(self) -> None:
        self.raw = io.BytesIO()
        self.text = io.TextIOWrapper(self.raw, "utf-8", write_through=True)

    def value(self) -> str:
        return self.raw.getvalue().decode("utf-8", "replace")


class Script:
    """Runs command lines in one directory and remembers what the last one printed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stdout = ""
        self.stderr = ""
        self.output = b""
        self.stdin = b""

    def path(self, name: str) -> Path:
        return self.directory / name

    def write(self, name: str, text: str) -> None:
        self.path(name).write_text(text)

    def certexec(self, *arguments: str) -> int:
        """Run one command line in this process and return its exit code."""
        out, err = Capture(), Capture()
        before, stdin = os.getcwd(), io.TextIOWrapper(io.BytesIO(self.stdin))
        os.chdir(self.directory)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.redirect_stdout(out.text))
                stack.enter_context(contextlib.redirect_stderr(err.text))
                patched = pytest.MonkeyPatch()
                stack.callback(patched.undo)
                patched.setattr("sys.stdin", stdin)
                code = main(list(arguments))
        finally:
            os.chdir(before)
        self.stdout, self.stderr, self.output = out.value(), err.value(), out.raw.getvalue()
        return code

    def __call__(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            words = shlex.split(line, comments=True)
            if words:
                sign = words.pop(0) if words[0] in ("!", "?") else ""
                problem = self._line(sign, words[0], words[1:])
                if problem:
                    pytest.fail(
                        f"line {number}: {line.strip()}\n{problem}\n"
                        f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}",
                        pytrace=False,
                    )

    def _line(self, sign: str, command: str, arguments: list[str]) -> str:
        """Do one line; return what is wrong, or an empty string."""
        if command == "certexec":
            code = self.certexec(*arguments)
            return "" if code == EXPECTED[sign] else f"it ended with {code}"
        wanted = sign != "!"
        if command in ("stdout", "stderr"):
            found = re.search(arguments[0], getattr(self, command), re.MULTILINE)
            return "" if bool(found) is wanted else "no match" if wanted else "a match"
        if command == "exists":
            wrong = [name for name in arguments if os.path.lexists(self.path(name)) is not wanted]
            return f"wrong: {wrong}" if wrong else ""
        if command == "same":
            one, other = (self.path(name).read_bytes() for name in arguments)
            return "" if (one == other) is wanted else "no"
        if command == "mode":
            mode = self.path(arguments[0]).stat().st_mode & 0o7777
            return "" if mode == int(arguments[1], 8) else f"it is {mode:o}"
        self._change(command, arguments)
        return ""

    def _change(self, command: str, arguments: list[str]) -> None:
        path = self.path(arguments[-1])
        changes: dict[str, Callable[[], object]] = {
            "cp": lambda: shutil.copy2(self.path(arguments[0]), path),
            "rm": path.unlink,
            "mkdir": path.mkdir,
            "chmod": lambda: path.chmod(int(arguments[0], 8)),
            "append": lambda: self.path(arguments[0]).write_bytes(
                self.path(arguments[0]).read_bytes() + arguments[1].encode()
            ),
        }
        changes[command]()


POLICY = """\
Policy: {path}, Emulation: native
\tnative-exit_group: permit
\tnative-fsread: filename match "/usr/*" then permit
"""


@pytest.fixture
def script(safe_dir: Path) -> Iterator[Script]:
    """Return a script runner in an empty directory in which a trust store may stand."""
    yield Script(safe_dir)


@pytest.fixture
def signed(script: Script) -> Script:
    """Return the same with a key, a trust store, a program, its policy and its certificate."""
    hello = script.path("hello")
    shutil.copy2("/usr/bin/true", hello)
    script.write("hello.policy", POLICY.format(path=os.path.realpath(hello)))
    script(
        """
        certexec keygen -f ops --no-passphrase -C "ops team"
        certexec trust add ops.pub --trust trust --may-grant root
        certexec sign -k ops.key -p hello.policy --valid-for 90d hello
        """
    )
    return script
