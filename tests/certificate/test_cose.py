"""COSE_Sign against the examples of the COSE working group."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from certexec.certificate import cose
from certexec.certificate.codec import Tag, decode
from certexec.errors import CertificateError
from certexec.trust.keys import ED25519, P256, PublicKey

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus" / "vectors"
LEGACY = {-8: -19, -7: -9}
"""EdDSA and ES256, which RFC 9864 deprecates and the working group's examples use."""

FITTING = [
    "cose-wg-sign-tests/ecdsa-01.json",
    "cose-wg-sign-tests/sign-pass-01.json",
    "cose-wg-sign-tests/sign-pass-02.json",
    "cose-wg-sign-tests/sign-pass-03.json",
    "cose-wg-eddsa-examples/eddsa-01.json",
]
FAILING = [f"cose-wg-sign-tests/sign-fail-{number:02}.json" for number in (1, 2, 3, 4, 6, 7)]
UNFITTING = {
    "cose-wg-eddsa-examples/eddsa-02.json": "its key is Ed448, which certificates never have",
    "cose-wg-eddsa-examples/eddsa-sig-01.json": "it is COSE_Sign1, a certificate is COSE_Sign",
    "cose-wg-eddsa-examples/eddsa-sig-02.json": "it is COSE_Sign1, and its key is Ed448",
}


def load(name: str) -> dict[str, Any]:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    vector: dict[str, Any] = json.loads(path.read_text())
    return vector


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_of(signer: dict[str, Any]) -> PublicKey:
    key = signer["key"]
    if key["crv"] == "Ed25519":
        return PublicKey(ED25519, bytes.fromhex(key["x_hex"]))
    assert key["crv"] == "P-256"
    return PublicKey(P256, b"\x04" + unpadded(key["x"]) + unpadded(key["y"]))


def message_of(vector: dict[str, Any]) -> cose.SignMessage:
    decoded = decode(bytes.fromhex(vector["output"]["cbor"]), tags=True)
    if isinstance(decoded, Tag):
        if decoded.number != cose.TAG_SIGN:
            raise CertificateError("malformed", "another tag")
        decoded = decoded.value
    return cose.parse(decoded)


def holds(vector: dict[str, Any], legacy: dict[int, int] | None) -> bool:
    message = message_of(vector)
    signers = vector["input"]["sign"]["signers"]
    assert len(signers) == len(message.signatures)
    return all(
        cose.signature_holds(
            message, one, key_of(signer), bytes.fromhex(signer.get("external", "")),
            legacy_algorithms=legacy,
        )
        for signer, one in zip(signers, message.signatures, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("name", FITTING)
def test_working_group_example_verifies(name: str) -> None:
    vector = load(name)
    assert not vector.get("fail")
    assert holds(vector, LEGACY)


@pytest.mark.parametrize("name", FITTING)
def test_working_group_example_is_refused_under_the_deprecated_algorithm_names(name: str) -> None:
    assert not holds(load(name), None)


@pytest.mark.parametrize("name", FITTING)
def test_what_the_working_group_signs_is_what_we_sign(name: str) -> None:
    vector = load(name)
    message = message_of(vector)
    for signer, one, expected in zip(
        vector["input"]["sign"]["signers"], message.signatures,
        vector["intermediates"]["signers"], strict=True,
    ):  # fmt: skip
        external = bytes.fromhex(signer.get("external", ""))
        made = cose.to_be_signed(message.protected, one.protected, external, message.payload)
        assert made.hex().upper() == expected["ToBeSign_hex"]


@pytest.mark.parametrize("name", FAILING)
def test_failing_working_group_example_fails(name: str) -> None:
    vector = load(name)
    assert vector["fail"]
    try:
        assert not holds(vector, LEGACY)
    except CertificateError as error:
        assert error.reason == "malformed"


@pytest.mark.parametrize(("name", "why"), UNFITTING.items())
def test_unfitting_working_group_example_is_refused(name: str, why: str) -> None:
    vector = load(name)
    if "Sign1" in why:
        with pytest.raises(CertificateError):
            message_of(vector)
    else:
        assert vector["input"]["sign"]["signers"][0]["key"]["crv"] == "Ed448"


def test_every_example_in_the_corpus_gets_its_verdict() -> None:
    """Whatever else is put into the corpus: fitting keys must verify, failures must fail."""
    judged = 0
    for path in sorted(VECTORS.glob("cose-wg-*/*.json")):
        vector = load(str(path.relative_to(VECTORS)))
        signers = vector["input"].get("sign", {}).get("signers", [])
        algorithms = {(one["key"]["crv"], one["protected"].get("alg")) for one in signers}
        if not signers or not algorithms <= {("Ed25519", "EdDSA"), ("P-256", "ES256")}:
            continue
        try:
            verdict = holds(vector, LEGACY)
        except CertificateError:
            verdict = False
        assert verdict is not bool(vector.get("fail")), path
        judged += 1
    if not judged:
        pytest.skip(f"{VECTORS} is not here")
    assert judged >= len(FITTING)


GOOD = [b"", {}, b"x", [[b"", {}, b"s"]]]


@pytest.mark.parametrize(
    "items",
    [
        None, [], {}, [b"", {}, b"x"], [b"", {}, None, GOOD[3]], ["", {}, b"x", GOOD[3]],
        [b"", [], b"x", GOOD[3]], [b"", {}, "x", GOOD[3]], [b"", {}, b"x", []],
        [b"", {}, b"x", {}], [b"", {}, b"x", [[b"", {}]]], [b"", {}, b"x", [[b"", {}, "s"]]],
        [b"", {}, b"x", [["", {}, b"s"]]], [b"", {}, b"x", [[b"", b"", b"s"]]],
        [b"\x80", {}, b"x", GOOD[3]], [b"\xff", {}, b"x", GOOD[3]],
        [b"", {}, b"x", [[b"\x01", {}, b"s"]]], [*GOOD, b""],
    ],
)  # fmt: skip
def test_what_is_not_cose_sign_is_malformed(items: Any) -> None:
    cose.parse(GOOD)
    with pytest.raises(CertificateError) as caught:
        cose.parse(items)
    assert caught.value.reason == "malformed"
