"""Making certificates: what is made verifies, and what cannot be kept is not made."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from certexec.certificate import sign as sign_module
from certexec.certificate.model import Certificate, Claims, FileDigest, check_enforceable
from certexec.certificate.sign import sign_certificate
from certexec.certificate.verify import verify_certificate
from certexec.errors import CertificateError
from certexec.trust.constraints import Constraints
from certexec.trust.store import TrustedKey
from tests.certificate.simulator import NOW, good_payload, key
from tests.certificate.test_model import certificates

CLAIMS = Claims("tester", "hello", NOW, NOW, NOW + 60, bytes(16))


def good() -> Certificate:
    return Certificate.from_payload(good_payload(), CLAIMS)


def trusting(*names: str) -> dict[bytes, TrustedKey]:
    anything = Constraints(grants=["user:root"])
    return {
        key(name).public.kid: TrustedKey(key(name).public, anything, name) for name in names
    }


def test_what_is_signed_verifies() -> None:
    data = sign_certificate(good(), [key("alice"), key("k-p256", "p256")])
    assert verify_certificate(data, trusting("alice"), NOW).certificate == good()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(certificates)
def test_whatever_is_signed_verifies_and_the_unenforceable_is_not_signed(made: Certificate) -> None:
    made.claims = CLAIMS
    try:
        check_enforceable(made)
    except CertificateError as error:
        assert error.reason == "unsupported"
        with pytest.raises(CertificateError):
            sign_certificate(made, [key("alice")])
        return
    data = sign_certificate(made, [key("alice")])
    assert verify_certificate(data, trusting("alice"), NOW).certificate == made


def test_a_value_that_cannot_be_read_back_is_not_signed() -> None:
    certificate = good()
    certificate.program.path = "relative"
    with pytest.raises(CertificateError) as caught:
        sign_certificate(certificate, [key("alice")])
    assert caught.value.reason == "malformed"


def test_a_critical_option_is_not_signed() -> None:
    certificate = good()
    certificate.critical["unheard-of"] = 1
    with pytest.raises(CertificateError) as caught:
        sign_certificate(certificate, [key("alice")])
    assert caught.value.reason == "unsupported"


def test_a_library_s_digest_is_not_signed() -> None:
    certificate = good()
    program = certificate.program
    certificate.files.append(
        FileDigest("library", "/lib/x.so", 1, program.sha256, program.sha512)
    )
    with pytest.raises(CertificateError) as caught:
        sign_certificate(certificate, [key("alice")])
    assert caught.value.reason == "unsupported"


def test_a_policy_that_is_too_long_is_not_signed() -> None:
    certificate = good()
    certificate.policy.text = "x" * 65000
    with pytest.raises(CertificateError) as caught:
        sign_certificate(certificate, [key("alice")])
    assert "limit" in caught.value.message
    assert "--policy-path" in caught.value.hint


def test_a_second_decoder_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(data: bytes) -> Any:
        return {"not": "that"}

    monkeypatch.setattr(sign_module.cbor2, "loads", other)
    with pytest.raises(CertificateError) as caught:
        sign_certificate(good(), [key("alice")])
    assert caught.value.reason == "internal"


def test_true_and_1_are_not_the_same_to_the_second_decoder() -> None:
    assert not sign_module._agree([1], [True])
    assert not sign_module._agree({1: 0}, {1: False})
    assert sign_module._agree({1: [True, b"x", "y", None]}, {1: [True, b"x", "y", None]})


