"""certexec policy diff: what it prints about two versions, and how it ends."""

import json

import pytest

from tests.cli.conftest import Script

HEADER = "Policy: /bin/x, Emulation: native\n"
OLD = HEADER + '\tnative-fsread: filename match "/etc" then permit\n\tnative-read: permit\n'
NEW = HEADER + (
    '\tnative-fsread: filename match "/etc/ssl" then permit\n'
    "\tnative-connect: true then permit # to anybody\n\tnative-read: true then permit\n"
)


@pytest.fixture
def files(script: Script) -> Script:
    script.write("old", OLD)
    script.write("new", NEW)
    script.write("spelled", OLD.replace("\tnative", " native").replace("read: permit",
                                                                       "read: true -> permit"))
    script.write("bad", OLD + "native-read: bogus\n")
    return script


def test_every_change_is_named_and_shown_by_a_call(files: Script) -> None:
    files(
        r"""
        ! certexec policy diff --semantic old new
        stdout '^/bin/x: 1 system call widened, 12 system calls narrowed, 0 system calls otherwise'
        stdout '^widened: connect$'
        stdout '^  for example connect\(sockaddr="inet-\[0.0.0.0\]:0"\)$'
        stdout '^    old: deny \(no rule\)$'
        stdout '^    new: permit \(line 3: native-connect: true then permit\)$'
        stdout '^narrowed: open, openat, openat2 \(read\); stat, lstat, access'
        stdout '^  for example open:read\(filename="/etc", oflags="ro"\)$'
        ! stderr .
        """
    )


def test_what_means_the_same_is_the_same(files: Script) -> None:
    files(
        r"""
        certexec policy diff --semantic old spelled
        stdout '^/bin/x: 0 .* widened, 0 .* narrowed, 0 .* otherwise, [0-9]+ the same$'
        ! stdout example
        ! certexec policy diff old spelled
        stdout '^\+.native-read: true then permit$'
        certexec policy diff old old
        ! stdout .
        """
    )


def test_json_has_every_system_call_and_every_change(files: Script) -> None:
    files("! certexec policy diff --semantic --json old new")
    shown = json.loads(files.stdout)
    [program] = shown["programs"]
    assert not shown["same"] and program["not_exact"] == []
    assert program["calls"]["connect"] == ["widened"]
    assert program["calls"]["stat"] == ["narrowed"] and program["calls"]["read"] == ["same"]
    [change] = [one for one in program["changes"] if one["call"] == "connect"]
    assert change["old"] == {"answer": "deny", "line": None, "rule": None}
    assert change["new"]["line"] == 3 and change["result"] == "widened"
    assert set(change["arguments"]) == {"sockaddr"}
    files("certexec policy diff --semantic --json old spelled")
    assert json.loads(files.stdout)["same"] is True


def test_programs_are_compared_by_their_paths(files: Script) -> None:
    files.write("two", OLD + OLD.replace("/bin/x", "/bin/y"))
    files(
        r"""
        ! certexec policy diff --semantic two old
        stdout '^/bin/y: only in OLD$'
        certexec policy diff --semantic --program /bin/x two old
        ? certexec policy diff --semantic --program /bin/z two old
        stderr 'there is no policy for "/bin/z" in either file'
        """
    )
    files.write("moved", OLD.replace("/bin/x", "/opt/x"))
    files("certexec policy diff --semantic old moved\nstdout ^/opt/x:")


def test_one_user_s_calls_can_be_asked_for(files: Script) -> None:
    files.write("home", HEADER + '\tnative-fsread: filename match "$HOME" then permit\n')
    files.write("root", HEADER + '\tnative-fsread: filename match "/root" then permit\n')
    files(
        r"""
        certexec policy diff --semantic --user root home root
        ! certexec policy diff --semantic home root
        stdout '^  for example .*\$HOME=/home/user'
        ? certexec policy diff --semantic --cwd / home root
        stderr '"--cwd" is about the calls of "--user"'
        ? certexec policy diff --semantic --user nobody-knows home root
        """
    )


def test_whose_call_it_is_is_told_where_rules_ask(files: Script) -> None:
    files.write("mine", HEADER + "\tnative-read: permit, if user = 0\n")
    files.write("ours", HEADER + "\tnative-read: permit, if user < 5\n")
    files("! certexec policy diff --semantic mine ours\nstdout 'read\\(\\), user [1-4]$'")


def test_what_could_not_be_told_is_told(files: Script) -> None:
    odd = HEADER + '\tnative-mkdir: filename re "(a)\\\\1" then permit\n'
    files.write("odd", odd)
    files.write("odd2", odd.replace("re ", 'sub "x" and filename re '))
    files(
        r"""
        ? certexec policy diff --semantic odd odd2
        stderr 'warning: /bin/x: of mkdir, mkdirat not every call could be compared'
        """
    )
    files.write("odd3", odd.replace("mkdir: ", "mkdir: filename re \"(a)\\\\1\" or "))
    files("? certexec policy diff --semantic odd odd3\nstdout ' 0 system calls widened, 0 '")


def test_what_cannot_be_done_is_refused(files: Script) -> None:
    files(
        r"""
        ? certexec policy diff --semantic old bad
        stderr 'bad\(4:19\)'
        ? certexec policy diff old bad
        stderr 'bad\(4:19\)'
        ? certexec policy diff old missing
        ? certexec policy diff - -
        stderr 'standard input can be only one'
        ? certexec policy diff --json old new
        stderr 'this needs --semantic'
        """
    )
    files.stdin = NEW.encode()
    files("! certexec policy diff --semantic old -\nstdout ^widened")
