"""certexec policy fmt: what it prints, and that it never spoils a file."""

import os
import stat

import pytest

from certexec.cli import policy_fmt, replace_file
from tests.cli.conftest import Script

UGLY = (
    "Policy: /bin/x, Emulation: native\n native-write:  true  ->permit # why\n"
    "native-read: permit\n"
)
TIDY = (
    "Policy: /bin/x, Emulation: native\n\tnative-write: true then permit # why\n"
    "\tnative-read: permit\n"
)
SORTED = (
    "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n"
    "\tnative-write: true then permit # why\n"
)
SLIDE = (
    "Policy: /bin/x, Emulation: native\nnative-connect: sockaddr match \\\n"
    '    "inet-*:80" \\\n    then permit\n'
)
JOINED = (
    "Policy: /bin/x, Emulation: native\n"
    '\tnative-connect: sockaddr match "inet-*:80" then permit\n'
)


@pytest.fixture
def files(script: Script) -> Script:
    script.write("ugly", UGLY)
    script.write("tidy", TIDY)
    script.write("slide", SLIDE)
    script.write("bad", UGLY + "native-read: bogus\n")
    return script


def test_the_canonical_form_is_printed_and_files_stay(files: Script) -> None:
    files("certexec policy fmt ugly\n! stderr .")
    assert files.stdout == TIDY
    assert files.path("ugly").read_text() == UGLY
    files("certexec policy fmt --sort ugly tidy")
    assert files.stdout == SORTED + SORTED
    files.stdin = UGLY.encode()
    files("certexec policy fmt -")
    assert files.stdout == TIDY


def test_check_names_what_would_change(files: Script) -> None:
    files(
        """
        ! certexec policy fmt --check ugly tidy
        stdout '^ugly\\n$'
        certexec policy fmt --check tidy
        ! stdout .
        ! certexec policy fmt --check --sort tidy
        ! certexec policy fmt -q --check ugly
        ! stdout .
        """
    )
    assert files.path("ugly").read_text() == UGLY


def test_diff_shows_what_would_change(files: Script) -> None:
    files(
        """
        ! certexec policy fmt --diff ugly
        stdout '^--- ugly\\n\\+\\+\\+ ugly\\n'
        stdout '^- native-write:  true  ->permit # why\\n'
        stdout '^\\+\\tnative-write: true then permit # why\\n'
        certexec policy fmt --diff tidy
        ! stdout .
        """
    )


def test_write_changes_the_file_and_keeps_its_mode_owner_and_links(files: Script) -> None:
    path = files.path("ugly")
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    files.path("link").symlink_to("ugly")
    before = path.stat()
    files("certexec policy fmt -w link tidy\n! stdout .")
    after = path.stat()
    assert path.read_text() == TIDY
    assert files.path("link").is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid
    )
    assert after.st_ino != before.st_ino
    assert sorted(os.listdir(files.directory)) == ["bad", "link", "slide", "tidy", "ugly"]


def test_what_is_tidy_is_not_touched(files: Script) -> None:
    before = files.path("tidy").stat()
    files("certexec policy fmt -w tidy")
    assert files.path("tidy").stat() == before


def test_attributes_of_a_file_are_kept(files: Script) -> None:
    path = files.path("ugly")
    try:
        os.setxattr(path, "user.origin", b"us")
    except OSError:
        pytest.skip("no extended attributes here")
    files("certexec policy fmt -w ugly")
    assert os.getxattr(path, "user.origin") == b"us"


def test_what_is_no_policy_is_refused_and_stays_and_the_others_are_done(files: Script) -> None:
    files(
        """
        ? certexec policy fmt -w bad missing ugly .
        stderr 'error: bad\\(4:19\\): '
        stderr '"missing" does not exist'
        stderr '"." is not a regular file'
        """
    )
    assert files.path("bad").read_text() == UGLY + "native-read: bogus\n"
    assert files.path("ugly").read_text() == TIDY
    files(
        """
        ? certexec policy fmt --check bad
        ? certexec policy fmt slide
        stderr '"certexec policy fmt --join" does'
        """
    )


def test_broken_lines_are_joined_when_asked(files: Script) -> None:
    files("certexec policy fmt --join slide")
    assert files.stdout == JOINED
    files("certexec policy fmt --join -w slide\ncertexec policy check --lint slide")
    assert files.path("slide").read_text() == JOINED


def test_errors_in_joined_lines_name_the_line_of_the_file(files: Script) -> None:
    files.write("late", SLIDE + "# c\nnative-read: \\\n  bogus\n")
    files(
        """
        ? certexec policy fmt --join late
        stderr 'late\\(6:19\\): '
        """
    )
    files.write("end", SLIDE + "native-read: \\\n")
    files("? certexec policy fmt --join end\nstderr 'end\\(5:'")


def test_options_that_exclude_each_other_are_refused(files: Script) -> None:
    files(
        """
        ? certexec policy fmt --check --diff ugly
        stderr 'exclude each other'
        ? certexec policy fmt -w -
        stderr 'standard input cannot be written'
        ? certexec policy fmt
        """
    )


@pytest.mark.parametrize("call", ["rename", "fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(files, call, monkeypatch) -> None:
    def fail(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replace_file.os, call, fail)
    files("? certexec policy fmt -w ugly\nstderr 'cannot write .*: No space left'")
    assert files.path("ugly").read_text() == UGLY
    assert sorted(os.listdir(files.directory)) == ["bad", "slide", "tidy", "ugly"]


def test_a_file_that_somebody_changes_meanwhile_is_not_overwritten(files, monkeypatch) -> None:
    real = policy_fmt.reformat

    def slow(*arguments, **more):
        files.write("ugly", "somebody else's\n")
        return real(*arguments, **more)

    monkeypatch.setattr(policy_fmt, "reformat", slow)
    files("? certexec policy fmt -w ugly\nstderr 'was changed meanwhile'\nstderr 'run it again'")
    assert files.path("ugly").read_text() == "somebody else's\n"
    assert sorted(os.listdir(files.directory)) == ["bad", "slide", "tidy", "ugly"]


def test_the_new_file_is_private_until_it_is_whole(files, monkeypatch) -> None:
    seen = []
    real = replace_file._keep_attributes

    def look(target, fd):
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(target, fd)

    monkeypatch.setattr(replace_file, "_keep_attributes", look)
    files.path("ugly").chmod(0o644)
    files("certexec policy fmt -w ugly\nmode ugly 644")
    assert seen == [0o600]


def test_bytes_that_are_not_utf8_survive(files: Script) -> None:
    rule = b'native-fsread: filename eq "/\xff" then permit\n'
    files.path("latin").write_bytes(UGLY.encode() + rule)
    files("certexec policy fmt -w latin\ncertexec policy fmt latin")
    assert files.path("latin").read_bytes() == TIDY.encode() + b"\t" + rule
    assert files.output == files.path("latin").read_bytes()
