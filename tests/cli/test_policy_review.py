"""certexec policy review on a terminal: the prompts, the app, and the file that comes of them."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.cli.covered_files import FileCounter
from certexec.policy.model import Subject
from tests.cli.conftest import Script
from tests.isolation import skip_or_fail
from tests.observe.sample import event as sample_event
from tests.policy.common import USERS

TEXT = """\
Policy: /bin/x, Emulation: native
# what it reads
\tnative-fsread: filename eq "/etc/hosts" then permit # names
\tnative-fsread: filename match "/usr/share/none" then permit
\tnative-read: permit
"""
WITHOUT = (
    "import sys; sys.modules['textual'] = None; from certexec.cli.main import main; "
    "sys.exit(main(sys.argv[1:]))"
)
"""certexec where Textual is not installed."""
PATIENCE = 60.0


class Dialogue:
    """A program on a terminal of its own, read and typed to by the test."""

    def __init__(self, directory: Path, *argv: str) -> None:
        self.terminal, inner = pty.openpty()
        self.process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, cwd=directory, start_new_session=True
        )
        os.close(inner)
        self.said = ""

    def hears(self, words: str) -> None:
        """Wait for words that come after those that were heard before."""
        end = time.monotonic() + PATIENCE
        while words not in self.said:
            if not select.select([self.terminal], [], [], max(end - time.monotonic(), 0))[0]:
                pytest.fail(f"{words!r} does not come:\n{self.said}")
            try:
                self.said += os.read(self.terminal, 65536).decode()
            except OSError:  # its end
                pytest.fail(f"{words!r} does not come, it ended:\n{self.said}")
        self.said = self.said.partition(words)[2]

    def types(self, line: str) -> None:
        self.hears("> ")
        os.write(self.terminal, line.encode() + b"\n")

    def ends(self) -> int:
        code = self.process.wait(PATIENCE)
        os.close(self.terminal)
        return code


def prompts(script: Script, *words: str) -> Dialogue:
    return Dialogue(script.directory, sys.executable, "-c", WITHOUT, "policy", "review", *words)


@pytest.fixture
def files(script: Script) -> Script:
    script.write("x.policy", TEXT)
    script.path("x.policy").chmod(0o640)
    return script


# -- prompts ---------------------------------------------------------------------------------------


def test_without_textual_the_same_is_asked_line_by_line(files: Script) -> None:
    it = prompts(files, "x.policy")
    it.hears("p permit, d deny")
    it.hears('1/3 /bin/x, line 3')
    it.hears('native-fsread: filename eq "/etc/hosts" then permit')
    it.hears("1. as it stands")
    it.hears('filename eq "/etc/hosts"')
    it.hears('2. directory: what lies directly in "/etc" (')
    it.types("what")
    it.hears("p permit, d deny")
    it.types("p9")
    it.hears("there are 4 suggestions")
    it.types("p3")
    it.hears("2/3")
    it.types("d")
    it.hears("3/3")
    it.types("u")
    it.hears("2/3")
    it.types("s")
    it.types("/hosts")
    it.hears("you said: permit")
    it.types("/nowhere")
    it.hears('nothing holds "nowhere"')
    it.types("b")
    it.types("w")
    it.hears('"x.policy": saved')
    assert it.ends() == 0
    assert files.path("x.policy").read_text() == TEXT.replace(
        'eq "/etc/hosts" then', 'match "/etc" then'
    )
    assert stat.S_IMODE(files.path("x.policy").stat().st_mode) == 0o640
    assert os.listdir(files.directory) == ["x.policy"]


def test_saving_where_nothing_would_change_leaves(files: Script) -> None:
    it = prompts(files, "x.policy")
    it.types("w")
    it.hears('"x.policy": left as it was')
    assert it.ends() == 0
    assert files.path("x.policy").read_text() == TEXT


def test_an_edit_is_typed_and_one_that_is_no_rule_is_told(files: Script) -> None:
    it = prompts(files, "x.policy")
    it.types("e native-fsread: filename bogus then permit")
    it.hears("rule(1:")
    it.types("e")
    it.hears("(empty: none; . leaves it)")
    os.write(it.terminal, b'native-fsread: filename eq "/etc/motd" then permit\n')
    it.hears("2/3")
    it.types("w")
    assert it.ends() == 0
    assert '"/etc/motd" then permit # names' in files.path("x.policy").read_text()


@pytest.mark.parametrize("how", ["q", "end"])
def test_leaving_leaves_no_trace(files: Script, how: str) -> None:
    before = files.path("x.policy").stat()
    it = prompts(files, "x.policy")
    it.types("d")
    it.hears("2/3")
    if how == "q":
        it.types("q")
        it.hears("answers are not saved")
        os.write(it.terminal, b"y\n")
    else:
        it.hears("> ")
        os.write(it.terminal, b"\x04")
    it.hears("left as it was")
    assert it.ends() == 0
    after = files.path("x.policy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert os.listdir(files.directory) == ["x.policy"]


def test_a_file_that_somebody_changes_meanwhile_is_not_overwritten(files: Script) -> None:
    it = prompts(files, "x.policy")
    it.types("d")
    it.hears("2/3")
    files.write("x.policy", TEXT + "# mine\n")
    it.types("w")
    it.hears("was changed meanwhile")
    it.types("q")
    it.hears("answers are not saved")
    os.write(it.terminal, b"y\n")
    assert it.ends() == 0
    assert files.path("x.policy").read_text() == TEXT + "# mine\n"


def test_what_a_log_says_was_denied_is_asked_about_and_permitted(files: Script) -> None:
    lines = []
    for path, times in (("/etc/passwd", 1), ("/etc/hosts", 4), ("/etc/passwd", 2)):
        record = sample_event(
            verdict="deny", reason="unmatched", program="/bin/child", policy="/bin/x",
            syscall="access", number=21, arguments=[("filename", path)],
        )  # fmt: skip
        record.count = times
        lines.append(dict(record.members()))
    lines.append({**lines[0], "policy": "/bin/z"})
    files.write("denied", "".join(json.dumps(line) + "\n" for line in lines))
    it = prompts(files, "--log", "denied", "x.policy")
    it.hears("1 call of programs without a policy in it")
    it.hears("1/1 /bin/x, seen 3 times")
    it.hears("access filename: /etc/passwd")
    it.types("p")
    it.hears("that was all: 1 answers")
    it.types("w")
    assert it.ends() == 0
    assert files.path("x.policy").read_text() == (
        TEXT + '\tnative-fsread: filename eq "/etc/passwd" then permit\n'
    )
    # what was permitted is not asked about again
    it = prompts(files, "--log", "denied", "x.policy")
    it.hears("there is no call in it that no rule decides")
    assert it.ends() == 0


def test_what_cannot_be_reviewed_is_refused(files: Script) -> None:
    files("? certexec policy review x.policy\nstderr 'a review needs a terminal'")
    files.write("bad", "Policy: /bin/x, Emulation: native\nbogus\n")
    for words, said in ((("none",), "none"), (("bad",), "bad(2:1): not a rule"),
                        (("--log", "none", "x.policy"), "none")):  # fmt: skip
        it = prompts(files, *words)
        it.hears(said)
        assert it.ends() == 2
    files.write("empty", "Policy: /bin/x, Emulation: native\n")
    it = prompts(files, "empty")
    it.hears("there is no rule of its own in it")
    assert it.ends() == 0


def test_no_other_verb_needs_textual() -> None:
    code = (
        "import sys; sys.modules['textual'] = None; sys.modules['textual_serve'] = None\n"
        "import importlib; from certexec.cli.main import VERBS\n"
        "for one in VERBS: importlib.import_module(one.module)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_terminal_that_cannot_show_frames_gets_prompts(
    files: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("TERM", "xterm")
    it = Dialogue(
        files.directory, sys.executable, "-m", "certexec.cli.main", "policy", "review", "x.policy"
    )
    it.hears("p permit, d deny")
    it.types("q")
    assert it.ends() == 0


# -- the app ---------------------------------------------------------------------------------------


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[list[str]]:
    if shutil.which("tmux") is None:
        skip_or_fail("tmux is not installed")
    command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    yield command
    subprocess.run([*command, "kill-server"], capture_output=True)


def test_the_app_reviews_and_saves_in_a_terminal(files: Script, tmux: list[str]) -> None:
    argv = [sys.executable, "-m", "certexec.cli.main", "policy", "review", "x.policy"]
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", "120", "-y", "40", "-c", str(files.directory),
         f"{shlex.join(argv)}; echo ended $?; exec sleep 600"], check=True,
    )  # fmt: skip

    def shows(words: str) -> None:
        end = time.monotonic() + PATIENCE
        while words not in (text := subprocess.run(
            [*tmux, "capture-pane", "-p", "-J"], check=True, capture_output=True, text=True
        ).stdout):  # fmt: skip
            if time.monotonic() > end:
                pytest.fail(f"{words!r} does not come:\n{text}")
            time.sleep(0.05)

    def types(*keys: str) -> None:
        subprocess.run([*tmux, "send-keys", *keys], check=True)

    shows("1 of 3, 0 answered")
    shows("as it stands: what it is about now (1 file)")
    types("Down", "Down")
    types("p")
    shows("2 of 3, 1 answered")
    types("d")
    shows("3 of 3, 2 answered")
    types("u")
    shows("2 of 3, 1 answered")
    types("w")
    shows("ended 0")
    shows('"x.policy": saved')
    assert files.path("x.policy").read_text() == TEXT.replace(
        'eq "/etc/hosts" then', 'match "/etc" then'
    )


# -- the number of files ---------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/x.log", "a/y.log", "a/deep/z.log", "b"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "tree" / "a" / "loop").symlink_to("..")
    return tmp_path / "tree"


def counter(**more: int) -> FileCounter:
    return FileCounter(Subject(1000, 1000, "/none", "x", "/"), USERS, **more)


def test_files_that_are_there_are_counted(tree: Path) -> None:
    count = counter()
    assert count(f'filename eq "{tree}/b"') == "1 file"
    assert count(f'filename eq "{tree}/none"') == "0 files"
    assert count(f'filename match "{tree}/a/*.log"') == "2 files"
    only = f'filename match "{tree}/a/*" and ( not filename match "{tree}/a/*/*" )'
    assert count(only) == "4 files"  # a link is one, and leads nowhere
    assert count(f'filename match "{tree}/a"') == "6 files"
    assert count(f'filename re "^{tree}/a/[xy]"') == "2 files"
    assert count(f'filename eq "{tree}/b" or filename eq "{tree}/a"') == "2 files"
    assert count(f'filename eq "{tree}/b" and filename[1] eq "/x"') == "1 file"
    assert count("bogus") == ""


def test_a_count_ends_and_says_so(tree: Path) -> None:
    assert counter(names_max=3)(f'filename match "{tree}"') == (
        "at least 3 files (looked at 3 names)"
    )
