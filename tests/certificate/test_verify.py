"""Attacks on certificates, each told as what the attacker changes and what must come of it."""

import time
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from certexec.certificate import codec, cose, envelope
from certexec.certificate.verify import _date, read_unverified, verify_certificate
from certexec.errors import CertificateError
from tests.certificate.simulator import (
    DAY,
    NOW,
    Signer,
    Simulator,
    full_payload,
    key,
    script_payload,
)


def reason(simulator: Simulator) -> str:
    with pytest.raises(CertificateError) as caught:
        simulator.verify()
    assert caught.value.message == caught.value.message.strip()
    return caught.value.reason


def test_a_good_certificate_is_verified() -> None:
    verified = Simulator().verify()
    assert verified.certificate.program.path == "/usr/bin/hello"
    assert verified.certificate.claims.sub == "hello"
    assert [one.name for one in verified.signers] == ["alice"]


@pytest.mark.parametrize("kind", ["ed25519", "p256", "mldsa65"])
def test_every_kind_of_key_signs(kind: str) -> None:
    simulator = Simulator()
    simulator.signers = [Signer(key(f"k-{kind}", kind))]
    simulator.trusts(simulator.signers[0].key)
    assert simulator.verify().signers[0].key.kind == kind


def granting(*names: str, **constraints: Any) -> Simulator:
    """Return a simulator whose certificate grants root, signed by trusted keys."""
    simulator = Simulator(*names)
    for signer in simulator.signers:
        simulator.trusts(signer.key, **{"grants": ["user:root#0"], **constraints})
    simulator.payload[4] = {0: ["root", 0]}
    return simulator


# -- steps 1 to 3: bytes, keys, signatures ---------------------------------------------------------


def test_every_flipped_bit_is_refused() -> None:
    simulator = Simulator()
    good = simulator.build()
    simulator.verify()
    began = time.monotonic()
    for position in range(len(good) * 8):
        changed = bytearray(good)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(CertificateError) as caught:
            verify_certificate(bytes(changed), simulator.trust, simulator.now)
        assert caught.value.reason in ("malformed", "bad-signature", "untrusted-key"), position
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("kind", ["p256", "mldsa65"])
def test_every_flipped_byte_is_refused_under_other_kinds_of_key(kind: str) -> None:
    simulator = Simulator()
    simulator.signers = [Signer(key(f"k-{kind}", kind))]
    simulator.trusts(simulator.signers[0].key)
    good = simulator.build()
    for position in range(len(envelope.HEAD), len(good)):
        changed = bytearray(good)
        changed[position] ^= 1 << position % 8
        with pytest.raises(CertificateError) as caught:
            verify_certificate(bytes(changed), simulator.trust, simulator.now)
        assert caught.value.reason in ("malformed", "bad-signature", "untrusted-key"), position


def test_a_certificate_cut_short_at_any_byte_is_refused() -> None:
    simulator = Simulator()
    good = simulator.build()
    for length in range(len(good)):
        simulator.after_signing = lambda data, length=length: data[:length]  # type: ignore[misc]
        assert reason(simulator) == "malformed"


def test_bytes_after_the_end_are_refused() -> None:
    simulator = Simulator()
    simulator.after_signing = lambda data: data + b"\0"
    assert reason(simulator) == "malformed"


def test_a_key_that_nobody_trusts_is_refused() -> None:
    simulator = Simulator()
    simulator.trust.clear()
    assert reason(simulator) == "untrusted-key"


def test_another_key_under_the_trusted_key_s_id_is_refused() -> None:
    simulator = Simulator("alice")
    forger = Signer(key("mallory"))
    forger.protected = dict(simulator.signers[0].protected)
    simulator.signers = [forger]
    assert reason(simulator) == "bad-signature"


def test_trust_filed_under_a_wrong_id_is_noticed() -> None:
    simulator = Simulator("alice")
    mallory = key("mallory")
    simulator.signers = [Signer(mallory)]
    simulator.trust[mallory.public.kid] = simulator.trust.pop(key("alice").public.kid)
    assert reason(simulator) == "internal"


def test_an_unknown_signer_is_ignored_beside_a_trusted_one() -> None:
    simulator = Simulator("alice", "mallory")
    del simulator.trust[key("mallory").public.kid]
    assert [one.name for one in simulator.verify().signers] == ["alice"]


def test_an_unknown_signer_may_use_an_unknown_algorithm() -> None:
    simulator = Simulator("alice", "mallory")
    del simulator.trust[key("mallory").public.kid]
    simulator.signers[1].protected[cose.HEADER_ALG] = -50
    simulator.signers[1].signature = b"of the future"
    assert [one.name for one in simulator.verify().signers] == ["alice"]


@pytest.mark.parametrize("bad", [0, 1])
def test_one_bad_signature_of_a_trusted_key_spoils_the_good_one(bad: int) -> None:
    simulator = Simulator("alice", "bob")
    simulator.signers[bad].signature = bytes(64)
    assert reason(simulator) == "bad-signature"


SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "no signature at all": lambda made: b"",
    "a signature of zeroes": lambda made: bytes(64),
    "a signature cut short": lambda made: made[:-1],
    "a signature with a byte more": lambda made: made + b"\0",
    "s plus the group order": lambda made: made[:32]
    + (int.from_bytes(made[32:], "little") + 2**252 + 27742317777372353535851937790883648493)
    .to_bytes(32, "little"),
    "R of another signature": lambda made: key("bob").sign(b"x")[:32] + made[32:],
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_refuses(name: str) -> None:
    simulator = Simulator()
    message = envelope.unwrap(simulator.build())
    simulator.signers[0].signature = SIGNATURES[name](message.signatures[0].signature)
    assert reason(simulator) == "bad-signature"


@pytest.mark.parametrize("algorithm", [-8, -7, -9, -49, -50, 0, 5, -2**64])
def test_the_algorithm_comes_from_the_key_and_the_header_must_agree(algorithm: int) -> None:
    simulator = Simulator()
    simulator.signers[0].protected[cose.HEADER_ALG] = algorithm
    assert reason(simulator) == "bad-signature"


def test_a_p256_key_refuses_the_deprecated_algorithm_name() -> None:
    simulator = Simulator()
    simulator.signers = [Signer(key("k-p256", "p256"))]
    simulator.trusts(simulator.signers[0].key)
    simulator.signers[0].protected[cose.HEADER_ALG] = -7
    assert reason(simulator) == "bad-signature"


def test_a_signature_made_for_another_protocol_is_refused() -> None:
    simulator = Simulator()
    simulator.external_aad = b""
    assert reason(simulator) == "bad-signature"


def test_a_signature_moved_to_another_payload_is_refused() -> None:
    simulator = Simulator()
    items = codec.decode(simulator.build()[len(envelope.HEAD):])
    assert isinstance(items, list)
    simulator.payload[1] += 1
    items[2] = simulator.payload_bytes()
    simulator.after_signing = lambda data: envelope.HEAD + codec.encode(items)
    assert reason(simulator) == "bad-signature"


def test_a_lifetime_stretched_after_signing_is_refused() -> None:
    simulator = Simulator()
    items = codec.decode(simulator.build()[len(envelope.HEAD):])
    assert isinstance(items, list)
    simulator.claims[4] += DAY
    items[0] = simulator.body_protected()
    simulator.after_signing = lambda data: envelope.HEAD + codec.encode(items)
    assert reason(simulator) == "bad-signature"


def test_a_signed_payload_in_another_encoding_is_refused() -> None:
    simulator = Simulator()
    payload = simulator.payload
    backwards = dict(reversed(list(payload.items())))
    simulator.payload_bytes = lambda: cbor2.dumps(backwards)  # type: ignore[method-assign]
    assert reason(simulator) == "malformed"


def test_a_signed_payload_with_a_key_twice_is_refused() -> None:
    simulator = Simulator()
    encoded = simulator.payload_bytes()
    assert encoded[:3] == b"\xab\x00\x01"
    twice = b"\xac\x00\x01" + encoded[1:]
    simulator.payload_bytes = lambda: twice  # type: ignore[method-assign]
    assert reason(simulator) == "malformed"


# -- step 4: validity ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [(NOW - DAY - 1, "not-yet-valid"), (NOW - DAY, ""), (NOW + DAY, ""), (NOW + DAY + 1, "expired"),
     (0, "not-yet-valid"), (2**62, "expired")],
)  # fmt: skip
def test_valid_from_the_first_to_the_last_second(now: int, expected: str) -> None:
    simulator = Simulator()
    simulator.now = now
    if expected:
        assert reason(simulator) == expected
    else:
        simulator.verify()


def test_a_signature_is_judged_before_validity() -> None:
    simulator = Simulator()
    simulator.now = 2**62
    simulator.signers[0].signature = bytes(64)
    assert reason(simulator) == "bad-signature"


CLAIMS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "no expiry": lambda c: c.pop(4),
    "no first moment": lambda c: c.pop(5),
    "no time of issue": lambda c: c.pop(6),
    "no id": lambda c: c.pop(7),
    "no issuer": lambda c: c.pop(1),
    "no name": lambda c: c.pop(2),
    "an unknown claim": lambda c: c.update({3: "audience"}),
    "a claim under a text key": lambda c: c.update({"exp": 1}),
    "an end before the beginning": lambda c: c.update({4: NOW, 5: NOW}),
    "a negative time": lambda c: c.update({5: -1}),
    "a time beyond the year 9999": lambda c: c.update({4: 253402300800}),
    "a time as text": lambda c: c.update({4: "never"}),
    "a time that is true": lambda c: c.update({5: True}),
    "an empty name": lambda c: c.update({2: ""}),
    "a name with a slash": lambda c: c.update({2: "../../etc/passwd"}),
    "a name with an escape sequence": lambda c: c.update({2: "\x1b[2J"}),
    "a name that is too long": lambda c: c.update({2: "x" * 256}),
    "an issuer with a newline": lambda c: c.update({1: "a\nb"}),
    "an id that is too short": lambda c: c.update({7: bytes(15)}),
    "an id as text": lambda c: c.update({7: "0123456789abcdef"}),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_refuses_claims_with(name: str) -> None:
    simulator = Simulator()
    CLAIMS[name](simulator.claims)
    assert reason(simulator) == "malformed"


# -- step 5: what is demanded ----------------------------------------------------------------------


def test_a_certificate_that_says_everything_is_verified() -> None:
    simulator = Simulator()
    simulator.trusts(simulator.signers[0].key, grants=["user:root"])
    simulator.payload = full_payload()
    assert simulator.verify().certificate.to_payload() == full_payload()


def test_a_script_s_certificate_is_verified() -> None:
    simulator = Simulator()
    simulator.payload = script_payload()
    assert simulator.verify().certificate.files[0].role == "interpreter"


def test_an_unknown_critical_option_refuses() -> None:
    simulator = Simulator()
    simulator.payload[12] = {"only-on-sundays": True}
    assert reason(simulator) == "unsupported"


def test_an_unknown_extension_is_ignored() -> None:
    simulator = Simulator()
    simulator.payload[13] = {"x": [1, {"y": None}]}
    assert simulator.verify().certificate.extensions == {"x": [1, {"y": None}]}


UNENFORCED: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "indirect access": lambda p: p[2].update({3: 1}),
    "access as a file": lambda p: p[2].update({3: 2}),
    "untrusted access": lambda p: p[2].update({3: 3}),
    "a loader's digest": lambda p: p.update({8: [[1, "/lib/ld.so", 1, p[2][2]]]}),
    "a library's digest": lambda p: p.update({8: [[2, "/lib/x.so", 1, p[2][2]]]}),
    "a data file's digest": lambda p: p.update({8: [[3, "/etc/x", 1, p[2][2]]]}),
    "two interpreters": lambda p: p.update({8: [[0, "/bin/a", 1, p[2][2]]] * 2}),
    "another system's emulation": lambda p: p[3].update({7: ["netbsd"]}),
    "the 32-bit emulation": lambda p: p[3].update({7: ["native", "linux32"]}),
    "a later policy language": lambda p: p[3].update({3: 2}),
    "a later format": lambda p: p.update({0: 2}),
    "a script with an identity": lambda p: p.update(
        {8: [[0, "/bin/sh", 1, p[2][2]]], 4: {0: ["root", 0]}}
    ),
    "a capability of a later kernel": lambda p: p.update({4: {3: [["time_travel", 60]]}}),
    "a capability under another's number": lambda p: p.update({4: {3: [["net_raw", 21]]}}),
}


@pytest.mark.parametrize("name", UNENFORCED)
def test_refuses_for_lack_of_support(name: str) -> None:
    simulator = Simulator()
    simulator.trusts(simulator.signers[0].key, grants=["user:root"])
    UNENFORCED[name](simulator.payload)
    assert reason(simulator) == "unsupported"


# -- steps 6 and 7: constraints --------------------------------------------------------------------


def constrained(**constraints: Any) -> Simulator:
    simulator = Simulator()
    simulator.trusts(simulator.signers[0].key, **constraints)
    return simulator


@pytest.mark.parametrize(
    ("paths", "allowed"),
    [
        (["/usr/bin/hello"], True), (["/usr/bin/*"], True), (["/usr/**"], True), (["/**"], True),
        (["/opt/**", "/usr/bin/h*"], True), (["/usr/*/hello"], True),
        ([], False), (["/usr/*"], False), (["/usr/bin/hello/**"], False), (["/opt/**"], False),
        (["/usr/bin"], False), (["/usr/bin/hell"], False), (["/usr/bin/hello?"], False),
        (["/*"], False),
    ],
)  # fmt: skip
def test_a_key_signs_only_for_its_paths(paths: list[str], allowed: bool) -> None:
    simulator = constrained(paths=paths)
    if allowed:
        simulator.verify()
    else:
        assert reason(simulator) == "key-constraint"


@pytest.mark.parametrize(
    ("seconds", "allowed"), [(2 * DAY, True), (2 * DAY - 1, False), (1, False), (None, True)]
)
def test_a_key_signs_only_for_its_lifetime(seconds: int | None, allowed: bool) -> None:
    simulator = constrained(max_lifetime=seconds)
    if allowed:
        simulator.verify()
    else:
        assert reason(simulator) == "key-constraint"


GRANTS: dict[str, tuple[dict[int, Any], list[str], bool]] = {
    "root by a key that may grant nothing": ({0: ["root", 0]}, [], False),
    "root by a key for root": ({0: ["root", 0]}, ["user:root#0"], True),
    "root by a key for root by name": ({0: ["root", 0]}, ["user:root"], True),
    "number 0 by a key for root": ({0: ["", 0]}, ["user:root#0"], True),
    "root by a key for number 0": ({0: ["root", 0]}, ["user:#0"], True),
    "root by a key for another user": ({0: ["root", 0]}, ["user:daemon#1"], False),
    "root by a key for the group root": ({0: ["root", 0]}, ["group:root#0"], False),
    "root's number under another's name": ({0: ["daemon", 0]}, ["user:daemon#1"], False),
    "another's number under a granted name": ({0: ["daemon", 2]}, ["user:daemon#1"], False),
    "a granted number under another name": ({0: ["bin", 1]}, ["user:daemon#1"], False),
    "a user by a key for it": ({0: ["daemon", 1]}, ["user:daemon#1"], True),
    "a user by number by a key for it": ({0: ["", 1]}, ["user:daemon#1"], True),
    "a user by number by a key for its name": ({0: ["", 1]}, ["user:daemon"], False),
    "a group by a key for it": ({1: ["adm", 4]}, ["group:adm#4"], True),
    "a group by a key for the user": ({1: ["adm", 4]}, ["user:adm#4"], False),
    "a supplementary group by a key for it": ({2: [["adm", 4]]}, ["group:adm#4"], True),
    "one supplementary group too many": ({2: [["adm", 4], ["tty", 5]]}, ["group:adm#4"], False),
    "no groups by a key that may grant nothing": ({2: []}, [], False),
    "no groups by a key that may grant": ({2: []}, ["group:adm#4"], True),
    "a capability by a key for it": ({3: [["net_raw", 13]]}, ["cap:net_raw"], True),
    "one capability too many": ({3: [["net_raw", 13], ["bpf", 39]]}, ["cap:net_raw"], False),
    "no capabilities by a key that may grant nothing": ({3: []}, [], False),
    "a user and a group by a key for the user":
        ({0: ["daemon", 1], 1: ["adm", 4]}, ["user:daemon#1"], False),
    "a user and a group by a key for both":
        ({0: ["daemon", 1], 1: ["adm", 4]}, ["user:daemon#1", "group:adm#4"], True),
    "everything by a key for root": (full_payload()[4], ["user:root#0"], True),
    "everything by a key for everything but root":
        (full_payload()[4], ["group:daemon#1", "group:adm#4", "cap:net_raw"], False),
    "a call as a user by a key for it": ({4: [{0: ["daemon", 1]}]}, ["user:daemon#1"], True),
    "a call as root by a key for another user":
        ({4: [{0: ["root", 0]}]}, ["user:daemon#1"], False),
    "a call as a user and a group by a key for the user":
        ({4: [{0: ["daemon", 1], 1: ["adm", 4]}]}, ["user:daemon#1"], False),
    "one call as somebody too many":
        ({4: [{0: ["daemon", 1]}, {1: ["adm", 4]}]}, ["user:daemon#1"], False),
    "a call as anybody by a key that may grant nothing": ({4: [{1: ["adm", 4]}]}, [], False),
    "another user by a key for root": ({0: ["daemon", 1]}, ["user:root#0"], True),
    "root by a key for a user called root with another number":
        ({0: ["root", 0]}, ["user:root#7"], False),
}  # fmt: skip


@pytest.mark.parametrize("name", GRANTS)
def test_a_key_grants_only_what_it_may(name: str) -> None:
    identity, grants, allowed = GRANTS[name]
    simulator = constrained(grants=grants)
    simulator.payload[4] = identity
    if allowed:
        simulator.verify()
    else:
        assert reason(simulator) == "setuid-denied"


def test_the_refusal_of_a_grant_says_how_to_allow_it() -> None:
    simulator = Simulator()
    simulator.payload[4] = {0: ["root", 0]}
    with pytest.raises(CertificateError) as caught:
        simulator.verify()
    assert '"certexec trust add KEY.pub --may-grant root"' in caught.value.hint


def test_of_two_signers_only_those_who_may_are_counted() -> None:
    simulator = granting("alice", "bob")
    simulator.trusts(key("bob"))
    assert [one.name for one in simulator.verify().signers] == ["alice"]


def test_constraints_of_two_keys_do_not_add_up() -> None:
    simulator = Simulator("alice", "bob")
    simulator.trusts(key("alice"), grants=["user:daemon#1"])
    simulator.trusts(key("bob"), grants=["group:adm#4"])
    simulator.payload[4] = {0: ["daemon", 1], 1: ["adm", 4]}
    assert reason(simulator) == "setuid-denied"


def test_a_grant_needs_the_cosigners_that_its_key_demands() -> None:
    alone = granting("alice", cosigners=1)
    assert reason(alone) == "key-constraint"
    assert len(granting("alice", "bob", cosigners=1).verify().signers) == 2
    assert reason(granting("alice", "bob", cosigners=2)) == "key-constraint"


def test_a_cosigner_who_may_not_grant_does_not_count() -> None:
    simulator = granting("alice", "bob", cosigners=1)
    simulator.trusts(key("bob"))
    assert reason(simulator) == "key-constraint"


def test_an_unknown_cosigner_does_not_count() -> None:
    simulator = granting("alice", "bob", cosigners=1)
    del simulator.trust[key("bob").public.kid]
    assert reason(simulator) == "key-constraint"


def test_a_key_that_needs_nobody_is_not_spoilt_by_one_that_does() -> None:
    simulator = granting("alice", "bob")
    simulator.trusts(key("bob"), grants=["user:root"], cosigners=5)
    assert len(simulator.verify().signers) == 2


def test_cosigners_are_not_needed_without_a_grant() -> None:
    assert constrained(cosigners=3).verify()


# -- reading without proof -------------------------------------------------------------------------


def test_reading_without_proof_reads_what_nobody_trusts() -> None:
    simulator = Simulator()
    simulator.signers[0].signature = b"nonsense"
    assert read_unverified(simulator.build()).program.path == "/usr/bin/hello"


@pytest.mark.parametrize(
    ("moment", "text"),
    [(0, "1970-01-01 00:00:00 UTC"), (951782400, "2000-02-29 00:00:00 UTC"),
     (253402300799, "9999-12-31 23:59:59 UTC"), (1800000000, "2027-01-15 08:00:00 UTC")],
)  # fmt: skip
def test_times_are_written_as_dates(moment: int, text: str) -> None:
    assert _date(moment) == text
