"""docs/certificate.cddl against what is written and against what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from certexec.certificate.model import Certificate
from tests.certificate.simulator import Simulator, full_payload, script_payload
from tests.certificate.test_envelope import ATTACKS as ENVELOPE_ATTACKS
from tests.certificate.test_model import ATTACKS as MODEL_ATTACKS
from tests.certificate.test_model import certificates
from tests.certificate.test_verify import CLAIMS

cddl = pytest.importorskip("cddl_verifier", reason="cddl-verifier is not installed")
SCHEMA = (Path(__file__).resolve().parents[2] / "docs" / "certificate.cddl").read_text()
VALIDATOR = cddl.Validator(SCHEMA)

BEYOND_CDDL = {
    # what the text says in comments, because CDDL cannot: forms of names and paths, order, sums
    "a note with an escape sequence", "a note with a NUL", "a relative path",
    "a path with a double slash", "a path that begins with two slashes", "a path with a dot",
    "a path with two dots", "a path that ends in two dots", "a path with a slash at its end",
    "a path with a NUL", "a policy text with a NUL", "language 0",
    "an emulation with a space", "an empty emulation", "an empty identity",
    "a user name with a colon", "a user name with a newline",
    "a user name that looks like a number", "an elevation twice", "a group twice",
    "a capability twice",
    "everyone with a name", "everyone with a number", "more than 1024 entries",
    "an argument with a NUL", "a window that ends before it begins", "empty limits",
    "a limit softer than hard", "a variable name with an equals sign",
    "a variable name with a NUL", "a set variable name with an equals sign", "a value with a NUL",
    "an end before the beginning", "a name with a slash",
    "a name with an escape sequence", "an issuer with a newline", "the same key twice",
}  # fmt: skip


def valid(data: bytes) -> bool:
    result = VALIDATOR.validate(data, "certificate")
    return bool(result.valid)


def test_the_text_is_cddl() -> None:
    assert cddl.schema_diagnostics(Path(__file__).parents[2] / "docs" / "certificate.cddl") == ()


@pytest.mark.parametrize("payload", [None, full_payload(), script_payload()])
def test_certificates_fit(payload: Any) -> None:
    simulator = Simulator("alice", "bob")
    if payload is not None:
        simulator.payload = payload
    result = cddl.validate(SCHEMA, simulator.build(), "certificate", require_deterministic=True)
    assert result.valid, result.diagnostics


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(certificates)
def test_any_certificate_fits(made: Certificate) -> None:
    simulator = Simulator()
    simulator.payload = made.to_payload()
    result = VALIDATOR.validate(simulator.build(), "certificate")
    assert result.valid, result.diagnostics


@pytest.mark.parametrize("name", MODEL_ATTACKS)
def test_payload_does_not_fit_with(name: str) -> None:
    simulator = Simulator()
    simulator.payload = full_payload()
    MODEL_ATTACKS[name](simulator.payload)
    assert valid(simulator.build()) is (name in BEYOND_CDDL)


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_do_not_fit_with(name: str) -> None:
    simulator = Simulator()
    CLAIMS[name](simulator.claims)
    assert valid(simulator.build()) is (name in BEYOND_CDDL)


@pytest.mark.parametrize("name", ENVELOPE_ATTACKS)
def test_envelope_does_not_fit_with(name: str) -> None:
    simulator = Simulator()
    ENVELOPE_ATTACKS[name](simulator)
    assert valid(simulator.build()) is (name in BEYOND_CDDL)


def test_another_preamble_does_not_fit() -> None:
    simulator = Simulator()
    simulator.head = simulator.head.replace(b"exit 126", b"exit 127")
    assert not valid(simulator.build())
