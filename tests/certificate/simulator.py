"""A signer whom tests turn into an attacker.

``Simulator()`` makes a good certificate. Every part of it lies open as plain data: change a field,
a header, a key or what is signed, and ``build`` makes the certificate file that an attacker with
these means could make. What is changed before signing is signed; ``after_signing`` gets the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from certexec.certificate import codec, cose, envelope
from certexec.certificate.verify import Verified, verify_certificate
from certexec.trust.constraints import Constraints
from certexec.trust.private_keys import SigningKey, generate
from certexec.trust.store import TrustedKey

NOW = 1_800_000_000
DAY = 86400
POLICY = "Policy: /usr/bin/hello, Emulation: native\n\tnative-exit: permit\n"


@cache
def key(name: str, kind: str = "ed25519") -> SigningKey:
    """Return the key of this name, the same one for the whole test run."""
    return generate(kind, name)


class Signer:
    """One signature to be made: by which key, and what its headers say."""

    def __init__(self, signing_key: SigningKey) -> None:
        self.key = signing_key
        self.protected: Any = {
            cose.HEADER_ALG: signing_key.public.algorithm,
            cose.HEADER_KID: signing_key.public.kid,
        }
        self.unprotected: Any = {}
        self.signature: bytes | None = None
        """What stands in the certificate instead of the real signature."""


class Simulator:
    """A certificate in parts, the keys that a machine trusts, and that machine's clock."""

    def __init__(self, *names: str) -> None:
        self.head = envelope.HEAD
        self.claims: dict[Any, Any] = {
            1: "tester", 2: "hello", 4: NOW + DAY, 5: NOW - DAY, 6: NOW - DAY, 7: bytes(range(16)),
        }  # fmt: skip
        self.body: dict[Any, Any] = {
            cose.HEADER_CRIT: [15], cose.HEADER_CONTENT_TYPE: envelope.CONTENT_TYPE,
        }  # fmt: skip
        self.unprotected: Any = {}
        self.payload: Any = good_payload()
        self.external_aad = envelope.EXTERNAL_AAD
        self.signers = [Signer(key(name)) for name in names or ("alice",)]
        self.now = NOW
        self.trust: dict[bytes, TrustedKey] = {}
        for signer in self.signers:
            self.trusts(signer.key)
        self.after_signing: Callable[[bytes], bytes] = lambda data: data

    def trusts(self, signing_key: SigningKey, **constraints: Any) -> TrustedKey:
        """Let the machine trust a key, within constraints."""
        public = signing_key.public
        trusted = TrustedKey(public, Constraints(**constraints), public.comment or "key")
        self.trust[public.kid] = trusted
        return trusted

    def body_protected(self) -> bytes:
        return codec.encode({**self.body, cose.HEADER_CWT_CLAIMS: self.claims})

    def payload_bytes(self) -> Any:
        return codec.encode(self.payload)

    def signature_items(self) -> list[Any]:
        body, payload = self.body_protected(), self.payload_bytes()
        items: list[Any] = []
        for signer in self.signers:
            protected = codec.encode(signer.protected)
            signed = codec.encode(["Signature", body, protected, self.external_aad, payload])
            made = signer.key.sign(signed) if signer.signature is None else signer.signature
            items.append([protected, signer.unprotected, made])
        return items

    def build(self) -> bytes:
        items = [
            self.body_protected(), self.unprotected, self.payload_bytes(), self.signature_items(),
        ]  # fmt: skip
        return self.after_signing(self.head + codec.encode(items))

    def verify(self) -> Verified:
        return verify_certificate(self.build(), self.trust, self.now)


def good_payload() -> dict[Any, Any]:
    """Return the payload of a good certificate without a grant, as plain data."""
    digests = {0: hashlib.sha256(b"hello").digest(), 1: hashlib.sha512(b"hello").digest()}
    return {
        0: 1,
        1: 7,
        2: {0: "/usr/bin/hello", 1: 5, 2: digests, 3: 0},
        3: {
            0: POLICY, 2: hashlib.sha256(POLICY.encode()).digest(), 3: 1, 4: 0, 5: True, 6: False,
            7: ["native"],
        },
        5: {0: [[True, 0, "", 0]], 1: False, 4: []},
        8: [],
        9: 0,
        10: 0,
        11: "",
        12: {},
        13: {},
    }  # fmt: skip


def full_payload() -> dict[Any, Any]:
    """Return a payload that says something in every field that this version enforces."""
    payload = good_payload()
    payload[4] = {
        0: ["root", 0], 1: ["daemon", 1], 2: [["adm", 4], ["", 1234]],
        3: [["net_raw", 13], ["net_admin", 12]],
        4: [{0: ["root", 0]}, {0: ["daemon", 1], 1: ["adm", 4]}, {1: ["", 1234]}],
    }  # fmt: skip
    payload[5] = {
        0: [[False, 1, "mallory", 1001], [True, 2, "netadmin", 990], [True, 0, "", 0]],
        1: True,
        3: ["-*", "eth[0-9]"],
        4: [[31, 480, 1080], [96, 0, 1440]],
    }
    payload[6] = {0: {7: [256, 512], 4: [0, 2**64 - 1]}, 1: 5, 2: 0o027, 3: 200}
    payload[7] = {0: ["TERM", "LANG"], 1: {"PATH": "/usr/bin", "A": ""}}
    payload[9] = 1
    payload[10] = 1
    payload[11] = "two lines\nof comment: äöü"
    payload[13] = {"x.example": {1: [None, True, b"\0", -5, "t"]}}
    return payload


def script_payload() -> dict[Any, Any]:
    """Return the payload of a script's certificate, with its interpreter."""
    payload = good_payload()
    payload[8] = [[0, "/usr/bin/dash", 100, payload[2][2]]]
    return payload
