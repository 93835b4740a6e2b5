"""The committed certificate: what was signed once must verify for good."""

import subprocess
import time
from pathlib import Path

import pytest

from certexec.certificate.verify import verify_certificate
from certexec.trust.constraints import Constraints
from certexec.trust.keys import parse_public
from certexec.trust.store import TrustedKey, by_kid

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATE = ROOT / "certs" / "example.cert"
PUBLIC = parse_public((ROOT / "keys" / "example.pub").read_text())
KEY = TrustedKey(PUBLIC, Constraints(), "example")


def test_the_committed_certificate_verifies() -> None:
    verified = verify_certificate(CERTIFICATE.read_bytes(), by_kid([KEY]), int(time.time()))
    certificate = verified.certificate
    assert certificate.claims.sub == "example"
    assert certificate.program.path == "/usr/bin/true"
    assert certificate.claims.iss == KEY.key.fingerprint
    assert not certificate.is_grant()


def test_its_policy_is_the_committed_one() -> None:
    verified = verify_certificate(CERTIFICATE.read_bytes(), by_kid([KEY]), int(time.time()))
    policy = (ROOT / "certs" / "example.policy").read_text()
    assert verified.certificate.policy.text == policy


def test_it_fits_the_committed_cddl() -> None:
    cddl = pytest.importorskip("cddl_verifier", reason="cddl-verifier is not installed")
    schema = (ROOT / "docs" / "certificate.cddl").read_text()
    result = cddl.validate(schema, CERTIFICATE.read_bytes(), "certificate",
                           require_deterministic=True)
    assert result.valid, result.diagnostics


def test_no_private_key_is_in_the_sources() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    if listed.returncode:
        pytest.skip("this is not a git work tree")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file():
            head = path.read_bytes()[:64]
            assert not head.startswith(b"-----BEGIN") or b"PRIVATE" not in head, name
