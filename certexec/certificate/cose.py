"""COSE_Sign, the message with one or more signatures (RFC 9052 section 4).

Only the message and its signatures are known here, not what a certificate puts into them. Parsing
is strict about the encoding (see ``codec``) and generic about the headers, so that messages of
other implementations can be checked too.
"""

from __future__ import annotations

from certexec.certificate import codec
from certexec.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class VerifyingKey(Protocol):
        """What checks one signature: a public key bound to exactly one algorithm."""

        @property
        def algorithm(self) -> int:
            """The COSE algorithm that the key is for."""

        def verify(self, signature: bytes, message: bytes) -> bool:
            """Tell whether the signature over the message is this key's."""


TAG_SIGN = 98
"""The CBOR tag of COSE_Sign (RFC 9052 table 1)."""
CONTEXT = "Signature"
"""The context string of a COSE_Sign signer (RFC 9052 section 4.4)."""

HEADER_ALG = 1
HEADER_CRIT = 2
HEADER_CONTENT_TYPE = 3
HEADER_KID = 4
HEADER_CWT_CLAIMS = 15
"""Header labels (RFC 9052 table 3, RFC 9597 section 2)."""

ALG_ED25519 = -19
ALG_ESP256 = -9
ALG_ML_DSA_65 = -49
"""Fully specified algorithms (RFC 9864 section 2, RFC 9964)."""
ALGORITHM_NAMES = {ALG_ED25519: "Ed25519", ALG_ESP256: "ESP256", ALG_ML_DSA_65: "ML-DSA-65"}

Headers = dict[int | str, object]


def _malformed(message: str) -> CertificateError:
    return CertificateError("malformed", message)


class Signature:
    """One COSE_Signature: its protected header as signed and as read, and the signature.

    Attributes:
        protected: the bytes of the protected header, which are signed.
        headers: the same, decoded.
        unprotected: the header that nothing vouches for.
        signature: the signature's bytes.
    """

    __slots__ = ("headers", "protected", "signature", "unprotected")

    def __init__(self, protected: bytes, unprotected: Headers, signature: bytes) -> None:
        self.protected = protected
        self.headers = _signer_headers(protected)
        self.unprotected = unprotected
        self.signature = signature


class SignMessage:
    """One COSE_Sign: body headers, content and signatures.

    Attributes:
        protected, headers, unprotected: as in ``Signature``, but of the body.
        payload: the signed content.
        signatures: in the order of the message.
    """

    __slots__ = ("headers", "payload", "protected", "signatures", "unprotected")

    def __init__(
        self,
        protected: bytes,
        unprotected: Headers,
        payload: bytes,
        signatures: list[Signature],
        headers: Headers | None = None,
    ) -> None:
        """``headers``: what ``protected`` holds, where that has been read already."""
        self.protected = protected
        self.headers = read_protected(protected) if headers is None else headers
        self.unprotected = unprotected
        self.payload = payload
        self.signatures = signatures

    def to_items(self) -> list[object]:
        """Return the COSE_Sign array, ready to be encoded."""
        return [
            self.protected,
            self.unprotected,
            self.payload,
            [[one.protected, one.unprotected, one.signature] for one in self.signatures],
        ]


def read_protected(protected: bytes) -> Headers:
    """Decode a protected header: a map in a byte string, or no bytes at all for an empty map."""
    if not protected:
        return {}
    headers = codec.decode(protected)
    if not isinstance(headers, dict):
        raise _malformed("a protected header is not a map")
    return headers


_SIGNERS_MAX, _SIGNER_SIZE = 64, 64
"""Headers of signatures that are remembered, and the bytes of the longest such."""
_signers: dict[bytes, Headers] = {}


def _signer_headers(protected: bytes) -> Headers:
    """Decode a signature's protected header: all signatures by one key have the same bytes there.

    Returns a dict of the caller's own.
    """
    known = _signers.get(protected)
    if known is None:
        known = read_protected(protected)
        if len(protected) <= _SIGNER_SIZE:
            if len(_signers) >= _SIGNERS_MAX:
                _signers.clear()
            _signers[protected] = known
    return known.copy()


def _is_header(protected: object, unprotected: object) -> bool:
    return isinstance(protected, bytes) and isinstance(unprotected, dict)


def parse(
    items: object, read_headers: Callable[[bytes], Headers] | None = None
) -> SignMessage:
    """Read a decoded COSE_Sign array (the content of tag 98).

    ``read_headers``: what does as ``read_protected`` for the body.
    Raises CertificateError("malformed") when it is not one, or when its content is detached.
    """
    if not isinstance(items, list) or len(items) != 4:
        raise _malformed("COSE_Sign is not an array of four")
    protected, unprotected, payload, signatures = items
    if not _is_header(protected, unprotected):
        raise _malformed("the body's headers are not a byte string and a map")
    if not isinstance(payload, bytes):
        raise _malformed("the payload is not a byte string")
    if not isinstance(signatures, list) or not signatures:
        raise _malformed("there is no signature")
    parsed = []
    for entry in signatures:
        if not isinstance(entry, list) or len(entry) != 3:
            raise _malformed("a COSE_Signature is not an array of three")
        if not _is_header(entry[0], entry[1]) or not isinstance(entry[2], bytes):
            raise _malformed("a COSE_Signature has fields of another type")
        parsed.append(Signature(entry[0], entry[1], entry[2]))
    headers = (read_headers or read_protected)(protected)
    return SignMessage(protected, unprotected, payload, parsed, headers)


def to_be_signed(
    body_protected: bytes, sign_protected: bytes, external_aad: bytes, payload: bytes
) -> bytes:
    """Return the Sig_structure that a signer signs (RFC 9052 section 4.4).

    A header that is an empty map counts as no bytes, whichever of the two stands in the message.
    """
    empty_map = b"\xa0"
    return codec.encode(
        [
            CONTEXT,
            b"" if body_protected == empty_map else body_protected,
            b"" if sign_protected == empty_map else sign_protected,
            external_aad,
            payload,
        ]
    )


def signature_holds(
    message: SignMessage,
    signature: Signature,
    key: VerifyingKey,
    external_aad: bytes,
    *,
    legacy_algorithms: Mapping[int, int] | None = None,
) -> bool:
    """Tell whether ``signature`` is ``key``'s over ``message``.

    The algorithm is the key's. The header must name the same one, or the signature does not hold.
    ``legacy_algorithms`` maps identifiers that RFC 9864 deprecates (-8, -7) to the key's, for
    checking other implementations' messages; no certificate is ever checked with it.
    """
    named = signature.headers.get(HEADER_ALG)
    if legacy_algorithms is not None and isinstance(named, int):
        named = legacy_algorithms.get(named, named)
    if type(named) is not int or named != key.algorithm:
        return False
    return key.verify(
        signature.signature,
        to_be_signed(message.protected, signature.protected, external_aad, message.payload),
    )
