"""What follows a payload's serial is read once, and the verdict on it is that of reading it all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.certificate import alike as module
from certexec.certificate import codec
from certexec.certificate.alike import Alike
from certexec.certificate.model import Certificate, Claims
from certexec.errors import CertificateError
from tests.certificate.simulator import Simulator

CLAIMS = Claims("tester", "hello", 0, 1, 2, bytes(16))
SERIALS = st.integers(0, 30) | st.integers(-(2**64), 2**64 - 1)


def payload(serial: Any, **changed: Any) -> bytes:
    whole = {**Simulator().payload, 1: serial}
    return codec.encode({**whole, **{int(key[1:]): value for key, value in changed.items()}})


def in_full(data: bytes) -> Any:
    try:
        return Certificate.from_payload(codec.decode(data), CLAIMS)
    except CertificateError as error:
        return error.reason, error.message


def remembered(alike: Alike, data: bytes) -> Any:
    try:
        return alike.certificate(data, CLAIMS)
    except CertificateError as error:
        return error.reason, error.message


@settings(deadline=None)
@given(
    serials=st.lists(SERIALS, min_size=1, max_size=5),
    cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 255))),
)  # fmt: skip
def test_a_payload_means_the_same_whatever_was_read_before(
    serials: list[int], cut: int, flips: list[tuple[int, int]]
) -> None:
    alike = Alike()
    for serial in (0, *serials):
        data = payload(serial)
        assert remembered(alike, data) == in_full(data)
    damaged = bytearray(data)
    for place, bits in flips:
        damaged[place] ^= bits
    for one in (bytes(damaged), data[:cut], data + b"\0"):
        assert remembered(alike, one) == in_full(one)
    assert remembered(alike, data) == in_full(data)


@pytest.mark.parametrize("head", [b"\x18\x05", b"\x19\x00\x05", b"\x20", b"\x1c", b"\x40", b""])
def test_a_serial_in_another_form_is_refused_behind_which_all_is_known(head: bytes) -> None:
    alike = Alike()
    data = payload(5)
    alike.certificate(data, CLAIMS)
    strange = data[: module.SERIAL] + head + data[module.SERIAL + 1 :]
    assert remembered(alike, strange) == in_full(strange)
    assert remembered(alike, strange)[0] == "malformed"


def test_what_differs_in_anything_else_is_read_anew() -> None:
    alike = Alike()
    alike.certificate(payload(5), CLAIMS)
    assert alike.certificate(payload(6, k11="another note"), CLAIMS).note == "another note"


def test_claims_and_serial_are_each_certificates_own() -> None:
    alike = Alike()
    first = alike.certificate(payload(5), CLAIMS)
    other = Claims("tester", "other", 0, 1, 2, bytes(16))
    second = alike.certificate(payload(6), other)
    assert (first.serial, first.claims.sub) == (5, "hello")
    assert (second.serial, second.claims.sub) == (6, "other")
    assert first.policy is second.policy


def test_memory_forgets_all_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 2000)
    alike = Alike()
    for number in range(200):
        data = payload(1, k11=f"note {number}")
        assert alike.certificate(data, CLAIMS) == in_full(data)
        assert sum(len(rest) for _, rest in alike._kept) <= 2000 + len(data)
