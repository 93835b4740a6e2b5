"""The file's fixed beginning, the headers, and what shells make of it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.certificate import codec, cose, envelope
from certexec.errors import CertificateError
from tests.certificate.simulator import Simulator
from tests.isolation import skip_or_fail

GOOD = Simulator().build()


def test_the_magic_number_is_what_binfmt_misc_can_match() -> None:
    assert envelope.PREFIX.hex() == "d9d9f7da43584543"
    assert b"\0" not in envelope.PREFIX
    assert GOOD.startswith(envelope.PREFIX + b"\x82")


def test_what_is_wrapped_unwraps_to_the_same() -> None:
    assert envelope.wrap(envelope.unwrap(GOOD)) == GOOD


def test_the_whole_file_is_one_item_of_deterministic_cbor() -> None:
    decoded = codec.decode(GOOD, tags=True)
    assert isinstance(decoded, codec.Tag) and decoded.number == 55799
    inner = decoded.value
    assert isinstance(inner, codec.Tag) and inner.number == 0x43584543
    assert isinstance(inner.value, list)
    assert inner.value[0] == envelope.PREAMBLE
    assert inner.value[1].number == cose.TAG_SIGN


def refused(data: bytes) -> str:
    with pytest.raises(CertificateError) as caught:
        envelope.unwrap(data)
    assert caught.value.reason == "malformed"
    return caught.value.message


def test_no_bytes_are_no_certificate() -> None:
    refused(b"")


def test_a_file_of_64_kib_and_one_byte_is_too_long() -> None:
    assert "longer" in refused(GOOD + b"\0" * (envelope.MAX_SIZE + 1 - len(GOOD)))


def test_a_certificate_of_exactly_64_kib_is_read() -> None:
    simulator = Simulator()
    simulator.payload[13] = {"pad": b""}
    missing = envelope.MAX_SIZE - len(simulator.build())
    simulator.payload[13]["pad"] = b"\0" * (missing - 4)  # heads grow with what they count
    data = simulator.build()
    assert envelope.MAX_SIZE - 2 <= len(data) <= envelope.MAX_SIZE
    assert simulator.verify().certificate.extensions["pad"]


def test_a_certificate_that_would_be_too_long_is_not_written() -> None:
    message = envelope.unwrap(GOOD)
    message.payload = b"\0" * envelope.MAX_SIZE
    with pytest.raises(CertificateError) as caught:
        envelope.wrap(message)
    assert "limit" in caught.value.message


def test_a_certificate_cut_short_at_any_byte_is_malformed() -> None:
    for length in range(len(GOOD)):
        refused(GOOD[:length])


def test_a_preamble_that_differs_in_one_byte_is_malformed() -> None:
    for position in range(len(envelope.HEAD)):
        changed = bytearray(GOOD)
        changed[position] ^= 0x20
        refused(bytes(changed))


ATTACKS: dict[str, Callable[[Simulator], Any]] = {
    "an unprotected header in the body": lambda s: s.unprotected.update({1: 1}),
    "an unprotected header in a signature": lambda s: s.signers[0].unprotected.update({5: b""}),
    "an algorithm in an unprotected header": lambda s: s.signers[0].unprotected.update({1: -19}),
    "no crit": lambda s: s.body.pop(2),
    "crit without the claims": lambda s: s.body.update({2: [3]}),
    "crit with more than the claims": lambda s: s.body.update({2: [15, 3]}),
    "crit that is no list": lambda s: s.body.update({2: 15}),
    "an empty crit": lambda s: s.body.update({2: []}),
    "no content type": lambda s: s.body.pop(3),
    "another content type": lambda s: s.body.update({3: "application/cbor"}),
    "a content type as a number": lambda s: s.body.update({3: 60}),
    "an unknown protected header": lambda s: s.body.update({16: "x"}),
    "an algorithm in the body": lambda s: s.body.update({1: -19}),
    "a signature without an algorithm": lambda s: s.signers[0].protected.pop(1),
    "a signature without a key id": lambda s: s.signers[0].protected.pop(4),
    "a signature with another header": lambda s: s.signers[0].protected.update({3: 0}),
    "an algorithm as text": lambda s: s.signers[0].protected.update({1: "Ed25519"}),
    "an algorithm that is true": lambda s: s.signers[0].protected.update({1: True}),
    "a key id that is too short": lambda s: s.signers[0].protected.update({4: b"\0" * 31}),
    "a key id that is text": lambda s: s.signers[0].protected.update({4: "\0" * 32}),
    "no signature": lambda s: s.signers.clear(),
    "the same key twice": lambda s: s.signers.append(s.signers[0]),
    "nine signatures": lambda s: s.signers.extend(Simulator(*"abcdefgh").signers),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses(name: str) -> None:
    simulator = Simulator()
    ATTACKS[name](simulator)
    refused(simulator.build())


def test_eight_signatures_are_accepted() -> None:
    assert len(Simulator(*"abcdefgh").verify().signers) == 8


# -- a machine without the handler ---------------------------------------------------------------

LINE = (
    'certexec: no certexec handler is registered for this certificate; run "certexec setup" or '
    '"certexec binfmt register"\n'
)


@pytest.fixture
def unhandled(tmp_path: Path) -> Path:
    """Return an executable certificate whose magic number no handler knows.

    One bit of the first byte is turned, so that a handler registered on this machine stays out.
    The shell sees the same text behind it.
    """
    path = tmp_path / "x.cert"
    path.write_bytes(bytes([GOOD[0] ^ 1]) + GOOD[1:])
    path.chmod(0o755)
    return path


CALLS = {
    "sh -c": ["sh", "-c", "./x.cert"],
    "bash -c": ["bash", "-c", "./x.cert"],
    "dash -c": ["dash", "-c", "./x.cert"],
    "busybox sh -c": ["busybox", "sh", "-c", "./x.cert"],
    "zsh -c": ["zsh", "-c", "./x.cert"],
    "env": ["env", "./x.cert"],
    "nice": ["nice", "./x.cert"],
    "timeout": ["timeout", "9", "./x.cert"],
    "sh as a script": ["sh", "x.cert"],
    "bash as a script": ["bash", "x.cert"],
    "dash as a script": ["dash", "x.cert"],
    "busybox sh as a script": ["busybox", "sh", "x.cert"],
}


def started(command: list[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    if shutil.which(command[0]) is None:
        skip_or_fail(f"{command[0]} is not installed")
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, errors="replace", timeout=30,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_without_a_handler_says_so_and_ends_with_126(name: str, unhandled: Path) -> None:
    done = started(CALLS[name], unhandled.parent)
    assert (done.returncode, done.stdout, done.stderr) == (126, "", LINE)


def test_without_a_handler_find_prints_the_line(unhandled: Path) -> None:
    done = started(["find", ".", "-name", "x.cert", "-exec", "{}", ";"], unhandled.parent)
    assert done.stderr == LINE


def test_without_a_handler_xargs_prints_the_line_and_fails(unhandled: Path) -> None:
    done = started(["xargs", "./x.cert"], unhandled.parent)
    assert (done.returncode, done.stderr) == (123, LINE)


def test_any_flipped_bit_of_the_magic_number_still_ends_with_126(tmp_path: Path) -> None:
    path = tmp_path / "x.cert"
    for bit in range(len(envelope.PREFIX) * 8):
        changed = bytearray(GOOD)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        path.chmod(0o755)
        done = started(["env", "./x.cert"], tmp_path)
        assert done.returncode == 126, bit
        assert LINE in done.stderr, bit


def test_a_shell_never_reaches_what_the_signer_chose(tmp_path: Path) -> None:
    simulator = Simulator()
    marker = tmp_path / "reached"
    simulator.payload[11] = f"\ntouch {marker}\n"
    path = tmp_path / "x.cert"
    data = simulator.build()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    path.chmod(0o755)
    for command in CALLS.values():
        if shutil.which(command[0]):
            started(command, tmp_path)
    assert not marker.exists()
    assert os.access(path, os.X_OK)


@settings(deadline=None)
@given(
    cut=st.integers(0, 200), more=st.binary(max_size=3),
    flips=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 255)), max_size=3),
)  # fmt: skip
def test_a_header_whose_beginning_is_known_is_read_as_any_other(
    cut: int, more: bytes, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(Simulator().body_protected())
    for place, bits in flips:
        data[place % len(data)] ^= bits
    for one in (bytes(data), bytes(data) + more, bytes(data[:cut])):
        try:
            wanted: object = cose.read_protected(one)
        except CertificateError as error:
            wanted = error.reason
        try:
            found: object = envelope._body_headers(one)
        except CertificateError as error:
            found = error.reason
        assert found == wanted
