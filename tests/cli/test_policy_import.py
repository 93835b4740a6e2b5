"""certexec policy import: what is printed can be used, and what is missing is told."""

import os

import pytest

from tests.cli.conftest import Script
from tests.policy.test_other_system import NETBSD


@pytest.fixture
def files(script: Script) -> Script:
    script.write("netbsd", NETBSD.replace("eftype", "eio"))
    script.write("plain", "Policy: /x, Emulation: openbsd\n\topenbsd-read: permit\n")
    return script


def test_a_foreign_policy_becomes_one_for_here(files: Script) -> None:
    files(
        r"""
        ! certexec policy import netbsd
        stdout '^.include base 1$'
        stdout '^.native-fswrite: filename match "/tmp/\*" then permit$'
        stderr '^certexec: warning: line 4: netbsd-__sysctl: permit: Linux has no such call$'
        certexec policy import --no-base plain
        stdout '^Policy: /x, Emulation: native\n.native-read: permit\n$'
        ! stderr .
        """
    )
    files.stdin = files.path("plain").read_bytes()
    files("certexec policy import -\nstdout 'include base'")


def test_promises_become_a_policy_that_can_be_checked(files: Script) -> None:
    files(
        r"""
        certexec policy import --pledge "stdio rpath" --unveil /etc:r /usr/bin/id
        stdout '^# pledge\("stdio rpath"\)$'
        ! stderr .
        """
    )
    assert f"Policy: {os.path.realpath('/usr/bin/id')}, " in files.stdout
    files.write("made", files.stdout)
    files(
        """
        certexec policy check made
        certexec policy test made fsread filename=/etc/motd
        ! certexec policy test made fsread filename=/home/x
        certexec policy fmt --check made
        ! certexec policy import --pledge "stdio exec" id
        stderr 'warning: exec: what is executed stays under this policy'
        """
    )


def test_what_cannot_be_done_is_refused(files: Script) -> None:
    files(
        """
        ? certexec policy import --pledge "stdio nothing" /usr/bin/id
        stderr 'there is no promise "nothing"'
        ? certexec policy import --unveil etc:r /usr/bin/id
        ? certexec policy import --pledge stdio no-such-program-here
        stderr 'there is no program "no-such-program-here"'
        ? certexec policy import --pledge stdio --no-base /usr/bin/id
        ? certexec policy import missing
        """
    )
