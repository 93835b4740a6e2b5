"""Which kind of key a file holds, so that a wrong file is named and not only refused.

Never imported on the run path, which reads nothing but its own store.
"""

from __future__ import annotations

import binascii
import os

from certexec.certificate.envelope import PREFIX
from certexec.errors import TrustError
from certexec.trust.agent import ssh_fingerprint
from certexec.trust.keys import LINE_PREFIX, MAX_LINE, PublicKey, parse_public

PRIVATE, OPENSSH, PUBLIC, SSH_PUBLIC = "private", "openssh", "public", "ssh-public"
OTHER_KINDS = {
    "CERTIFICATE": "an X.509 certificate",
    "TRUSTED CERTIFICATE": "an X.509 certificate",
    "PUBLIC KEY": "a public key in PEM",
    "RSA PUBLIC KEY": "a public key in PEM",
}
"""Labels of PEM files (RFC 7468) that people take for one of ours."""
_BEGIN = b"-----BEGIN "
_SSH_KINDS = (b"ssh-", b"ecdsa-sha2-", b"sk-")
KEYGEN_HINT = '"certexec keygen -f NAME" makes a pair, NAME.key and NAME.pub'


def _label(content: bytes) -> str:
    """Return the label of a PEM file, or an empty string."""
    line = content.lstrip().partition(b"\n")[0].rstrip()
    if not line.startswith(_BEGIN) or not line.endswith(b"-----"):
        return ""
    return line[len(_BEGIN) : -5].decode("ascii", "replace")


def recognise(content: bytes) -> str:
    """Say what the first bytes of a file are: one of the kinds above, words for people, or ""."""
    label = _label(content)
    if label == "OPENSSH PRIVATE KEY":
        return OPENSSH
    if label.endswith("PRIVATE KEY"):
        return PRIVATE
    if label in OTHER_KINDS:
        return OTHER_KINDS[label]
    if content.startswith(PREFIX):
        return "a certificate of certexec"
    if content.startswith(LINE_PREFIX.encode()):
        return PUBLIC
    if content.startswith(_SSH_KINDS):
        return SSH_PUBLIC
    return ""


def _ssh_fingerprint_of_line(content: bytes) -> str:
    try:
        return ssh_fingerprint(binascii.a2b_base64(content.split()[1], strict_mode=True))
    except (ValueError, IndexError):
        return "SHA256:..."


def _stem(path: str, suffix: str) -> str:
    return path.removesuffix(suffix) if path.endswith(suffix) else path


def missing_key(path: str, suffix: str) -> TrustError:
    """Make the error for a key file that is not there; ``suffix`` is what its name ends with."""
    if not path.endswith(suffix) and os.path.lexists(path + suffix):
        hint = f'did you mean "{path}{suffix}"?'
    else:
        hint = f'make one with "certexec keygen -f {_stem(path, suffix)}"'
    return TrustError("not-found", f'there is no key "{path}"', hint)


def wrong_private(path: str, content: bytes) -> TrustError | None:
    """Return None when a file looks like a private key, else the error that says what it is."""
    kind = recognise(content)
    if kind == PRIVATE:
        return None
    if kind == OPENSSH:
        return TrustError(
            "bad-key",
            f"\"{path}\" is a private key in OpenSSH's own form",
            f'an agent can use it: "ssh-add {path}", then "-k agent:SHA256:..." as '
            '"certexec key list --agent" shows it',
        )
    if kind == SSH_PUBLIC:
        return TrustError(
            "bad-key",
            f'"{path}" is a public key of OpenSSH, not a private key',
            f'if an agent holds its private half: "-k agent:{_ssh_fingerprint_of_line(content)}"',
        )
    if kind == PUBLIC:
        private = _stem(path, ".pub") + ".key"
        hint = f'give "{private}"' if os.path.exists(private) else "give the .key file"
        return TrustError("bad-key", f'"{path}" is a public key, not a private key', hint)
    what = f"{kind}, not a private key" if kind else "not a private key"
    return TrustError("bad-key", f'"{path}" is {what}', KEYGEN_HINT)


def wrong_public(path: str, content: bytes) -> TrustError | None:
    """Return None when a file looks like a public key, else the error that says what it is."""
    kind = recognise(content)
    if kind == PUBLIC:
        return None
    if kind == PRIVATE:
        public = _stem(path, ".key") + ".pub"
        if os.path.exists(public):
            hint = f'give its public half: "{public}"'
        else:
            hint = f'write its public half with "certexec key public -k {path} -o {public}"'
        return TrustError("bad-key", f'"{path}" is a private key', hint)
    if kind in (OPENSSH, SSH_PUBLIC):
        half = "private" if kind == OPENSSH else "public"
        shown = "SHA256:..." if kind == OPENSSH else _ssh_fingerprint_of_line(content)
        return TrustError(
            "bad-key",
            f'"{path}" is a {half} key of OpenSSH',
            f'once it is in an agent: "certexec key public -k agent:{shown} -o NAME.pub"',
        )
    what = f"{kind}, not a public key" if kind else "not a public key of certexec"
    return TrustError("bad-key", f'"{path}" is {what}', KEYGEN_HINT)


def read_public(path: str) -> PublicKey:
    """Read a .pub file.

    Raises TrustError: "not-found", "unreadable", or "bad-key" for what is no usable public key;
    every message names the file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_LINE + 1)
    except FileNotFoundError:
        raise missing_key(path, ".pub") from None
    except OSError as error:
        raise TrustError("unreadable", f'cannot read "{path}": {error.strerror}') from None
    problem = wrong_public(path, content)
    if problem is not None:
        raise problem
    try:
        return parse_public(content)
    except TrustError as error:
        raise TrustError(error.reason, f'"{path}": {error.message}', error.hint) from None
