"""Deterministic CBOR: RFC 8949's own examples, laws, another decoder, and what must be refused."""

import json
import math
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.certificate.codec import MAX_DEPTH, Tag, decode, encode
from certexec.errors import CertificateError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "corpus" / "vectors"

keys = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8)
values = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40)
    | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


def depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


shallow = values.filter(lambda value: depth(value) <= MAX_DEPTH)


def refused(data: bytes, **options: Any) -> str:
    with pytest.raises(CertificateError) as caught:
        decode(data, **options)
    assert caught.value.reason == "malformed"
    return caught.value.message


@given(shallow)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    assert decode(encode(value)) == value


@given(shallow)
def test_cbor2_reads_what_we_write(value: Any) -> None:
    assert cbor2.loads(encode(value)) == value


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.none(), max_size=20))
def test_cbor2_canonical_is_ours_where_map_keys_have_one_type(value: Any) -> None:
    assert cbor2.dumps(value, canonical=True) == encode(value)


@given(st.binary(max_size=30))
def test_any_bytes_are_refused_or_are_the_only_encoding_of_what_they_mean(data: bytes) -> None:
    try:
        value = decode(data, tags=True)
    except CertificateError as error:
        assert error.reason == "malformed"
    else:
        assert encode(value) == data


@given(shallow, st.data())
def test_a_changed_encoding_never_means_the_same(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    position = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << position % 8
    try:
        assert encode(decode(bytes(encoded))) != encode(value)
    except CertificateError:
        pass


@given(shallow, st.binary(min_size=1, max_size=4))
def test_bytes_after_the_end_are_refused(value: Any, more: bytes) -> None:
    refused(encode(value) + more)


@given(shallow)
def test_a_shorter_text_is_refused(value: Any) -> None:
    encoded = encode(value)
    for length in range(len(encoded)):
        refused(encoded[:length])


APPENDIX_A = SHARED / "rfc8949_appendix_a.json"


def appendix_a() -> list[dict[str, Any]]:
    if not APPENDIX_A.exists():
        pytest.skip(f"{APPENDIX_A} is not here")
    vectors: list[dict[str, Any]] = json.loads(APPENDIX_A.read_text())
    return vectors


def in_subset(value: Any) -> bool:
    """Tell whether cbor2's value is of a kind that certificates may hold."""
    if isinstance(value, list):
        return all(map(in_subset, value))
    if isinstance(value, dict):
        return all(type(key) in (int, str) and in_subset(item) for key, item in value.items())
    if type(value) is int:
        return -(2**64) <= value < 2**64
    return type(value) in (bytes, str, bool, type(None))


def holds_other_heads(data: bytes) -> bool:
    """Tell whether a vector uses what the subset leaves out although its value would fit."""
    # tags 2 and 3 (big numbers in 64 bits), indefinite lengths, floats are seen by their heads
    return data[0] >> 5 == 6 or data[:1] in (b"\x5f", b"\x7f", b"\x9f", b"\xbf") or b"\x9f" in data


def test_rfc_8949_appendix_a_decodes_where_it_is_in_our_subset_and_else_is_refused() -> None:
    accepted = turned_away = 0
    for vector in appendix_a():
        data = bytes.fromhex(vector["hex"])
        try:
            value = cbor2.loads(data)
        except cbor2.CBORDecodeError:
            refused(data)  # a simple value that RFC 8949 reserves
            continue
        fits = in_subset(value) and not holds_other_heads(data) and cbor2_canonical(value, data)
        if fits:
            assert decode(data) == value, vector
            assert encode(value) == data, vector
            accepted += 1
        else:
            refused(data)
            turned_away += 1
    assert accepted >= 35
    assert turned_away >= 35


def cbor2_canonical(value: Any, data: bytes) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return bool(cbor2.dumps(value, canonical=True) == data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing at all", ""),
        ("a long head for 1", "1801"),
        ("a long head for 255", "1900ff"),
        ("a long head for 65535", "1a0000ffff"),
        ("a long head for 2^32-1", "1b00000000ffffffff"),
        ("a long head for -1", "3800"),
        ("a long length of bytes", "580161"),
        ("a long length of an array", "980100"),
        ("an indefinite array", "9f01ff"),
        ("an indefinite map", "bf0101ff"),
        ("indefinite bytes", "5f4101ff"),
        ("indefinite text", "7f6161ff"),
        ("a lone break", "ff"),
        ("a reserved head", "1c"),
        ("a half float", "f93c00"),
        ("a single float", "fa47c35000"),
        ("a double float", "fb3ff199999999999a"),
        ("undefined", "f7"),
        ("a simple value", "f0"),
        ("a simple value of two bytes", "f8ff"),
        ("false in two bytes", "f814"),
        ("map keys in the wrong order", "a202000100"),
        ("a map key twice", "a201000100"),
        ("text keys in length-first order", "a262616100616200"),
        ("a map key that is bytes", "a1410100"),
        ("a map key that is an array", "a1800100"),
        ("a map key that is null", "a1f600"),
        ("a map key that is true", "a1f500"),
        ("text that is not UTF-8", "61ff"),
        ("text that holds a surrogate", "63eda080"),
        ("a tag", "c100"),
        ("an array longer than everything", "9b7fffffffffffffff"),
        ("a map longer than everything", "bb7fffffffffffffff"),
        ("bytes longer than everything", "5b7fffffffffffffff"),
        ("an array without its end", "8201"),
        ("a map without its last value", "a101"),
        ("nine levels", "81" * 9 + "00"),
    ],
)
def test_refuses(name: str, data: str) -> None:
    refused(bytes.fromhex(data))


def test_eight_levels_are_accepted() -> None:
    assert decode(b"\x81" * 8 + b"\x00") == [[[[[[[[0]]]]]]]]


def test_a_tag_counts_as_a_level() -> None:
    assert decode(b"\xc1" + b"\x81" * 7 + b"\x00", tags=True) == Tag(1, [[[[[[[0]]]]]]])
    refused(b"\xc1" + b"\x81" * 8 + b"\x00", tags=True)


def test_integer_and_text_keys_sort_by_their_bytes() -> None:
    assert encode({"b": 1, "aa": 2, -1: 3, 100: 4, 2: 5}).hex() == "a50205186404200361620162616102"
    assert list(decode(encode({"b": 1, "aa": 2}))) == ["b", "aa"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "value",
    [
        1.5, {1.0: 2}, {b"k": 1}, {True: 1}, 2**64, -(2**64) - 1, "\ud800", object(), {1, 2},
        Tag(-1, 0), [[[[[[[[[0]]]]]]]]], bytearray(b"x"),
    ],
)  # fmt: skip
def test_what_a_certificate_cannot_hold_is_not_encoded(value: Any) -> None:
    with pytest.raises(CertificateError) as caught:
        encode(value)
    assert caught.value.reason == "malformed"


def test_booleans_are_not_integers() -> None:
    assert encode([True, 1, False, 0]).hex() == "84f501f400"
    assert [type(item) for item in decode(encode([True, 1]))] == [bool, int]  # type: ignore[attr-defined]
