"""Public keys: their form, their ids, and the weak ones that must never be accepted."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.certificate import codec
from certexec.errors import TrustError
from certexec.trust import keys
from certexec.trust.keys import PublicKey, fingerprint_of, parse_public
from tests.certificate.simulator import key

KINDS = ("ed25519", "p256", "mldsa65")
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def bad(kind: str, raw: bytes, comment: str = "") -> str:
    with pytest.raises(TrustError) as caught:
        PublicKey(kind, raw, comment)
    assert caught.value.reason == "bad-key"
    return caught.value.message


def bad_line(line: str | bytes) -> None:
    with pytest.raises(TrustError) as caught:
        parse_public(line)
    assert caught.value.reason == "bad-key"


# -- the line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_reads_back_as_the_same_key(kind: str) -> None:
    public = key(f"k-{kind}", kind).public
    for line in (public.line(), public.line() + "\n", public.line().encode()):
        read = parse_public(line)
        assert (read.kind, read.raw, read.comment, read.kid) == (
            public.kind, public.raw, public.comment, public.kid,
        )  # fmt: skip
    assert public.line().startswith(f"certexec-{kind} ")
    assert len(public.line()) < keys.MAX_LINE


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=40))
def test_any_printable_comment_survives(comment: str) -> None:
    public = PublicKey("ed25519", key("alice").public.raw, comment)
    assert parse_public(public.line()).comment == comment


RAW = base64.b64encode(key("alice").public.raw).decode()


@pytest.mark.parametrize(
    "line",
    [
        "", "\n", "certexec-ed25519", "certexec-ed25519 ", f"ssh-ed25519 {RAW}", f"ed25519 {RAW}",
        f"certexec-rsa {RAW}", f"certexec-ed25519 {RAW[:-4]}", f"certexec-ed25519 {RAW}AAAA",
        f"certexec-ed25519 {RAW.rstrip('=')}", f"certexec-ed25519 {RAW}=",
        f" certexec-ed25519 {RAW}",
        f"certexec-ed25519  {RAW}", f"certexec-ed25519\t{RAW}", f"certexec-ed25519 {RAW}\r\n",
        f"certexec-ed25519 {RAW}\n\n", f"certexec-ed25519 {RAW}\nmore", f"certexec-ed25519 !{RAW}",
        f"certexec-p256 {RAW}", f"certexec-mldsa65 {RAW}", f"certexec-ed25519 {RAW} \x1b[2J",
        f"certexec-ed25519 {RAW} " + "x" * 300, f"certexec-ed25519 {RAW}  two spaces",
        "certexec-ed25519 " + "A" * 5000, b"certexec-ed25519 \xff", f"certexec-ed25519 {RAW} x\0",
    ],
)  # fmt: skip
def test_another_line_is_refused(line: str | bytes) -> None:
    bad_line(line)


def test_base64_has_only_one_form() -> None:
    # the last character before the padding carries four bits, here all unused ones are zero
    assert RAW.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = RAW[:-2] + alphabet[alphabet.index(RAW[-2]) + 1] + "="
    assert base64.b64decode(other) == base64.b64decode(RAW)
    bad_line(f"certexec-ed25519 {other}")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_key_or_are_refused(data: bytes) -> None:
    try:
        parse_public(data)
    except TrustError as error:
        assert error.reason == "bad-key"


# -- key ids -------------------------------------------------------------------------------------


def test_the_key_id_is_the_thumbprint_of_the_cose_key() -> None:
    ed, p256, mldsa = (key(f"k-{kind}", kind).public for kind in KINDS)
    cose_keys = [
        (ed, {1: 1, -1: 6, -2: ed.raw}),
        (p256, {1: 2, -1: 1, -2: p256.raw[1:33], -3: p256.raw[33:]}),
        (mldsa, {1: 7, 3: -49, -1: mldsa.raw}),
    ]
    for public, cose_key in cose_keys:
        assert public.kid == hashlib.sha256(codec.encode(cose_key)).digest()


def test_the_key_id_is_that_of_rfc_9679_s_example() -> None:
    public = PublicKey(
        "p256",
        bytes.fromhex(
            "04"
            "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"
            "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
        ),
    )
    assert public.kid.hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"


def test_a_fingerprint_is_base64_without_padding() -> None:
    public = key("alice").public
    text = public.fingerprint
    assert text == fingerprint_of(public.kid)
    assert text.startswith("SHA256:") and not text.endswith("=")
    assert base64.b64decode(text[7:] + "=") == public.kid


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_right_signature_over_the_right_message_holds(kind: str) -> None:
    signing = key(f"k-{kind}", kind)
    signature = signing.sign(b"message")
    public = signing.public
    assert len(signature) == keys.SIGNATURE_SIZES[kind]
    assert public.verify(signature, b"message")
    assert not public.verify(signature, b"another message")
    assert not public.verify(signature[:-1], b"message")
    assert not public.verify(signature + b"\0", b"message")
    assert not public.verify(b"", b"message")
    assert not public.verify(bytes(len(signature)), b"message")
    assert not key(f"other-{kind}", kind).public.verify(signature, b"message")
    assert not public.verify(b"\xff" * len(signature), b"message")


def test_a_p256_signature_has_no_shorter_form() -> None:
    signing = key("k-p256", "p256")
    signature = signing.sign(b"m")
    while signature[32]:  # ECDSA is randomised: one in 256 has an s that begins with a zero
        signature = signing.sign(b"m")
    assert signing.public.verify(signature, b"m")
    assert not signing.public.verify(signature[:32] + signature[33:], b"m")


def test_whatever_the_library_does_is_a_signature_that_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Panic(BaseException):
        """As a panic in Rust shows itself."""

    class Broken:
        @property
        def ed25519(self) -> object:
            raise Panic

    monkeypatch.setattr(keys, "_library", Broken)
    assert not key("alice").public.verify(bytes(64), b"")


def test_der_of_r_and_s_is_what_the_library_reads() -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    for r, s in ((1, 1), (127, 128), (2**255, 2**256 - 1), (2**248, 255), (0, 0)):
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        assert decode_dss_signature(keys._der_signature(raw)) == (r, s)


# -- weak keys -------------------------------------------------------------------------------------


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Add two points of edwards25519 (RFC 8032 section 5.1.4, in affine coordinates)."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    x3 = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    return x3, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def times(count: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while count:
        if count & 1:
            result = add(result, point)
        point = add(point, point)
        count >>= 1
    return result


def recover_x(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root if root * root % P == square else None


ORDER = 2**252 + 27742317777372353535851937790883648493


def small_points() -> set[tuple[int, int]]:
    """Compute the eight points whose order divides 8, from points of the curve."""
    found: set[tuple[int, int]] = {(0, 1)}
    y = 2
    while len(found) < 8:
        x = recover_x(y)
        if x is not None:
            torsion = times(ORDER, (x, y))
            found |= {times(count, torsion) for count in range(8)}
        y += 1
    return found


def encodings(point: tuple[int, int]) -> list[bytes]:
    """Return the canonical encoding of a point and every other that decoders accept for it."""
    x, y = point
    found = []
    for value in (y, y + P):
        if value < 2**255:
            for sign in {x & 1} if x else {0, 1}:
                found.append((value | sign << 255).to_bytes(32, "little"))
    return found


def test_all_points_of_small_order_are_refused_in_every_encoding() -> None:
    points = small_points()
    assert len(points) == 8
    assert {y for _, y in points} == set(keys._SMALL_ORDER_Y)
    encoded = [one for point in points for one in encodings(point)]
    assert len(encoded) == 14  # the number that libsodium's and ed25519-speccheck's lists have
    for raw in encoded:
        bad("ed25519", raw)


def test_an_encoding_beyond_the_field_is_refused() -> None:
    for y in range(P, 2**255):
        for sign in (0, 1):
            bad("ed25519", (y | sign << 255).to_bytes(32, "little"))


def test_what_is_no_point_of_the_curve_is_refused() -> None:
    y = next(y for y in range(2, 100) if recover_x(y) is None)
    assert "curve" in bad("ed25519", y.to_bytes(32, "little"))


def test_without_the_check_a_weak_key_would_hold_for_any_message() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    neutral = (1).to_bytes(32, "little")
    forged = neutral + bytes(32)
    # the library does not object, which is why the check stands here
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"anything")
    bad("ed25519", neutral)


def test_good_keys_are_not_refused() -> None:
    for number in range(20):
        signing = key(f"good-{number}")
        assert PublicKey("ed25519", signing.public.raw).kid == signing.public.kid


def test_a_p256_point_off_the_curve_is_refused() -> None:
    raw = bytearray(key("k-p256", "p256").public.raw)
    raw[64] ^= 1
    assert "curve" in bad("p256", bytes(raw))


def test_a_compressed_hybrid_or_infinite_p256_point_is_refused() -> None:
    raw = key("k-p256", "p256").public.raw
    bad("p256", b"\x02" + raw[1:33])
    bad("p256", bytes([6 | raw[64] & 1]) + raw[1:])
    bad("p256", b"\0")
    bad("p256", b"\x04" + b"\xff" * 64)
    bad("p256", b"\x04" + bytes(64))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_another_length_is_refused(kind: str) -> None:
    raw = key(f"k-{kind}", kind).public.raw
    for wrong in (b"", raw[:-1], raw + b"\0"):
        bad(kind, wrong)


def test_an_unknown_kind_is_refused() -> None:
    bad("ed448", bytes(57))
