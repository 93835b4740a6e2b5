"""What certificates share is read once, and each says what it says when it is read alone."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.certificate import alike as module
from certexec.certificate.alike import Alike, _Similar
from certexec.certificate.verify import Opened, verify_certificate
from certexec.errors import CertificateError
from tests.certificate.simulator import Simulator, full_payload

NUMBERS = st.integers(0, 300) | st.integers(0, 2**32 + 300) | st.integers(-(2**64), 2**64 - 1)
NAMES = st.sampled_from(
    ["hello", "other", "wörld", "a/b", "", "\x07", "\x00", "z" * 23, "x" * 24, "w" * 255, "y" * 256]
)


def build(serial: Any = 5, **changed: Any) -> bytes:
    """Make a file; ``name``, ``exp``, ``nbf``, ``iat`` are claims, ``signers`` names of keys."""
    made = Simulator(*changed.pop("signers", ("alice",)))
    made.claims |= {
        {"iss": 1, "name": 2, "exp": 4, "nbf": 5, "iat": 6, "cti": 7}[key]: value
        for key, value in changed.items()
    }
    made.payload[1] = serial
    return made.build()


def says(opened: Opened) -> Any:
    """All that a file says: the certificate with its claims, and the message."""
    parts = opened.certificate(), opened.claims, opened.message.headers, opened.message.to_items()
    return *parts, [one.headers for one in opened.message.signatures]


def alone(data: bytes) -> Any:
    try:
        return says(Opened(data))
    except CertificateError as error:
        return error.reason, error.message


def among(alike: Alike, data: bytes) -> Any:
    try:
        return says(alike.open(data))
    except CertificateError as error:
        return error.reason, error.message


def knows(alike: Alike, data: bytes) -> bool:
    return isinstance(alike.open(data), _Similar)


@settings(deadline=None)
@given(
    values=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "serial": NUMBERS, "exp": NUMBERS, "nbf": NUMBERS, "iat": NUMBERS, "name": NAMES,
                "cti": st.binary(min_size=16, max_size=16) | st.just(b""),
                "signers": st.sampled_from([("alice",), ("bob",), ("alice", "bob")]),
            },
        ), max_size=5,
    ),
    cut=st.integers(0, 900), flips=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 255))),
)  # fmt: skip
def test_a_file_means_the_same_whatever_was_read_before(
    values: list[dict[str, Any]], cut: int, flips: list[tuple[int, int]]
) -> None:
    alike = Alike()
    for changed in ({}, *values):
        data = build(**changed)
        assert among(alike, data) == alone(data)
        assert among(alike, data) == alone(data)
    damaged = bytearray(data)
    for place, bits in flips:
        damaged[place % len(data)] ^= bits
    for one in (bytes(damaged), data[:cut], data + b"\0"):
        assert among(alike, one) == alone(one)
    assert among(alike, data) == alone(data)


def test_every_byte_counts_behind_a_known_file() -> None:
    alike = Alike()
    data = build(signers=("alice", "bob"))
    among(alike, data)
    for place in range(len(data)):
        for bits in (1, 0x80):
            damaged = data[:place] + bytes((data[place] ^ bits,)) + data[place + 1 :]
            assert among(alike, damaged) == alone(damaged), place


@pytest.mark.parametrize(
    ("changed", "like"),
    [
        ({"serial": 1 << 20}, {"serial": 1 << 21}),
        ({"serial": 1 << 40}, {"serial": 1 << 41}),
        ({"serial": 25}, {"serial": 26}),
        ({"serial": 300}, {"serial": 301}),
        ({"name": "hello"}, {"name": "other"}),
        ({"name": "x" * 30}, {"name": "y" * 30}),
        ({"exp": 1 << 33}, {"exp": 1 << 34}),
        ({"nbf": 0}, {"nbf": 0}),
        ({"iat": 2}, {"iat": 2}),
        ({"cti": bytes(16)}, {"cti": b"\xff" * 16}),
        ({"signers": ("alice", "bob")}, {"signers": ("alice", "bob"), "name": "other"}),
    ],
)
def test_what_differs_in_values_alone_is_known(changed: Any, like: Any) -> None:
    alike = Alike()
    among(alike, build(**changed))
    data = build(**like)
    assert knows(alike, data)
    assert among(alike, data) == alone(data)


@pytest.mark.parametrize(
    ("value", "strange"),
    [
        ("1a00100000", "1a00000005"),  # a serial longer than it needs to be
        ("1a6b49d200", "1a00000005"),  # the time of issue
        ("6568656c6c6f", "65ff656c6c6f"),  # a name that is not UTF-8
        ("6568656c6c6f", "6568652f6c6f"),  # and one with a slash
        ("041a6b4c7500", "041a00010000"),  # it ends before it begins
    ],
)
def test_a_value_in_another_form_is_refused_though_all_else_is_known(
    value: str, strange: str
) -> None:
    alike = Alike()
    exp, nbf = bytes.fromhex("1a6b4c7500"), bytes.fromhex("1a6b49d200")
    data = build(
        1 << 20, exp=int.from_bytes(exp[1:], "big"), nbf=70000,
        iat=int.from_bytes(nbf[1:], "big"),
    )  # fmt: skip
    among(alike, data)
    wrong = data.replace(bytes.fromhex(value), bytes.fromhex(strange), 1)
    assert len(wrong) == len(data)
    assert wrong != data
    assert among(alike, wrong) == alone(wrong)
    assert among(alike, wrong)[0] == "malformed"


def test_what_differs_in_anything_else_is_read_anew() -> None:
    alike = Alike()
    first, second = Simulator(), Simulator()
    first.payload[11], second.payload[11] = "one note", "two nots"
    among(alike, first.build())
    assert not knows(alike, second.build())
    assert not knows(alike, build(iss="retset"))
    assert alike.open(second.build()).certificate().note == "two nots"


def test_values_are_each_certificates_own_and_the_rest_is_shared() -> None:
    alike = Alike()
    first = alike.open(build(55)).certificate()
    second = alike.open(build(66, name="other")).certificate()
    assert (first.serial, first.claims.sub) == (55, "hello")
    assert (second.serial, second.claims.sub) == (66, "other")
    assert first.policy is second.policy


@pytest.mark.parametrize("length", [1, 4, 6, 23, 24, 80, 255])
def test_what_was_read_behind_one_name_is_known_behind_names_of_other_lengths(length: int) -> None:
    alike = Alike()
    among(alike, build(300))
    among(alike, build(1 << 20, name="n" * length))  # so that this front is known
    data = build(301, name="m" * length)
    assert knows(alike, data)
    assert among(alike, data) == alone(data)
    for place in range(len(data)):
        damaged = data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]
        assert among(alike, damaged) == alone(damaged), place


def test_who_issued_it_is_read_from_the_file_itself() -> None:
    alike = Alike()
    among(alike, build(iss="one"))
    among(alike, build(1 << 20, iss="two"))
    data = build(iss="two")
    assert knows(alike, data)
    assert alike.open(data).claims.iss == "two"


def test_a_front_counts_only_before_a_header_of_its_length() -> None:
    alike = Alike()
    one, other = build(300), build(300, exp=1 << 33)
    among(alike, one)
    among(alike, other)
    name = b"\x65hello\x04"
    grafted = other[: other.index(name)] + one[one.index(name) :]
    assert alone(grafted)[0] == "malformed"
    assert among(alike, grafted) == alone(grafted)


def test_each_signature_is_checked_whatever_was_read_before() -> None:
    alike = Alike()
    good = Simulator()
    verify_certificate(good.build(), good.trust, good.now, alike.open)
    forged = Simulator()
    forged.claims[2] = "other"
    forged.signers[0].signature = bytes(64)
    with pytest.raises(CertificateError) as caught:
        verify_certificate(forged.build(), forged.trust, forged.now, alike.open)
    assert caught.value.reason == "bad-signature"


def test_nothing_is_kept_of_a_payload_that_nobody_vouched_for() -> None:
    alike = Alike()
    made = Simulator()
    with contextlib.suppress(CertificateError):
        verify_certificate(made.build(), {}, made.now, alike.open)
    assert not knows(alike, made.build())


def test_memory_forgets_all_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 5000)
    alike = Alike()
    for number in range(50):
        made = Simulator()
        made.payload = full_payload()
        made.payload[11], made.claims[2] = "n" * number, "n" * (1 + number % 7)
        data = made.build()
        assert among(alike, data) == alone(data)
        kept = [
            sum(map(len, pieces))
            for shapes in alike._shapes.values() for shape in shapes for pieces in shape.known
        ] + [len(front) for front in alike._fronts]  # fmt: skip
        assert sum(kept) <= 5000 + len(data)


def test_files_of_one_length_have_but_so_many_shapes() -> None:
    alike = Alike()
    for size in range(20):
        made = Simulator()
        made.signers[0].signature = bytes(64 + size)
        made.payload[11] = "t" * (20 - size)
        data = made.build()
        assert among(alike, data) == alone(data)
    assert [len(shapes) for shapes in alike._shapes.values()] == [module.SHAPES_MAX]


def test_fronts_have_but_so_many_lengths() -> None:
    alike = Alike()
    for size in range(20):
        data = build(iss="i" * (1 + size))
        assert among(alike, data) == alone(data)
    assert len(alike._lengths) == module.SHAPES_MAX
    assert knows(alike, build(iss="i"))
    assert not knows(alike, build(iss="i" * 20))
