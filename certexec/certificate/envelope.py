"""The certificate file: a magic number, a fixed preamble, and one COSE_Sign message.

::

    55799( 0x43584543( [ preamble, 98( COSE_Sign ) ] ) )        d9d9f7 da43584543 82 ...

The first eight bytes are what binfmt_misc recognises (RFC 9277 section 2.2: a tag number of four
bytes, here "CXEC", inside the tag for self-described CBOR). Everything in the file up to and
including tag 98 is the same in every certificate and is compared as bytes.
"""

from __future__ import annotations

from certexec.certificate import codec, cose
from certexec.certificate.model import Claims
from certexec.errors import CertificateError

PREFIX = bytes.fromhex("d9d9f7da43584543")
"""The magic number: tag 55799 and tag 0x43584543. No byte of it is NUL."""
PREAMBLE = (
    " 2>/dev/null\n"
    "echo 'certexec: no certexec handler is registered for this certificate; "
    'run "certexec setup" or "certexec binfmt register"\' >&2\n'
    "exit 126\n"
)
"""What a shell sees that is handed the file because the kernel has no handler for it.

Shells, and glibc's execvp(3) in env, nice, find and xargs, take a file that the kernel cannot
execute for a shell script. As one, its first line is the file's first bytes as the name of a
command, which is not found (and need not be talked about), its second says what is wrong, and the
third ends with 126. There is no NUL in these lines on purpose: bash, dash and zsh would then call
the file binary instead of saying what is wrong. The text stands before every byte that a signer
chooses, so a shell never gets as far as those.
"""
MAX_SIZE = 65536
"""bytes; one read, and far above what a policy of hundreds of lines needs."""
MAX_SIGNATURES = 8
"""Enough for every threshold that people use, few enough to check them all."""
KID_SIZE = 32
"""bytes; a SHA-256 COSE_Key thumbprint (RFC 9679)."""
CONTENT_TYPE = "application/certexec+cbor"
EXTERNAL_AAD = b"certexec certificate v1"
"""Signed with every certificate, so that no other protocol's signature can be taken for one."""

HEAD = PREFIX + b"\x82" + codec.encode(PREAMBLE) + b"\xd8\x62"
"""All that comes before the COSE_Sign array."""

BODY_HEAD = codec.encode(
    {cose.HEADER_CRIT: [cose.HEADER_CWT_CLAIMS], cose.HEADER_CONTENT_TYPE: CONTENT_TYPE,
     cose.HEADER_CWT_CLAIMS: None}
)[:-1]  # fmt: skip
"""What stands before the claims in the protected header of every certificate."""
_BODY_LABELS = {cose.HEADER_CRIT, cose.HEADER_CONTENT_TYPE, cose.HEADER_CWT_CLAIMS}
_SIGNER_LABELS = {cose.HEADER_ALG, cose.HEADER_KID}


def _malformed(message: str) -> CertificateError:
    return CertificateError("malformed", message)


def _check_signature(one: cose.Signature) -> bytes:
    """Check the form of one COSE_Signature and return its kid."""
    if one.unprotected:
        raise _malformed("a signature has unprotected headers")
    if set(one.headers) != _SIGNER_LABELS:
        raise _malformed("a signature's headers are not exactly algorithm and key id")
    if type(one.headers[cose.HEADER_ALG]) is not int:
        raise _malformed("a signature's algorithm is not an integer")
    kid = one.headers[cose.HEADER_KID]
    if type(kid) is not bytes or len(kid) != KID_SIZE:
        raise _malformed(f"a signature's key id is not a byte string of {KID_SIZE}")
    return kid


def _body_headers(protected: bytes) -> cose.Headers:
    """Decode the body's protected header; its beginning is compared as bytes."""
    if not protected.startswith(BODY_HEAD):
        return cose.read_protected(protected)
    return {
        cose.HEADER_CRIT: [cose.HEADER_CWT_CLAIMS], cose.HEADER_CONTENT_TYPE: CONTENT_TYPE,
        cose.HEADER_CWT_CLAIMS: codec.decode(protected[len(BODY_HEAD) :]),
    }  # fmt: skip


def unwrap(data: bytes) -> cose.SignMessage:
    """Read a certificate file and return its message, with every header in the expected form.

    Nothing is verified: ``verify.verify_certificate`` does that. Raises
    CertificateError("malformed") for any byte that does not stand where it must.
    """
    if not data.startswith(PREFIX):
        raise _malformed("not a certificate: the first bytes are not its magic number")
    if len(data) > MAX_SIZE:
        raise _malformed(f"longer than {MAX_SIZE} bytes")
    if not data.startswith(HEAD):
        raise _malformed("the preamble is not the one that every certificate has")
    message = cose.parse(codec.decode(data[len(HEAD) :]), _body_headers)
    if message.unprotected:
        raise _malformed("the body has unprotected headers")
    headers = message.headers
    if set(headers) != _BODY_LABELS:
        raise _malformed("the body's headers are not exactly crit, content type and claims")
    if headers[cose.HEADER_CRIT] != [cose.HEADER_CWT_CLAIMS]:
        raise _malformed("the claims are not marked critical, or something else is")
    if headers[cose.HEADER_CONTENT_TYPE] != CONTENT_TYPE:
        raise _malformed("the content is of another type")
    if len(message.signatures) > MAX_SIGNATURES:
        raise _malformed(f"more than {MAX_SIGNATURES} signatures")
    kids = [_check_signature(one) for one in message.signatures]
    if len(set(kids)) != len(kids):
        raise _malformed("two signatures name the same key")
    return message


def claims_of(message: cose.SignMessage) -> Claims:
    """Return the claims of an unwrapped message; raises CertificateError("malformed")."""
    return Claims.from_header(message.headers[cose.HEADER_CWT_CLAIMS])


def wrap(message: cose.SignMessage) -> bytes:
    """Return the certificate file that holds ``message``.

    Raises CertificateError("malformed") when the result would be too long to be read again.
    """
    data = HEAD + codec.encode(message.to_items())
    if len(data) > MAX_SIZE:
        raise CertificateError(
            "malformed",
            f"the certificate would be {len(data)} bytes long, the limit is {MAX_SIZE}",
            "shorten the policy or refer to it by path (--policy-path)",
        )
    return data
