"""Private keys: making, keeping and using them. Never imported on the run path.

A key file is PKCS#8 in PEM, encrypted with a passphrase unless the user insists otherwise.
"""

from __future__ import annotations

import base64
import os
import stat
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certexec.errors import TrustError
from certexec.trust.key_files import missing_key
from certexec.trust.keys import ED25519, MLDSA65, P256, PublicKey

MAX_FILE = 16384
"""bytes; an ML-DSA-65 key as OpenSSL writes it, with seed and expanded form, is 5.6 KiB."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5
"""The parameters that OWASP recommends for 16 MiB of memory, the most that OpenSSL's default
limit lets it read; a quarter of a second for each guess. The library's own encryption would be
PBKDF2 with 2048 rounds, which is a thousandth of that."""
_OID_PBES2 = bytes.fromhex("2a864886f70d01050d")
_OID_SCRYPT = bytes.fromhex("2b06010401da47040b")
_OID_AES_256_CBC = bytes.fromhex("60864801650304012a")
_AES_BLOCK_BITS = 128


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _der_uint(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _encrypted_pkcs8(plain: bytes, passphrase: bytes) -> bytes:
    """Encrypt PrivateKeyInfo as EncryptedPrivateKeyInfo, in PEM.

    PBES2 (RFC 8018 section 6.2) with scrypt (RFC 7914 section 7) and AES-256-CBC.
    """
    salt, vector = os.urandom(16), os.urandom(16)
    kdf = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    cipher = Cipher(algorithms.AES(kdf.derive(passphrase)), modes.CBC(vector)).encryptor()
    pad = padding.PKCS7(_AES_BLOCK_BITS).padder()
    content = cipher.update(pad.update(plain) + pad.finalize()) + cipher.finalize()
    sequence, octets, oid = 0x30, 0x04, 0x06
    parameters = _der(
        sequence,
        _der(octets, salt),
        _der_uint(SCRYPT_N),
        _der_uint(SCRYPT_R),
        _der_uint(SCRYPT_P),
    )
    scheme = _der(
        sequence,
        _der(sequence, _der(oid, _OID_SCRYPT), parameters),
        _der(sequence, _der(oid, _OID_AES_256_CBC), _der(octets, vector)),
    )
    whole = _der(
        sequence, _der(sequence, _der(oid, _OID_PBES2), scheme), _der(octets, content)
    )
    text = base64.b64encode(whole)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    label = b"ENCRYPTED PRIVATE KEY-----"
    return b"\n".join([b"-----BEGIN " + label, *lines, b"-----END " + label, b""])


class SigningKey:
    """A private key that can sign certificates.

    Attributes:
        public: its public half.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Any, comment: str = "") -> None:
        """Wrap a key of the library; raises TrustError("bad-key") for other kinds of key."""
        public = private.public_key()
        if isinstance(private, ed25519.Ed25519PrivateKey):
            kind, raw = ED25519, public.public_bytes_raw()
        elif isinstance(private, mldsa.MLDSA65PrivateKey):
            kind, raw = MLDSA65, public.public_bytes_raw()
        elif isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(
            private.curve, ec.SECP256R1
        ):
            kind = P256
            raw = public.public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
        else:
            raise TrustError(
                "bad-key",
                "the key is of a kind that certificates are not signed with",
                'make one with "certexec keygen"',
            )
        self._private = private
        self.public = PublicKey(kind, raw, comment)

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``; the result is checked against the public key before it is returned."""
        if self.public.kind == P256:
            r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        else:
            signature = self._private.sign(message)
        if not self.public.verify(signature, message):
            raise TrustError("internal", "the signature that was just made does not hold")
        return signature

    def to_pem(self, passphrase: bytes | None) -> bytes:
        """Return the key file's content; without a passphrase it is not encrypted."""
        encoding = serialization.Encoding.PEM if passphrase is None else serialization.Encoding.DER
        plain: bytes = self._private.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return plain if passphrase is None else _encrypted_pkcs8(plain, passphrase)


def generate(kind: str, comment: str = "") -> SigningKey:
    """Make a new key; raises TrustError("bad-key") for an unknown kind."""
    private: Any
    try:
        if kind == ED25519:
            private = ed25519.Ed25519PrivateKey.generate()
        elif kind == P256:
            private = ec.generate_private_key(ec.SECP256R1())
        elif kind == MLDSA65:
            private = mldsa.MLDSA65PrivateKey.generate()
        else:
            raise TrustError("bad-key", f'there is no key type "{kind}"')
    except UnsupportedAlgorithm:
        raise TrustError("bad-key", f"this cryptography library cannot make {kind} keys") from None
    return SigningKey(private, comment)


def is_encrypted(pem: bytes) -> bool:
    """Tell whether a key file needs a passphrase."""
    # in the label (RFC 7468), or in the header of the older forms (RFC 1421)
    return any(b"ENCRYPTED" in line for line in pem.lstrip().split(b"\n", 2)[:2])


def from_pem(pem: bytes, passphrase: bytes | None, shown: str, comment: str = "") -> SigningKey:
    """Read a key file's content; ``shown`` names the file in messages.

    Raises TrustError: "bad-passphrase", or "bad-key" for what is not a usable key.
    """
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if is_encrypted(pem):
            raise TrustError("bad-passphrase", f'the passphrase does not open "{shown}"') from None
        raise TrustError(
            "bad-key", f'"{shown}" is not a private key, or is damaged'
        ) from None
    try:
        return SigningKey(private, comment)
    except TrustError as error:
        raise TrustError(error.reason, f'"{shown}": {error.message}', error.hint) from None


def read_key_file(path: str) -> tuple[bytes, os.stat_result]:
    """Read a key file; returns its content and its fstat(2).

    Raises TrustError: "not-found", "unreadable", or "bad-key" when it is much too long.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
                raise TrustError("bad-key", f'"{path}" is not a file')
            content = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise missing_key(path, ".key") from None
    except OSError as error:
        raise TrustError("unreadable", f'cannot read "{path}": {error.strerror}') from None
    if len(content) > MAX_FILE:
        raise TrustError("bad-key", f'"{path}" is too long for a key')
    return content, status
