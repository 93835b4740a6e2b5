"""Make a certificate from what it shall say. Never imported on the run path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import cbor2

from certexec.certificate import codec, cose, envelope
from certexec.certificate.model import Certificate, check_enforceable
from certexec.certificate.verify import read_message
from certexec.errors import CertificateError


class PublicHalf(Protocol):
    """The public half of a signer."""

    @property
    def kid(self) -> bytes:
        """The SHA-256 COSE_Key thumbprint."""

    @property
    def algorithm(self) -> int:
        """The COSE algorithm."""


class Signer(Protocol):
    """What signs: ``certexec.trust.private_keys.SigningKey``."""

    @property
    def public(self) -> PublicHalf:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""


def _agree(ours: object, theirs: object) -> bool:
    """Compare what two decoders read, type by type (True is not 1)."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(_agree(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_agree, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def _encode_checked(value: object) -> bytes:
    """Encode, and let an independent decoder confirm what was written."""
    data = codec.encode(value)
    theirs: Any = cbor2.loads(data)
    if not _agree(codec.decode(data), theirs):
        raise CertificateError("internal", "two CBOR decoders disagree about this certificate")
    return data


def sign_certificate(certificate: Certificate, signers: Sequence[Signer]) -> bytes:
    """Return the certificate file, signed by every one of ``signers``.

    The result is read back and compared with ``certificate`` before it is returned.

    Raises:
        CertificateError: "malformed" for a value that a certificate cannot hold, "unsupported"
            for a demand that would be refused at every execution, "internal".
    """
    check_enforceable(certificate)
    body = _encode_checked(
        {
            cose.HEADER_CRIT: [cose.HEADER_CWT_CLAIMS],
            cose.HEADER_CONTENT_TYPE: envelope.CONTENT_TYPE,
            cose.HEADER_CWT_CLAIMS: certificate.claims.to_header(),
        }
    )
    payload = _encode_checked(certificate.to_payload())
    signatures = []
    for signer in signers:
        protected = _encode_checked(
            {cose.HEADER_ALG: signer.public.algorithm, cose.HEADER_KID: signer.public.kid}
        )
        message = cose.to_be_signed(body, protected, envelope.EXTERNAL_AAD, payload)
        signatures.append(cose.Signature(protected, {}, signer.sign(message)))
    data = envelope.wrap(cose.SignMessage(body, {}, payload, signatures))
    if read_message(envelope.unwrap(data)) != certificate:
        raise CertificateError("internal", "the certificate does not read back as it was written")
    return data
