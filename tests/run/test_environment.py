"""What of the invoker's environment reaches the program."""

from __future__ import annotations

import os

import pytest

from certexec.certificate.model import Environment
from certexec.run.environment import SAFE_PATH, build, is_dangerous

STEERING = [
    "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "GCONV_PATH",
    "GLIBC_TUNABLES", "TMPDIR", "BASH_ENV", "IFS", "PERL5LIB", "BASH_FUNC_ls%%", "TERMINFO",
]  # fmt: skip


def as_dict(entries: list[bytes] | None) -> dict[bytes, bytes]:
    assert entries is not None
    return dict(entry.split(b"=", 1) for entry in entries)


def test_without_grant_and_row_the_environment_is_the_invokers() -> None:
    assert build(None, {b"LD_PRELOAD": b"/x.so"}, os.getuid(), grant=False) is None


def test_a_row_without_grant_passes_exactly_what_it_lists() -> None:
    row = Environment(["A", "LD_PRELOAD"], {"B": "2"})
    typed = {b"A": b"1", b"C": b"3", b"LD_PRELOAD": b"x"}
    got = as_dict(build(row, typed, os.getuid(), grant=False))
    assert got == {b"A": b"1", b"LD_PRELOAD": b"x", b"B": b"2"}


@pytest.mark.parametrize("name", STEERING)
def test_with_a_grant_nothing_that_steers_passes_even_when_listed(name: str) -> None:
    row = Environment([name], {})
    typed = {name.encode(): b"/tmp/evil", b"TERM": b"xterm"}
    got = as_dict(build(row, typed, os.getuid(), grant=True))
    assert name.encode() not in got
    assert is_dangerous(name.encode())
    assert got[b"TERM"] == b"xterm"


def test_with_a_grant_path_and_account_are_the_systems() -> None:
    got = as_dict(build(None, {b"PATH": b"/tmp", b"HOME": b"/tmp", b"USER": b"x"}, 0, grant=True))
    assert got[b"PATH"] == SAFE_PATH
    assert got[b"HOME"] == b"/root"
    assert got[b"USER"] == b"root"


@pytest.mark.parametrize("value", [b"a/b", b"x\n", b"\x1b[2J", b"a" * 200, b"%s"])
def test_with_a_grant_only_plain_values_pass_unlisted(value: bytes) -> None:
    assert b"TERM" not in as_dict(build(None, {b"TERM": value}, 0, grant=True))
