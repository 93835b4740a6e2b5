"""Files that are given as keys: what they are is said, and what would be right."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.certificate.envelope import HEAD
from certexec.errors import TrustError
from certexec.trust.agent import ssh_blob, ssh_fingerprint
from certexec.trust.key_files import (
    missing_key,
    read_public,
    recognise,
    wrong_private,
    wrong_public,
)
from certexec.trust.keys import MAX_LINE
from tests.certificate.simulator import key

PUBLIC = key("alice").public
BLOB = ssh_blob(PUBLIC) or b""
SSH_LINE = b"ssh-ed25519 " + base64.b64encode(BLOB) + b" somebody\n"


def pem(label: str) -> bytes:
    return f"-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n".encode()


KINDS: dict[str, tuple[bytes, str, str]] = {
    # content, what wrong_private says, what wrong_public says ("" where it is right)
    "a private key": (key("alice").to_pem(None), "", "is a private key"),
    "an encrypted private key": (pem("ENCRYPTED PRIVATE KEY"), "", "is a private key"),
    "an old private key": (pem("EC PRIVATE KEY"), "", "is a private key"),
    "a public key": (PUBLIC.line().encode(), "is a public key, not a private key", ""),
    "OpenSSH's private key": (
        pem("OPENSSH PRIVATE KEY"), "OpenSSH's own form", "a private key of OpenSSH",
    ),
    "OpenSSH's public key": (SSH_LINE, "a public key of OpenSSH", "a public key of OpenSSH"),
    "an X.509 certificate": (pem("CERTIFICATE"), "an X.509 certificate, not", "X.509 certificate"),
    "a public key in PEM": (pem("PUBLIC KEY"), "a public key in PEM, not", "key in PEM, not"),
    "a certificate": (HEAD + b"x", "a certificate of certexec, not", "certificate of certexec"),
    "something": (b"junk", "is not a private key", "is not a public key of certexec"),
    "nothing": (b"", "is not a private key", "is not a public key of certexec"),
    "PEM of no kind": (pem("PUBLIC KEYS"), "is not a private key", "is not a public key"),
    "half a label": (b"-----BEGIN PRIVATE KEY", "is not a private key", "is not a public key"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    content, as_private, as_public = KINDS[name]
    path = str(tmp_path / "file")
    for error, expected in (
        (wrong_private(path, content), as_private), (wrong_public(path, content), as_public),
    ):  # fmt: skip
        if not expected:
            assert error is None
            continue
        assert error is not None
        assert error.reason == "bad-key"
        assert f'"{path}"' in error.message and expected in error.message
        assert error.hint


def test_the_right_half_is_named_when_it_lies_beside(tmp_path: Path) -> None:
    private, public = tmp_path / "ops.key", tmp_path / "ops.pub"
    for path in (private, public):
        path.touch()
    error = wrong_public(str(private), key("alice").to_pem(None))
    assert error is not None and error.hint.endswith(f'"{public}"')
    error = wrong_private(str(public), PUBLIC.line().encode())
    assert error is not None and error.hint.endswith(f'"{private}"')
    public.unlink()
    error = wrong_public(str(private), key("alice").to_pem(None))
    assert error is not None
    assert f"certexec key public -k {private} -o {public}" in error.hint


def test_an_ssh_key_s_reference_is_spelled_out() -> None:
    for error in (wrong_private("id.pub", SSH_LINE), wrong_public("id.pub", SSH_LINE)):
        assert error is not None
        assert f"agent:{ssh_fingerprint(BLOB)}" in error.hint
    for damaged in (b"ssh-ed25519", b"ssh-ed25519 !!!", b"ssh-ed25519 AAA"):
        error = wrong_public("id.pub", damaged)
        assert error is not None and "SHA256:..." in error.hint


@given(st.binary(max_size=200))
def test_any_bytes_are_something(content: bytes) -> None:
    assert isinstance(recognise(content), str)
    wrong_private("x", content)
    wrong_public("x", content)


def test_a_missing_key_is_found_under_its_full_name_or_made(tmp_path: Path) -> None:
    path = str(tmp_path / "ops")
    error = missing_key(path, ".key")
    assert error.reason == "not-found"
    assert error.hint == f'make one with "certexec keygen -f {path}"'
    assert missing_key(path + ".key", ".key").hint == error.hint
    (tmp_path / "ops.key").touch()
    assert missing_key(path, ".key").hint == f'did you mean "{path}.key"?'


def test_a_public_key_is_read_and_every_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ops.pub"
    path.write_text(PUBLIC.line() + "\n")
    assert read_public(str(path)).kid == PUBLIC.kid
    missing, directory = tmp_path / "no.pub", tmp_path
    long, damaged = tmp_path / "long.pub", tmp_path / "damaged.pub"
    long.write_text(PUBLIC.line() + " " + "x" * MAX_LINE)
    damaged.write_text(PUBLIC.line()[:30])
    for given_path, reason in (
        (missing, "not-found"), (directory, "unreadable"), (long, "bad-key"), (damaged, "bad-key"),
    ):  # fmt: skip
        with pytest.raises(TrustError) as caught:
            read_public(str(given_path))
        assert caught.value.reason == reason
        assert f'"{given_path}"' in caught.value.message
