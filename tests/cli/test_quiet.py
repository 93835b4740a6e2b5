"""-q: only the exit status tells, but what was asked to be shown is shown."""

import pytest

from tests.cli.conftest import Script
from tests.cli.test_keygen import with_descriptor

SILENT = """
    certexec -q keygen -f quiet --no-passphrase
    certexec -q key public -k quiet.key -o quiet2.pub
    certexec -q key passwd quiet.key --no-passphrase
    certexec -q trust add quiet.pub --trust trust
    certexec -q trust add quiet.pub --trust trust
    certexec -q trust remove quiet --trust trust
    certexec -q sign -k ops.key -p hello.policy -o out.cert hello
    certexec -q sign -k ops.key -p hello.policy --setuid root --allow-everyone -o root.cert hello
    certexec -q verify --trust trust out.cert root.cert
    ! certexec -q verify --trust trust hello out.cert
    ? certexec -q verify --trust trust missing.cert
"""
SHOWN = """
    certexec -q inspect hello.cert
    certexec -q inspect --json hello.cert
    certexec -q inspect --policy hello.cert
    certexec -q verify --json --trust trust hello.cert
    ! certexec -q verify --json --trust trust hello
    certexec -q trust list --trust trust
    certexec -q trust list --json --trust trust
    certexec -q key show ops.pub
    certexec -q key list
    certexec -q key public -k ops.key
    certexec -q sign -n -k ops.key -p hello.policy -o out.cert hello
    certexec -q sign -k ops.key -p hello.policy -o - hello
    certexec -q policy template ./hello
    certexec -q completion bash
    certexec -q --version
"""


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def test_what_only_does_something_prints_nothing(signed: Script) -> None:
    for line in lines(SILENT):
        signed(line)
        assert (signed.stdout, signed.stderr) == ("", ""), line
        after = line.replace(" -q", "").replace(" keygen", " keygen --force") + " -q"
        for verb in ("sign", "public"):
            after = after.replace(f" {verb} ", f" {verb} --force ")
        if "remove" not in line:
            signed(after)
            assert (signed.stdout, signed.stderr) == ("", ""), after
    signed("exists quiet.key quiet.pub quiet2.pub out.cert root.cert")


@pytest.mark.parametrize("line", lines(SHOWN))
def test_what_was_asked_to_be_shown_is_shown(line: str, signed: Script) -> None:
    signed(line)
    assert signed.stdout
    assert signed.stderr == ""


def test_what_went_wrong_is_said(signed: Script) -> None:
    locked = with_descriptor(b"")
    for line in (
        "! certexec -q sign -k ops.key -p hello.policy hello",
        "? certexec -q sign -k missing.key -p hello.policy -o x hello",
        "? certexec -q keygen -f missing/x --no-passphrase",
        f"? certexec -q keygen -f x --passphrase-fd {locked}",
        "! certexec -q trust add ops.key --trust trust",
        "? certexec -q trust remove nobody --trust trust",
        "? certexec -q verify --trust missing hello.cert",
        "! certexec -q inspect hello",
    ):
        signed(line)
        assert signed.stdout == ""
        assert signed.stderr.startswith("certexec: error: "), line
