"""What a certificate says: plain classes, and their one form as a CBOR map.

Reading is strict. Every field has one type and one range, an enumeration has no unknown members,
a map no unknown keys, and whatever is optional is either absent or says something. Only
``extensions`` may hold what this version does not know: an extension can grant, so ignoring it
grants nothing, while an unknown critical option restricts and therefore refuses.

``to_payload`` and ``from_payload`` are inverse to each other.
"""

from __future__ import annotations

from certexec.certificate import fields
from certexec.certificate.conditions import Environment, Invocation, Limits
from certexec.certificate.identity import Elevation, Identity
from certexec.certificate.record import Record, optional, put
from certexec.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Certificate", "Claims", "Environment", "FileDigest", "Identity", "Invocation", "Limits",
    "PolicyRef", "Program", "check_enforceable",
]  # fmt: skip

VERSION = 1
LANGUAGE = 1
"""The version of the policy language: systrace's, as ``certexec.policy`` reads it."""
ACCESS = ("direct", "indirect", "file", "untrusted")
ROLES = ("interpreter", "loader", "library", "data")
INTEGRITY = ("auto", "exec-stop", "sealed", "cached")
LOG = ("audit", "full")
DENY, ASK = UNMATCHED = ("deny", "ask")

SHA256_SIZE = 32
SHA512_SIZE = 64
MAX_EMULATION = 31
"""bytes; the longest emulation name that systrace knows is shorter."""


def _digests(value: object, name: str) -> tuple[bytes, bytes]:
    digests = fields.a_map(value, name, (0, 1))
    return (
        fields.octets(digests[0], f"{name}: sha256", SHA256_SIZE),
        fields.octets(digests[1], f"{name}: sha512", SHA512_SIZE),
    )


class Claims(Record):
    """The CWT claims (RFC 8392), times in seconds since 1970.

    Attributes:
        iss: who issued it: the fingerprint of the first signing key.
        sub: the certificate's own name.
        iat, nbf, exp: when it was made, its first and its last moment (both included).
        cti: 16 random bytes, unique for each certificate.
    """

    __slots__ = ("cti", "exp", "iat", "iss", "nbf", "sub")
    CTI_SIZE = 16

    def __init__(self, iss: str, sub: str, iat: int, nbf: int, exp: int, cti: bytes) -> None:
        self.iss = iss
        self.sub = sub
        self.iat = iat
        self.nbf = nbf
        self.exp = exp
        self.cti = cti

    @classmethod
    def from_header(cls, value: object) -> Claims:
        """Read the value of COSE header 15; raises CertificateError("malformed")."""
        claims = fields.a_map(value, "claims", (1, 2, 4, 5, 6, 7))
        issuer = fields.text(claims[1], "issuer", fields.MAX_NAME)
        if not issuer.isprintable() or not issuer:
            raise fields.malformed("the issuer is empty or not printable")
        read = cls(
            iss=issuer,
            sub=fields.label(claims[2], "certificate name"),
            exp=fields.integer(claims[4], "expiry", 0, fields.MAX_TIME),
            nbf=fields.integer(claims[5], "first moment", 0, fields.MAX_TIME),
            iat=fields.integer(claims[6], "time of issue", 0, fields.MAX_TIME),
            cti=fields.octets(claims[7], "certificate id", cls.CTI_SIZE),
        )
        if read.nbf >= read.exp:
            raise fields.malformed("the certificate ends before it begins")
        return read

    def to_header(self) -> dict[int, object]:
        """Return the value of COSE header 15."""
        return {1: self.iss, 2: self.sub, 4: self.exp, 5: self.nbf, 6: self.iat, 7: self.cti}


class Program(Record):
    """The binary or script: absolute path, size in bytes, digests, way of access."""

    __slots__ = ("access", "path", "sha256", "sha512", "size")

    def __init__(
        self, path: str, size: int, sha256: bytes, sha512: bytes, access: str = "direct"
    ) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.sha512 = sha512
        self.access = access

    @classmethod
    def from_payload(cls, value: object) -> Program:
        """Read the map; raises CertificateError("malformed")."""
        program = fields.a_map(value, "program", (0, 1, 2, 3))
        sha256, sha512 = _digests(program[2], "program digests")
        return cls(
            fields.path(program[0], "program path"),
            fields.integer(program[1], "program size", 0, fields.MAX_SIZE_OF_FILE),
            sha256,
            sha512,
            fields.choice(program[3], "program access", ACCESS),
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map."""
        return {
            0: self.path,
            1: self.size,
            2: {0: self.sha256, 1: self.sha512},
            3: ACCESS.index(self.access),
        }


class PolicyRef(Record):
    """The policy, as text in the certificate or by absolute path, always with its SHA-256.

    Attributes:
        text, path: exactly one of the two is not None.
        sha256: digest of the policy's bytes.
        language: ``LANGUAGE``.
        unmatched: what happens to a call that no rule matches: "deny", or "ask": an agent decides.
        inherit: whether programs that the program executes stay under this policy when it has
            none for them.
        log_all: write down permitted calls too.
        emulations: the ABIs whose system calls are allowed at all.
    """

    __slots__ = (
        "emulations", "inherit", "language", "log_all", "path", "sha256", "text", "unmatched",
    )  # fmt: skip

    def __init__(
        self,
        text: str | None,
        path: str | None,
        sha256: bytes,
        language: int = LANGUAGE,
        unmatched: str = DENY,
        inherit: bool = True,
        log_all: bool = False,
        emulations: list[str] | None = None,
    ) -> None:
        self.text = text
        self.path = path
        self.sha256 = sha256
        self.language = language
        self.unmatched = unmatched
        self.inherit = inherit
        self.log_all = log_all
        self.emulations = ["native"] if emulations is None else emulations

    @classmethod
    def from_payload(cls, value: object) -> PolicyRef:
        """Read the map; raises CertificateError("malformed")."""
        policy = fields.a_map(value, "policy", (2, 3, 4, 5, 6, 7), (0, 1))
        if (0 in policy) == (1 in policy):
            raise fields.malformed("the policy is not exactly one of text and path")
        return cls(
            optional(policy, 0, lambda item: fields.text(item, "policy text", 1 << 16)),
            optional(policy, 1, lambda item: fields.path(item, "policy path")),
            fields.octets(policy[2], "policy sha256", SHA256_SIZE),
            fields.integer(policy[3], "policy language", 1, fields.MAX_UINT),
            fields.choice(policy[4], "unmatched action", UNMATCHED),
            fields.boolean(policy[5], "policy inheritance"),
            fields.boolean(policy[6], "policy logging"),
            fields.list_of(policy[7], "emulation", _emulation),
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map."""
        policy: dict[int, object] = {
            2: self.sha256,
            3: self.language,
            4: UNMATCHED.index(self.unmatched),
            5: self.inherit,
            6: self.log_all,
            7: list(self.emulations),
        }
        put(policy, 0, self.text)
        put(policy, 1, self.path)
        return policy


def _emulation(value: object, name: str) -> str:
    word = fields.text(value, name, MAX_EMULATION)
    if not word.isascii() or not word.isalnum():
        raise fields.malformed(f"{name} is not a word")
    return word


class FileDigest(Record):
    """A file that the program relies on: what for, absolute path, size, digests."""

    __slots__ = ("path", "role", "sha256", "sha512", "size")

    def __init__(self, role: str, path: str, size: int, sha256: bytes, sha512: bytes) -> None:
        self.role = role
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.sha512 = sha512

    @classmethod
    def from_payload(cls, value: object, name: str = "file") -> FileDigest:
        """Read the row; raises CertificateError("malformed")."""
        row = fields.row(value, name, 4)
        sha256, sha512 = _digests(row[3], f"{name} digests")
        return cls(
            fields.choice(row[0], f"{name} role", ROLES),
            fields.path(row[1], f"{name} path"),
            fields.integer(row[2], f"{name} size", 0, fields.MAX_SIZE_OF_FILE),
            sha256,
            sha512,
        )

    def to_payload(self) -> list[object]:
        """Return the row."""
        return [ROLES.index(self.role), self.path, self.size, {0: self.sha256, 1: self.sha512}]


def _options(value: object, name: str) -> dict[str, object]:
    if type(value) is not dict:
        raise fields.malformed(f"{name} are not a map")
    return {fields.label(key, name): item for key, item in value.items()}


class Certificate(Record):
    """One whole certificate; the attributes are those of the classes above."""

    __slots__ = (
        "claims", "critical", "environment", "extensions", "files", "identity", "integrity",
        "invocation", "limits", "log", "note", "policy", "program", "serial", "version",
    )  # fmt: skip

    def __init__(
        self,
        *,
        claims: Claims,
        serial: int,
        program: Program,
        policy: PolicyRef,
        invocation: Invocation,
        identity: Identity | None = None,
        limits: Limits | None = None,
        environment: Environment | None = None,
        files: list[FileDigest] | None = None,
        integrity: str = "auto",
        log: str = "audit",
        note: str = "",
        critical: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        version: int = VERSION,
    ) -> None:
        self.claims = claims
        self.version = version
        self.serial = serial
        self.program = program
        self.policy = policy
        self.identity = identity
        self.invocation = invocation
        self.limits = Limits() if limits is None else limits
        self.environment = environment
        self.files: list[FileDigest] = [] if files is None else files
        self.integrity = integrity
        self.log = log
        self.note = note
        self.critical = {} if critical is None else critical
        self.extensions = {} if extensions is None else extensions

    @classmethod
    def from_payload(cls, value: object, claims: Claims | None = None) -> Certificate:
        """Read the decoded payload; ``claims`` come from the protected header.

        Raises CertificateError: "malformed", or "unsupported" for another version of the format
        or a critical option, of which this version knows none.
        """
        if type(value) is dict and type(value.get(0)) is int and value[0] != VERSION:
            raise CertificateError(
                "unsupported", f"the certificate has format version {value[0]}, not {VERSION}"
            )
        payload = fields.a_map(
            value, "the payload", (0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13), (4, 6, 7)
        )
        critical = _options(payload[12], "critical options")
        if critical:
            raise CertificateError(
                "unsupported", f'the critical option "{min(critical)}" is not known here'
            )
        return cls(
            claims=Claims("", "", 0, 0, 0, b"") if claims is None else claims,
            version=fields.integer(payload[0], "version", VERSION, VERSION),
            serial=fields.integer(payload[1], "serial", 0, fields.MAX_UINT),
            program=Program.from_payload(payload[2]),
            policy=PolicyRef.from_payload(payload[3]),
            identity=optional(payload, 4, Identity.from_payload),
            invocation=Invocation.from_payload(payload[5]),
            limits=optional(payload, 6, Limits.from_payload),
            environment=optional(payload, 7, Environment.from_payload),
            files=fields.list_of(payload[8], "file", FileDigest.from_payload),
            integrity=fields.choice(payload[9], "integrity", INTEGRITY),
            log=fields.choice(payload[10], "log", LOG),
            note=fields.note(payload[11], "note"),
            critical=critical,
            extensions=_options(payload[13], "extensions"),
        )

    def with_serial(self, serial: int, claims: Claims) -> Certificate:
        """Return a certificate that says the same under another serial and with other claims."""
        other = Certificate.__new__(Certificate)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.serial, other.claims = serial, claims
        return other

    def to_payload(self) -> dict[int, object]:
        """Return the payload, ready to be encoded; the claims are not part of it."""
        payload: dict[int, object] = {
            0: self.version,
            1: self.serial,
            2: self.program.to_payload(),
            3: self.policy.to_payload(),
            5: self.invocation.to_payload(),
            8: [one.to_payload() for one in self.files],
            9: INTEGRITY.index(self.integrity),
            10: LOG.index(self.log),
            11: self.note,
            12: self.critical,
            13: self.extensions,
        }
        put(payload, 4, None if self.identity is None else self.identity.to_payload())
        put(payload, 6, self.limits.to_payload() or None)
        put(payload, 7, None if self.environment is None else self.environment.to_payload())
        return payload

    def is_grant(self) -> bool:
        """Tell whether the certificate gives anything above the invoker's own rights."""
        return self.identity is not None and self.identity.names_anything()

    def elevations(self) -> list[Elevation]:
        """Return as whom single calls may be made: whom rules may name behind ``as``."""
        return [] if self.identity is None else self.identity.elevations or []

    def lifetime(self) -> int:
        """Return the seconds from the first to the last moment."""
        return self.claims.exp - self.claims.nbf


ENFORCED_ACCESS = ("direct",)
ENFORCED_INTEGRITY = INTEGRITY
ENFORCED_ROLES = ("interpreter",)
ENFORCED_EMULATIONS = ("native", "linux", "linux64")
"""``linux`` admits the calls of the 32-bit ABI, under the policy's part for that emulation; the
others are x86-64's. x32 is always killed."""


def check_enforceable(certificate: Certificate) -> None:
    """Refuse everything that the format can say and this version does not enforce.

    Raises CertificateError("unsupported") naming the field.
    """
    problem = ""
    roles = [one.role for one in certificate.files if one.role not in ENFORCED_ROLES]
    foreign = [one for one in certificate.policy.emulations if one not in ENFORCED_EMULATIONS]
    if certificate.program.access not in ENFORCED_ACCESS:
        problem = f'access type "{certificate.program.access}"'
    elif certificate.integrity not in ENFORCED_INTEGRITY:
        problem = f'integrity "{certificate.integrity}"'
    elif roles:
        problem = f'digest of a file with the role "{roles[0]}"'
    elif len(certificate.files) > 1:
        problem = "more than one interpreter"
    elif foreign:
        problem = f'emulation "{foreign[0]}"'
    elif certificate.policy.language != LANGUAGE:
        problem = f"policy language {certificate.policy.language}"
    elif certificate.files and certificate.is_grant():
        problem = "a script with an identity"
    if problem:
        raise CertificateError("unsupported", f"not enforced by this version: {problem}")
