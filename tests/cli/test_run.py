"""``certexec run`` as a command line: what it refuses before anything runs."""

from __future__ import annotations

import os
import re

import pytest

from tests.cli.conftest import Script

FAILED = 125
"""As for every command that becomes another: certexec itself failed."""
REFUSED = 126


def refuses(signed: Script, options: str, message: str) -> None:
    """Check that nothing is run, and that the message says why."""
    assert signed.certexec("run", *options.split(), "hello.cert") == FAILED
    assert re.search(message, signed.stderr), signed.stderr
    assert signed.stdout == ""


def test_a_format_needs_a_file(signed: Script) -> None:
    missing = "--log-format is about the file of --log, which is missing"
    refuses(signed, "--trust trust --log-format json", missing)


def test_there_are_two_formats(signed: Script) -> None:
    options = "--trust trust --log log --log-format xml"
    refuses(signed, options, "'xml' is not one of 'text', 'json'")
    signed("! exists log")


def test_a_log_that_cannot_be_opened_refuses(signed: Script) -> None:
    refuses(signed, "--trust trust --log missing/log", '"missing/log": No such file or directory')


def test_a_status_descriptor_must_be_open(signed: Script) -> None:
    refuses(signed, "--trust trust --status-fd 999", "descriptor 999 is not open")


def test_without_a_machine_wide_store_one_has_to_be_named(signed: Script) -> None:
    if os.path.isdir("/etc/certexec/trust.d"):
        pytest.skip("this machine has a trust store")
    refuses(signed, "", "there is no trust store")


@pytest.mark.parametrize("form", ["", "--log-format text", "--log-format json"])
def test_explaining_leaves_an_empty_log(signed: Script, form: str) -> None:
    signed(
        f"""
        certexec run --trust trust --log log {form} --explain hello.cert
        stdout "enforced by the kernel and a supervisor"
        exists log
        mode log 0600
        """
    )
    assert signed.path("log").read_bytes() == b""


def test_a_log_is_appended_to_and_keeps_its_mode(signed: Script) -> None:
    signed.write("log", "before\n")
    signed(
        """
        chmod 0640 log
        certexec run --trust trust --log log --explain hello.cert
        mode log 0640
        """
    )
    assert signed.path("log").read_text() == "before\n"


@pytest.mark.parametrize("explain", [(), ("--explain",)])
@pytest.mark.parametrize("name", ["directory", "pipe", "/dev/zero", "/dev/null"])
def test_what_is_no_file_is_refused_and_named(
    signed: Script, name: str, explain: tuple[str, ...]
) -> None:
    signed.path("directory").mkdir()
    os.mkfifo(signed.path("pipe"))
    assert signed.certexec("run", "--trust", "trust", *explain, name) == REFUSED
    assert signed.stderr == (
        f'certexec: error: "{name}" is not a file\ncertexec: hint: name a certificate\n'
    )


@pytest.mark.parametrize("grants", [(), ("--may-grant", "root")])
def test_a_grant_is_refused_as_such_whatever_the_key_may(
    signed: Script, grants: tuple[str, ...]
) -> None:
    sign = ("sign", "-k", "ops.key", "-p", "hello.policy", "-o", "grant.cert")
    assert signed.certexec(*sign, "--setuid", "root", "--allow-everyone", "hello") == 0
    assert signed.certexec("trust", "add", "ops.pub", "--trust", "trust", *grants) == 0
    assert signed.certexec("run", "--trust", "trust", "--explain", "grant.cert") == REFUSED
    assert '"certexec run" never grants an identity' in signed.stderr
    assert "trust add" not in signed.stderr
