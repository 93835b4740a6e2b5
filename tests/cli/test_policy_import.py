"""certexec policy import: what is printed can be used, and what is missing is told."""

import os
import shutil

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


def test_an_apparmor_profile_is_seen_by_its_text_and_finds_what_it_includes(files: Script) -> None:
    files.path("d/tunables").mkdir(parents=True)
    files.write("d/tunables/places", "@{DATA}=/srv/data/\n")
    files.path("d/more.d").mkdir()
    files.write("d/more.d/one", "  /etc/one r,\n")
    files.write("d/more.d/.hidden", "  /etc/hidden r,\n")
    files.write(
        "profile",
        "include <tunables/places>\n/opt/no such/x {\n}\n/opt/x/x {\n  include <more.d>\n"
        "  @{DATA}/** rw,\n  deny @{DATA}/keys/** rw,\n  owner /tmp/** rw,\n}\n",
    )
    files(
        r"""
        ! certexec policy import --include-dir d profile
        stdout '^Policy: /opt/x/x, Emulation: native$'
        stderr '^certexec: warning: profile:8: owner /tmp/\*\* rw: whose a file is cannot be asked'
        """
    )
    files.write("made", files.stdout)
    files(
        r"""
        certexec policy check made
        certexec policy fmt --check made
        certexec policy test --program /opt/x/x made fsread filename=/srv/data/a
        certexec policy test --program /opt/x/x made fsread filename=/etc/one
        ! certexec policy test --program /opt/x/x made fsread filename=/etc/hidden
        ! certexec policy test --program /opt/x/x made openat filename=/srv/data/keys/a oflags=ro
        ? certexec policy import profile
        stderr 'there is no include tunables/places'
        stderr -- '--include-dir'
        ? certexec policy import --from apparmor plain
        ? certexec policy import --from apparmor --no-base --include-dir d profile
        ? certexec policy import --include-dir d plain
        ? certexec policy import --from apparmor --pledge stdio id
        """
    )


def test_a_firejail_profile_is_for_the_program_of_its_name(files: Script) -> None:
    files.write("more.inc", "blacklist ${HOME}/.ssh\n")
    files.write("id.profile", "quiet\ninclude id.local\ninclude more.inc\nwhatever\n")
    files(
        r"""
        ! certexec policy import id.profile
        stderr '^certexec: warning: id.profile:4: whatever: not carried over, this may permit more$'
        """
    )
    assert f"Policy: {os.path.realpath(shutil.which('id') or '')}, " in files.stdout
    files.write("made", files.stdout)
    files(
        """
        certexec policy check made
        certexec policy fmt --check made
        ! certexec policy test --user root made fsread filename=/root/.ssh/id
        certexec policy test --user root made fsread filename=/root/x
        ? certexec policy import --program no-such-program-here id.profile
        ? certexec policy import --program id plain
        """
    )
