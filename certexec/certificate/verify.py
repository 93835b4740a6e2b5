"""Decide whether bytes are a certificate that a trusted key signed, now, within its limits.

Pure: bytes, keys and a time go in, a verdict comes out. Files, the clock and the trust store are
the caller's.
"""

from __future__ import annotations

from certexec.certificate import codec, cose, envelope
from certexec.certificate.model import Certificate, check_enforceable
from certexec.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from certexec.certificate.identity import Identity, Pair

    class SigningKey(cose.VerifyingKey, Protocol):
        """A public key: ``certexec.trust.keys.PublicKey``."""

        @property
        def kid(self) -> bytes:
            """The SHA-256 COSE_Key thumbprint."""

        @property
        def fingerprint(self) -> str:
            """The same for people."""

    class KeyLimits(Protocol):
        """What a key may sign: ``certexec.trust.constraints.Constraints``."""

        max_lifetime: int | None
        cosigners: int
        grants: list[str]

        def allows_path(self, path: str) -> bool:
            """Tell whether the key may sign for the program at ``path``."""

        def grants_pair(self, kind: str, pair: Pair) -> bool:
            """Tell whether the key may grant this user, group or capability."""

    class TrustedKey(Protocol):
        """A key of the trust store: ``certexec.trust.store.TrustedKey``."""

        @property
        def key(self) -> SigningKey:
            """The key."""

        @property
        def constraints(self) -> KeyLimits:
            """Its limits."""

        @property
        def name(self) -> str:
            """The file that it comes from."""


CLOCK_SKEW = 0
"""Seconds by which a clock may be wrong. None: signer and machine can both use one year, and a
tolerance would be a lifetime that nobody signed."""


class Verified:
    """A certificate whose statements hold, and the keys that vouch for it.

    Attributes:
        certificate: the certificate.
        signers: the trusted keys whose signatures hold and whose constraints allow all of it, in
            the order of the signatures; at least one.
    """

    __slots__ = ("certificate", "signers")

    def __init__(self, certificate: Certificate, signers: list[TrustedKey]) -> None:
        self.certificate = certificate
        self.signers = signers


def _date(moment: int) -> str:
    """Write a time as UTC, without importing a calendar."""
    days, seconds = divmod(moment, 86400)
    # civil date from days since 1970, H. Hinnant, "chrono-compatible low-level date algorithms"
    days += 719468
    era, day_of_era = divmod(days, 146097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year += era * 400 + (month <= 2)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{year:04}-{month:02}-{day:02} {clock} UTC"


def _good_signers(message: cose.SignMessage, keys: Mapping[bytes, TrustedKey]) -> list[TrustedKey]:
    """Check every signature whose key is trusted; all of them must hold (steps 2 and 3)."""
    good = []
    for signature in message.signatures:
        kid = signature.headers[cose.HEADER_KID]
        trusted = keys.get(kid) if isinstance(kid, bytes) else None
        if trusted is None:
            continue
        if trusted.key.kid != kid:
            raise CertificateError("internal", "the trusted keys are filed under other key ids")
        if not cose.signature_holds(message, signature, trusted.key, envelope.EXTERNAL_AAD):
            raise CertificateError(
                "bad-signature",
                f"the signature by {trusted.key.fingerprint} does not fit the content",
                "the certificate was changed after signing; get it again or sign it anew",
            )
        good.append(trusted)
    if not good:
        raise CertificateError(
            "untrusted-key",
            "no signature is by a trusted key",
            'look at the signers with "certexec inspect" and, if you trust one, use '
            '"certexec trust add"',
        )
    return good


def check_moment(certificate_nbf: int, certificate_exp: int, now: int) -> None:
    """Raise CertificateError unless ``now`` lies between first and last moment."""
    if now + CLOCK_SKEW < certificate_nbf:
        raise CertificateError(
            "not-yet-valid",
            f"the certificate is not valid before {_date(certificate_nbf)}",
            "check the clock of this machine",
        )
    if now - CLOCK_SKEW > certificate_exp:
        raise CertificateError(
            "expired",
            f"the certificate expired on {_date(certificate_exp)}",
            'sign the program anew with "certexec sign"',
        )


def _granted_pairs(identity: Identity) -> list[tuple[str, Pair]]:
    """List every single thing that an identity gives, with its kind."""
    pairs: list[tuple[str, Pair]] = []
    if identity.user is not None:
        pairs.append(("user", identity.user))
    if identity.group is not None:
        pairs.append(("group", identity.group))
    pairs.extend(("group", pair) for pair in identity.groups or ())
    pairs.extend(("cap", pair) for pair in identity.capabilities or ())
    for user, group in identity.elevations or ():
        # a single call as somebody is as much as a program as somebody
        pairs.extend(("user", pair) for pair in (user,) if pair is not None)
        pairs.extend(("group", pair) for pair in (group,) if pair is not None)
    return pairs


def _shown(kind: str, pair: Pair) -> str:
    name = pair[0] or f"#{pair[1]}"
    return {"user": name, "group": f":{name}", "cap": f"cap:{name}"}[kind]


def _objection(certificate: Certificate, trusted: TrustedKey) -> CertificateError | None:
    """Return why this key may not sign this certificate; None when it may."""
    limits = trusted.constraints
    who = f'the key "{trusted.name}"'
    if not limits.allows_path(certificate.program.path):
        return CertificateError(
            "key-constraint",
            f'{who} may not sign for "{certificate.program.path}"',
            f'"certexec trust add KEY.pub --path GLOB" sets where {who} may sign',
        )
    if limits.max_lifetime is not None and certificate.lifetime() > limits.max_lifetime:
        return CertificateError(
            "key-constraint",
            f"{who} may sign for {limits.max_lifetime} seconds at most, "
            f"this certificate lasts {certificate.lifetime()}",
            'sign it with a shorter "--valid-for"',
        )
    if certificate.identity is None:
        return None
    wanted = _granted_pairs(certificate.identity)
    missing = [item for item in wanted if not limits.grants_pair(*item)]
    # An identity that only takes away (no supplementary groups) still needs a key that may grant:
    # losing a group can open what a file's mode closes to that group.
    if missing or not limits.grants:
        first = _shown(*missing[0]) if missing else "USER"
        return CertificateError(
            "setuid-denied",
            f"{who} may not grant {first}" if missing else f"{who} may not grant any identity",
            f'if it may, say so with "certexec trust add KEY.pub --may-grant {first}"',
        )
    return None


def _allowed_signers(certificate: Certificate, good: list[TrustedKey]) -> list[TrustedKey]:
    """Keep the signers whose constraints allow everything, and count them (steps 6 and 7)."""
    objections = [(trusted, _objection(certificate, trusted)) for trusted in good]
    allowed = [trusted for trusted, objection in objections if objection is None]
    if not allowed:
        for _, objection in objections:
            if objection is not None:
                raise objection
    if certificate.is_grant():
        least = min(trusted.constraints.cosigners for trusted in allowed)
        if len(allowed) < 1 + least:
            raise CertificateError(
                "key-constraint",
                f"a grant needs {1 + least} trusted signatures, this certificate has "
                f"{len(allowed)}",
                'sign it with several keys: "certexec sign -k KEY -k KEY"',
            )
    return allowed


def read_message(message: cose.SignMessage) -> Certificate:
    """Return the certificate inside an unwrapped message, which proves nothing by itself.

    Raises CertificateError: "malformed" or "unsupported".
    """
    return Certificate.from_payload(codec.decode(message.payload), envelope.claims_of(message))


def read_unverified(data: bytes) -> Certificate:
    """Read a certificate without any proof, for showing it.

    Raises CertificateError: "malformed" or "unsupported".
    """
    return read_message(envelope.unwrap(data))


class Opened:
    """A certificate file taken apart: its message and its claims, of which nothing is proved.

    Raises CertificateError("malformed") for what is not in the strict form.
    """

    __slots__ = ("claims", "message")

    def __init__(self, data: bytes) -> None:
        self.message = envelope.unwrap(data)
        self.claims = envelope.claims_of(self.message)

    def certificate(self) -> Certificate:
        """Read the payload; raises CertificateError: "malformed" or "unsupported"."""
        return Certificate.from_payload(codec.decode(self.message.payload), self.claims)


def verify_certificate(
    data: bytes,
    keys: Mapping[bytes, TrustedKey],
    now: int,
    take_apart: Callable[[bytes], Opened] = Opened,
) -> Verified:
    """Verify one certificate.

    1. The bytes are a certificate in the strict format, with at least one signature.
    2. At least one signature names a trusted key. Signatures of unknown keys are ignored.
    3. Every signature that names a trusted key holds, under that key's own algorithm and over
       these very bytes. One that does not hold refuses the certificate, however good the others.
    4. ``now`` is neither before the first nor after the last moment.
    5. The payload is in the strict form, and this version enforces all that it demands.
    6. Constraints: of the keys that signed, those that may sign for this path, for this long and
       with all of these grants. There is at least one.
    7. A certificate with a grant has as many of them as one of them demands, itself included.

    What a caller still **must** do before anything is executed: prove that the binary, the
    policy file and the interpreter are those of the digests, through the descriptors that are
    then used; compare names with numbers of users and groups on this machine; judge the invoker
    by the invocation list; and refuse a grant unless the certificate's file carries the bit.

    Args:
        data: the whole file, read once.
        keys: the trust store, by key id.
        now: seconds since 1970.
        take_apart: ``Alike.open``, where many are verified.

    Returns:
        The certificate and the signers that steps 6 and 7 left.

    Raises:
        CertificateError: malformed, untrusted-key, bad-signature, not-yet-valid, expired,
            key-constraint, setuid-denied or unsupported.
    """
    # 1.
    opened = take_apart(data)
    # 2. and 3.
    good = _good_signers(opened.message, keys)
    # 4.
    check_moment(opened.claims.nbf, opened.claims.exp, now)
    # 5.
    certificate = opened.certificate()
    check_enforceable(certificate)
    # 6. and 7.
    return Verified(certificate, _allowed_signers(certificate, good))
