"""certexec policy merge: one policy on standard output, and what there is to tell."""

import pytest

from tests.cli.conftest import Script

HEADER = "Policy: /bin/x, Emulation: native\n"


@pytest.fixture
def files(script: Script) -> Script:
    script.write("one", HEADER + "\tnative-read: permit # mine\n\tnative-mkdir: deny[enoent]\n")
    script.write("two", HEADER + "# yours\n\tnative-write: permit\n")
    script.write("three", HEADER + '\tnative-mkdir: filename eq "/x" then permit\n')
    script.write("bad", HEADER + "native-read: bogus\n")
    return script


def test_two_become_one(files: Script) -> None:
    files("certexec policy merge one two\n! stderr .")
    files.write("both", files.stdout)
    files(
        """
        stdout '^.native-read: permit # mine$'
        stdout '^# yours$'
        certexec policy check both
        certexec policy fmt --check both
        certexec policy test both write
        """
    )
    files.stdin = files.path("two").read_bytes()
    files("certexec policy merge one -\nstdout '^.native-write: permit$'")


def test_conflicts_are_told(files: Script) -> None:
    files(
        r"""
        ! certexec policy merge one three
        stdout '^.native-mkdir: filename eq "/x" then permit\n.native-mkdir: true then deny\[enoent\]$'
        stderr 'warning: conflict: /bin/x: mkdir: one\(3\) says deny\[enoent\], three\(2\) says permit: permit counts$'
        """  # noqa: E501
    )


def test_what_is_no_policy_is_refused(files: Script) -> None:
    files(
        r"""
        ? certexec policy merge one bad
        stderr 'bad\(2:19\)'
        ! stdout .
        ? certexec policy merge one missing
        ? certexec policy merge - -
        ? certexec policy merge one
        """
    )
