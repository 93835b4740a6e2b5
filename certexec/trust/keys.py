"""Public keys: their one-line form, their ids, and the check of one signature.

The run path uses the library's lowest door (``cryptography.hazmat.bindings._rust``), which loads
none of its Python modules. Only ECDSA needs two of them, when the first P-256 signature is
checked.
"""

from __future__ import annotations

import binascii

from certexec.errors import TrustError
from certexec.kernel.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ED25519 = "ed25519"
P256 = "p256"
MLDSA65 = "mldsa65"
ALGORITHMS = {ED25519: -19, P256: -9, MLDSA65: -49}
"""The one COSE algorithm of each kind of key (RFC 9864: Ed25519, ESP256; RFC 9964: ML-DSA-65)."""
SIZES = {ED25519: 32, P256: 65, MLDSA65: 1952}
"""bytes of the raw public key: RFC 8032; SEC 1 uncompressed point; FIPS 204 table 2."""
SIGNATURE_SIZES = {ED25519: 64, P256: 64, MLDSA65: 3309}
"""bytes of a signature: RFC 8032; r and s (RFC 9053 section 2.1); FIPS 204 table 2."""

LINE_PREFIX = "certexec-"
MAX_LINE = 4096
"""bytes; ML-DSA-65 needs 2620, the rest is comment."""
MAX_COMMENT = 255
"""characters."""

_FIELD_25519 = 2**255 - 19
_D_25519 = -121665 * pow(121666, -1, _FIELD_25519) % _FIELD_25519
_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER_Y = frozenset(
    (
        0,  # order 4
        1,  # order 1, the neutral element
        _FIELD_25519 - 1,  # order 2
        _ORDER_8_Y,  # order 8
        _FIELD_25519 - _ORDER_8_Y,  # order 8
    )
)
"""The y coordinates of the eight points whose order divides the cofactor (RFC 8032 section 5.1;
the same list as ed25519-speccheck). With such a key a signature can hold for any message."""

_FIELD_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B_P256 = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def _bad(message: str) -> TrustError:
    return TrustError("bad-key", message)


def _check_ed25519(raw: bytes) -> None:
    """Refuse encodings that are not canonical, not on the curve, or of small order.

    The library accepts them all. Source: RFC 8032 section 5.1.3 for the decoding.
    """
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    p = _FIELD_25519
    if y >= p:
        raise _bad("the Ed25519 key is not in canonical form")
    if y in _SMALL_ORDER_Y:
        raise _bad("the Ed25519 key is a point of small order, it proves nothing")
    # x^2 = (y^2 - 1) / (d y^2 + 1), and a quotient is a square exactly when the product is one
    square = (y * y - 1) * (_D_25519 * y * y + 1)
    if pow(square, (p - 1) // 2, p) != 1:
        raise _bad("the Ed25519 key is not a point of the curve")


def _check_p256(raw: bytes) -> None:
    """Refuse everything but an uncompressed point of the curve (SEC 1 section 2.3.4)."""
    x, y = int.from_bytes(raw[1:33], "big"), int.from_bytes(raw[33:], "big")
    p = _FIELD_P256
    if raw[0] != 4 or x >= p or y >= p:
        raise _bad("the P-256 key is not an uncompressed point")
    if (y * y - (x * x * x - 3 * x + _B_P256)) % p:
        raise _bad("the P-256 key is not a point of the curve")


def _thumbprint_input(kind: str, raw: bytes) -> bytes:
    """Return the COSE_Key with only the parameters that make a thumbprint, encoded.

    Deterministic CBOR, written out because each kind has one fixed shape. Source: RFC 9679
    section 4 (OKP, EC2); RFC 9964 (AKP: key type 7 with its algorithm).
    """
    if kind == ED25519:  # {1: 1 (OKP), -1: 6 (Ed25519), -2: x}
        return b"\xa3\x01\x01\x20\x06\x21\x58\x20" + raw
    if kind == P256:  # {1: 2 (EC2), -1: 1 (P-256), -2: x, -3: y}
        return b"\xa4\x01\x02\x20\x01\x21\x58\x20" + raw[1:33] + b"\x22\x58\x20" + raw[33:]
    return b"\xa3\x01\x07\x03\x38\x30\x20\x59\x07\xa0" + raw  # {1: 7 (AKP), 3: -49, -1: pub}


def _der_integer(value: bytes) -> bytes:
    body = value.lstrip(b"\0") or b"\0"
    if body[0] & 0x80:
        body = b"\0" + body
    return b"\x02" + bytes((len(body),)) + body


def _der_signature(raw: bytes) -> bytes:
    """Turn r and s into the ASN.1 form that the library takes (RFC 3279 section 2.2.3)."""
    body = _der_integer(raw[:32]) + _der_integer(raw[32:])
    return b"\x30" + bytes((len(body),)) + body


def probe_library() -> None:
    """Prove that the cryptography library can be loaded; raises TrustError("internal")."""
    _library()


def _library() -> Any:
    """Load the library when the first signature is checked, not before."""
    try:
        from cryptography.hazmat.bindings._rust import openssl
    except ImportError as error:
        raise TrustError("internal", f"cannot load the cryptography library: {error}") from None
    return openssl


class PublicKey:
    """A public key of a kind that certificates can be signed with.

    Attributes:
        kind: "ed25519", "p256" or "mldsa65".
        raw: the key's bytes, ``SIZES[kind]`` of them.
        comment: what its owner calls it; nothing depends on it.
        kid: the SHA-256 COSE_Key thumbprint (RFC 9679).
    """

    __slots__ = ("_check", "comment", "kid", "kind", "raw")

    def __init__(self, kind: str, raw: bytes, comment: str = "") -> None:
        """Check the key; raises TrustError("bad-key") for a damaged or weak one."""
        if kind not in SIZES:
            raise _bad(f'there is no key type "{kind}"')
        if len(raw) != SIZES[kind]:
            raise _bad(f"the {kind} key has {len(raw)} bytes instead of {SIZES[kind]}")
        if kind == ED25519:
            _check_ed25519(raw)
        elif kind == P256:
            _check_p256(raw)
        if len(comment) > MAX_COMMENT or not comment.isprintable() or comment != comment.strip():
            raise _bad("the key's comment is too long or not printable")
        self.kind = kind
        self.raw = raw
        self.comment = comment
        self.kid: bytes = sha256(_thumbprint_input(kind, raw))
        self._check: Callable[[bytes, bytes], None] | None = None

    @property
    def algorithm(self) -> int:
        """The COSE algorithm that this key is for, the only one."""
        return ALGORITHMS[self.kind]

    @property
    def fingerprint(self) -> str:
        """The key id for people: ``SHA256:`` and Base64 without padding, as ssh-keygen shows it."""
        return fingerprint_of(self.kid)

    def line(self) -> str:
        """Return the line of a .pub file, without its newline."""
        encoded = binascii.b2a_base64(self.raw, newline=False).decode("ascii")
        return f"{LINE_PREFIX}{self.kind} {encoded} {self.comment}".rstrip()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Tell whether ``signature`` over ``message`` is this key's.

        Whatever the library objects to is a signature that does not hold.
        """
        if len(signature) != SIGNATURE_SIZES[self.kind]:
            return False
        try:
            if self._check is None:
                self._check = self._load()
            self._check(signature, message)
        except (KeyboardInterrupt, SystemExit, TrustError):
            raise
        except BaseException:  # a panic in the library is no Exception
            return False
        return True

    def _load(self) -> Callable[[bytes, bytes], None]:
        """Return what raises for a signature that does not hold; kept, as loading a key takes time.

        Raises TrustError("internal") where the library cannot be loaded.
        """
        openssl = _library()
        check: Callable[[bytes, bytes], None]
        if self.kind == ED25519:
            check = openssl.ed25519.from_public_bytes(self.raw).verify
            return check
        if self.kind == MLDSA65:
            check = openssl.mldsa.from_mldsa65_public_bytes(self.raw).verify
            return check
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.raw)
        return lambda signature, message: key.verify(
            _der_signature(signature), message, ec.ECDSA(SHA256())
        )


def fingerprint_of(kid: bytes) -> str:
    """Write a key id for people: ``SHA256:`` and Base64 without padding."""
    return "SHA256:" + binascii.b2a_base64(kid, newline=False).decode("ascii").rstrip("=")


def parse_public(line: str | bytes) -> PublicKey:
    """Read the content of a .pub file: one line of type, Base64 and comment.

    Raises TrustError("bad-key") for anything else.
    """
    if isinstance(line, bytes):
        try:
            line = line.decode("utf-8")
        except UnicodeDecodeError:
            raise _bad("the public key is not text") from None
    if len(line) > MAX_LINE:
        raise _bad(f"the public key is longer than {MAX_LINE} characters")
    content = line[:-1] if line.endswith("\n") else line
    if "\n" in content:
        raise _bad("the public key is not one line")
    parts = content.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith(LINE_PREFIX):
        raise _bad("this is not a public key of certexec")
    try:
        raw = binascii.a2b_base64(parts[1], strict_mode=True)
    except ValueError:
        raise _bad("the public key's Base64 is damaged") from None
    if binascii.b2a_base64(raw, newline=False) != parts[1].encode():
        raise _bad("the public key's Base64 is not in its one form")
    return PublicKey(parts[0][len(LINE_PREFIX) :], raw, parts[2] if len(parts) > 2 else "")
