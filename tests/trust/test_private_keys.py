"""Private keys: how they are kept, and that nothing else opens them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from certexec.errors import TrustError
from certexec.trust.private_keys import (
    MAX_FILE,
    from_pem,
    generate,
    is_encrypted,
    read_key_file,
)
from tests.certificate.simulator import key

KINDS = ("ed25519", "p256", "mldsa65")


def refused(pem: bytes, passphrase: bytes | None) -> str:
    with pytest.raises(TrustError) as caught:
        from_pem(pem, passphrase, "x.key")
    assert "x.key" in caught.value.message or "kind" in caught.value.message
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passphrase", [None, b"secret", "ünïcode".encode()])
def test_a_key_file_reads_back_as_the_same_key(kind: str, passphrase: bytes | None) -> None:
    made = key(f"k-{kind}", kind)
    pem = made.to_pem(passphrase)
    assert len(pem) < MAX_FILE
    assert is_encrypted(pem) is (passphrase is not None)
    read = from_pem(pem, passphrase, "x.key", "comment")
    assert read.public.raw == made.public.raw
    assert read.public.comment == "comment"
    assert made.public.verify(read.sign(b"m"), b"m")


def test_a_wrong_passphrase_does_not_open_a_key() -> None:
    pem = key("alice").to_pem(b"secret")
    for wrong in (b"Secret", b"secret\n", b"", None):
        assert refused(pem, wrong) == "bad-passphrase"


def test_encryption_uses_scrypt_and_fresh_salt() -> None:
    first, second = (key("alice").to_pem(b"secret") for _ in range(2))
    assert first != second
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    shown = subprocess.run([openssl, "asn1parse"], input=first, capture_output=True).stdout
    assert b"scrypt" in shown and b"aes-256-cbc" in shown and b"PBKDF2" not in shown


def test_openssl_opens_our_keys() -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    pem = key("alice").to_pem(b"secret")
    done = subprocess.run(
        [openssl, "pkey", "-passin", "pass:secret", "-pubout", "-outform", "DER"],
        input=pem, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(key("alice").public.raw)


def pem_of(private: object) -> bytes:
    pem: bytes = private.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def test_keys_of_other_kinds_are_refused() -> None:
    for private in (
        rsa.generate_private_key(65537, 2048),
        ed448.Ed448PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ):
        assert refused(pem_of(private), None) == "bad-key"


@pytest.mark.parametrize("pem", [b"", b"junk", key("alice").public.line().encode()])
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    assert refused(pem, None) == "bad-key"


def test_an_unknown_kind_is_not_made() -> None:
    with pytest.raises(TrustError) as caught:
        generate("rsa")
    assert caught.value.reason == "bad-key"


def test_two_keys_are_never_the_same() -> None:
    assert generate("ed25519").public.raw != generate("ed25519").public.raw


def test_a_missing_long_or_odd_key_file_is_refused(tmp_path: Path) -> None:
    long = tmp_path / "long.key"
    long.write_bytes(b"x" * (MAX_FILE + 1))
    for path, reason in ((tmp_path / "no.key", "not-found"), (tmp_path, "unreadable"),
                         (long, "bad-key")):  # fmt: skip
        with pytest.raises(TrustError) as caught:
            read_key_file(str(path))
        assert caught.value.reason == reason
