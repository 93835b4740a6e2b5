"""The message for collectors: of the form that RFC 5424 asks for, in one line, not too long."""

from __future__ import annotations

import re

import pytest

from certexec.observe.event import Lost, Overflow
from certexec.observe.rfc5424 import ELEMENT, MESSAGE_MAX, message
from tests.observe.sample import HOSTILE, event

NAME = r"[!-<>-\\\x5e-~]{1,32}"
MESSAGE = re.compile(
    r"<84>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]{1,255} certexec \d{1,10} [!-~]{1,32} "
    rf'\[certexec@32473(?: {NAME}="(?:[^"\\\]]|\\["\\\]])*")+\] .+'
)


@pytest.mark.parametrize(
    "record",
    [
        event(),
        event(arguments=[("filename", HOSTILE), ("filename[1]", 'a"]\\ b')], program=HOSTILE),
        event(arguments=[(f"argument{n}", "é\u202e\x00" * 4000) for n in range(60)],
              program="/" * 9000, user=HOSTILE * 40, certificate="\\" * 9000),
        event(arguments=[], raw=bytes(48), elevated="root:daemon"),
        Overflow(2.0, 1.0, {f"deny {name}": 7 for name in ("openat", "x] y", "z" * 99)}),
        Lost(1.0, 3, "no room"),
    ],
)  # fmt: skip
def test_every_record_is_one_valid_message(record):
    text = message(record).decode()
    assert MESSAGE.fullmatch(text), text
    assert text.isprintable()
    assert len(message(record)) <= MESSAGE_MAX


def test_it_holds_the_line_and_the_members():
    text = message(event()).decode()
    assert text.endswith(event().line())
    assert f'[{ELEMENT} schema="1" event="call" ' in text
    assert ' arg.sockaddr="inet-[192.0.2.1\\]:80"]' in text
    assert " deny [" in text
