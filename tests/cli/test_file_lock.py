"""Several at once that add to one policy: nothing of what they add is lost, and nothing is left."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.cli import answered_rules, learn
from certexec.cli.answered_rules import AnsweredRules
from certexec.cli.file_lock import locked
from tests.cli.conftest import Script
from tests.cli.test_answered_rules import POLICY, question

AT_ONCE = 5


def trace(name: str) -> str:
    return f'7 execve("/bin/x", ["x"], 0x7) = 0\n7 mkdir("/srv/{name}", 0700) = 0\n'


def test_rules_of_several_that_learn_at_once_are_all_kept(script: Script) -> None:
    for number in range(AT_ONCE):
        script.write(f"trace{number}", trace(f"new{number}"))
    code = "import sys; from certexec.cli.main import main; input(); sys.exit(main(sys.argv[1:]))"
    words = ["learn", "-a", "-o", "x.policy", "--generalize", "none", "--from-strace"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words, f"trace{number}"], cwd=script.directory,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for number in range(AT_ONCE)
    ]  # fmt: skip
    for one in started:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in started:
        told = one.communicate(timeout=120)[1]
        assert one.returncode == 0, told
    text = script.path("x.policy").read_text()
    assert [number for number in range(AT_ONCE) if f'"/srv/new{number}"' not in text] == []
    left = {"x.policy", *(f"trace{number}" for number in range(AT_ONCE))}
    assert set(os.listdir(script.directory)) == left


def test_what_was_added_while_something_was_learned_is_read_once_more(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write("trace", trace("mine"))
    script.write("other", trace("other"))
    found = learn.locked
    first = iter([True])

    def late(path: str) -> object:
        if next(first, False):
            words = ("learn", "-a", "-o", "x.policy", "--generalize", "none", "--from-strace")
            assert Script(script.directory).certexec(*words, "other") == 0
        return found(path)

    monkeypatch.setattr(learn, "locked", late)
    script("certexec learn -a -o x.policy --generalize none --from-strace trace")
    text = script.path("x.policy").read_text()
    assert '"/srv/mine"' in text and '"/srv/other"' in text


def test_what_was_learned_is_shown_where_the_policy_was_broken_meanwhile(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write("trace", trace("mine"))
    found = learn.locked

    def late(path: str) -> object:
        script.write("x.policy", "no policy\n")
        return found(path)

    monkeypatch.setattr(learn, "locked", late)
    script(
        """
        certexec learn -a -o x.policy --generalize none --from-strace trace
        stdout '"/srv/mine"'
        stderr 'what was learned goes to standard output'
        """
    )
    assert script.path("x.policy").read_text() == "no policy\n"


def test_an_answer_is_added_to_what_others_added_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.policy"
    file.write_text(POLICY)
    found = answered_rules.replace
    first: Iterator[str] = iter(["\tnative-pause: permit\n"])

    def late(target: answered_rules.Target, content: bytes) -> None:
        for line in first:
            file.write_text(file.read_text() + line)
        found(target, content)

    rules = AnsweredRules(str(file))
    monkeypatch.setattr(answered_rules, "replace", late)
    told = rules.told(question("mkdir", 83, arguments={"filename": "/srv/new"}))
    assert told.startswith("added to ")
    assert "native-pause: permit\n" in file.read_text() and '"/srv/new"' in file.read_text()


def test_who_keeps_the_lock_of_a_directory_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certexec.cli.file_lock.WAIT", 0.1)
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with locked(str(tmp_path / "x")):
        pass
    os.close(fd)
    with locked(str(tmp_path / "x")):
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    with locked(str(tmp_path / "no" / "x")):
        pass
