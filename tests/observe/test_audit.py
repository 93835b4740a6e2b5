"""The event in the kernel's audit log: as the kernel repeats it, and byte by byte."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.observe.audit import TEXT_MAX, Audit, encode, message, packet
from certexec.observe.event import Lost, Note, Overflow
from certexec.observe.rate import Folding
from tests.isolation import PROJECT, Machine, needs, skip_or_fail
from tests.observe.sample import HOSTILE, event

NETLINK_AUDIT = 9
READLOG = 1
"""AUDIT_NLGRP_READLOG: the group to which the kernel repeats its audit log."""
Heard = Callable[[], list[str]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Return a function that returns the USER_AVC messages that came since."""
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
    try:
        listening.bind((0, READLOG))
    except OSError as error:
        listening.close()
        skip_or_fail(f"the audit log cannot be heard here: {error.strerror}")
    listening.settimeout(5)

    def take() -> list[str]:
        # the kernel repeats in order: our own mark comes after what was sent before
        mark = f"mark-{time.monotonic_ns()}"
        Audit().note(mark)
        found: list[str] = []
        while True:
            data = listening.recv(65536)
            (kind,) = struct.unpack_from("=H", data, 4)
            text = data[16:].decode()
            if mark in text:
                return found
            if kind == 1107:
                found.append(text)

    yield take
    listening.close()


def may_write() -> bool:
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT).close()
    except OSError:
        return False
    initial = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return os.geteuid() == 0 and initial


needs_audit = needs(may_write(), "needs root and a kernel with auditing")


@needs_audit
def test_the_kernel_takes_the_event_as_it_is(heard: Heard) -> None:
    log = Audit()
    log.write(event())
    log.write(event(verdict="permit", errno=0, program=HOSTILE, arguments=[("filename", HOSTILE)]))
    assert log.finish(0) and log.there
    first, second = heard()
    assert first.endswith(
        "msg='op=deny reason=unmatched acct=\"alice\" exe=\"/usr/bin/nc\" opid=42 cert=\"nc.cert\" "
        'policy="/usr/bin/nc" call=native-connect syscall=42 exit=-1 '
        "arg_sockaddr=\"inet-[192.0.2.1]:80\" res=failed'"
    )
    assert f"exe={HOSTILE.encode('utf-8', 'surrogateescape').hex().upper()} " in second
    assert second.endswith("res=success'")


@needs_audit
def test_the_longest_message_reaches_the_log_whole(heard: Heard) -> None:
    arguments = [(f"filename[{index}]", "\x01" * 9999) for index in range(20)]
    Audit().write(event(program="\x01" * 5000, user="\x01" * 99, arguments=arguments))
    (text,) = heard()
    assert text.endswith(" res=failed'")
    assert "arg_filename_19=0101" in text


@needs_audit
def test_in_another_user_namespace_there_is_no_audit_log() -> None:
    machine = Machine()
    try:
        said = machine.python(
            "from certexec.observe.audit import Audit\n"
            "from tests.observe.sample import event\n"
            "log = Audit(); log.write(event()); log.write(event())\n"
            "print(log.there, log.finish(0))"
        )
    finally:
        machine.stop()
    assert said == "False True"


def test_who_may_not_write_has_no_audit_log() -> None:
    code = (
        "import os; os.setresuid(65534, 65534, 65534)\n"
        "from certexec.observe.audit import Audit\n"
        "from tests.observe.sample import event\n"
        "log = Audit(); log.write(event()); log.write(event())\n"
        "print(log.there, log.finish(0))"
    )
    if os.geteuid() != 0:
        code = code.partition("\n")[2]
    done = subprocess.run(
        [sys.executable, "-c", "import tests.observe.sample, certexec.observe.audit\n" + code],
        capture_output=True, text=True, cwd=PROJECT, check=True,
    )  # fmt: skip
    assert done.stdout == "False True\n"


def test_a_log_that_refuses_later_is_a_loss() -> None:
    log = Audit()
    answers: list[int] = [0, errno.EPERM, errno.EPERM, 0, 0]
    texts: list[bytes] = []

    def send(self: Audit, text: bytes) -> None:
        code = answers.pop(0)
        if code:
            raise OSError(code, os.strerror(code))
        texts.append(text)

    with mock.patch.object(Audit, "_send", send):
        for _ in range(4):
            log.write(event())
    assert [text.split()[0] for text in texts] == [b"op=deny", b"op=lost", b"op=deny"]
    assert b"text=" + b"lost 2 events: Operation not permitted".hex().upper().encode() in texts[1]


def test_the_packet_is_a_netlink_message() -> None:
    data = packet(b"op=deny", 7)
    assert struct.unpack_from("=IHHII", data) == (len(data), 1107, 5, 7, 0)
    assert data[16:] == b"op=deny\0"


def test_what_the_log_says_of_itself() -> None:
    assert message(Note(1.0, "words")) == b'op=note text="words" res=failed'
    assert message(Lost(1.0, 2, "why")).startswith(b"op=lost text=")
    assert b"count=7" in message(Overflow(2.0, 1.0, {"deny open": 7}))
    one = event(arguments=[], raw=b"\1\2")
    one.count, one.since = 5, 0.5
    assert b" count=5 args=0102 res=failed" in message(one)


def test_nothing_that_ends_a_value_or_the_message_is_quoted() -> None:
    for odd in "'\"\n \x7f\xe9":
        assert encode(f"a{odd}b") == f"a{odd}b".encode().hex().upper()


@given(st.binary(max_size=300))
def test_a_value_is_plain_or_its_bytes(value: bytes) -> None:
    encoded = encode(os.fsdecode(value))
    if encoded.startswith('"'):
        assert encoded[1:-1].encode() == value
        assert not set(encoded[1:-1]) & set(" \"'\n")
    else:
        assert bytes.fromhex(encoded) == value


@settings(deadline=None)
@given(
    st.text(), st.lists(st.tuples(st.sampled_from(["filename", "argv[1]"]), st.text())),
    st.integers(1, 9999),
)  # fmt: skip
def test_a_message_is_one_line_of_plain_fields_that_the_kernel_takes_whole(
    program: str, arguments: list[tuple[str, str]], times: int
) -> None:
    many = [(name, text * times) for name, text in arguments]
    text = message(event(program=program * times, user=program, arguments=many, raw=bytes(48)))
    assert len(text) <= TEXT_MAX + 200
    assert text.endswith(b" res=failed")
    assert b"'" not in text and b"\n" not in text and text.isascii()
    assert all(b"=" in field for field in text.split(b" "))


def test_an_absent_log_is_not_reported_as_a_loss() -> None:
    log = Audit()
    denied = OSError(errno.EPERM, "not permitted")
    with mock.patch.object(Audit, "_send", side_effect=denied) as send:
        folding = Folding([log], lambda: pytest.fail("nothing is lost"))
        folding.write(event())
        folding.write(event(pid=2, number=3))
        folding.close()
    assert send.call_count == 1
