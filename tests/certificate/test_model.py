"""The payload field by field: what is read, what is written, and what is malformed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certexec.certificate import codec, fields
from certexec.certificate.identity import numbers
from certexec.certificate.model import (
    Certificate,
    Claims,
    Environment,
    FileDigest,
    Identity,
    Invocation,
    Limits,
    PolicyRef,
    Program,
)
from certexec.certificate.names import CAPABILITIES
from certexec.errors import CertificateError
from tests.certificate.simulator import full_payload, good_payload, script_payload

U64 = 2**64 - 1


def read(payload: Any) -> Certificate:
    return Certificate.from_payload(payload)


@pytest.mark.parametrize("payload", [good_payload(), full_payload(), script_payload()])
def test_what_is_read_is_written_the_same(payload: Any) -> None:
    assert read(payload).to_payload() == payload
    assert codec.encode(read(payload).to_payload()) == codec.encode(payload)


def test_reading_does_not_change_what_was_read() -> None:
    payload = full_payload()
    before = copy.deepcopy(payload)
    read(payload)
    assert payload == before


ATTACKS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    # the payload itself
    "an unknown field": lambda p: p.update({14: 0}),
    "a field under a text key": lambda p: p.update({"x": 0}),
    "no version": lambda p: p.pop(0),
    "no serial": lambda p: p.pop(1),
    "no program": lambda p: p.pop(2),
    "no policy": lambda p: p.pop(3),
    "no invocation list": lambda p: p.pop(5),
    "no file list": lambda p: p.pop(8),
    "no integrity": lambda p: p.pop(9),
    "no log": lambda p: p.pop(10),
    "no note": lambda p: p.pop(11),
    "no critical options": lambda p: p.pop(12),
    "no extensions": lambda p: p.pop(13),
    "a version that is true": lambda p: p.update({0: True}),
    "a negative serial": lambda p: p.update({1: -1}),
    "a serial as text": lambda p: p.update({1: "1"}),
    "an identity of null": lambda p: p.update({4: None}),
    "limits of null": lambda p: p.update({6: None}),
    "an unknown integrity": lambda p: p.update({9: 4}),
    "an unknown log": lambda p: p.update({10: 2}),
    "a negative log": lambda p: p.update({10: -1}),
    "critical options as a list": lambda p: p.update({12: []}),
    "a critical option under a number": lambda p: p.update({12: {1: 1}}),
    "extensions as a list": lambda p: p.update({13: []}),
    "a note with an escape sequence": lambda p: p.update({11: "\x1b[31m"}),
    "a note with a NUL": lambda p: p.update({11: "\0"}),
    "a note that is too long": lambda p: p.update({11: "x" * 4097}),
    "a note as bytes": lambda p: p.update({11: b""}),
    # program
    "a relative path": lambda p: p[2].update({0: "bin/x"}),
    "an empty path": lambda p: p[2].update({0: ""}),
    "the path /": lambda p: p[2].update({0: "/"}),
    "a path with a double slash": lambda p: p[2].update({0: "/bin//x"}),
    "a path that begins with two slashes": lambda p: p[2].update({0: "//bin/x"}),
    "a path with a dot": lambda p: p[2].update({0: "/bin/./x"}),
    "a path with two dots": lambda p: p[2].update({0: "/bin/../x"}),
    "a path that ends in two dots": lambda p: p[2].update({0: "/bin/.."}),
    "a path with a slash at its end": lambda p: p[2].update({0: "/bin/x/"}),
    "a path with a NUL": lambda p: p[2].update({0: "/bin/x\0"}),
    "a path that is too long": lambda p: p[2].update({0: "/" + "x" * 4095}),
    "a path as bytes": lambda p: p[2].update({0: b"/bin/x"}),
    "a negative size": lambda p: p[2].update({1: -1}),
    "a size beyond off_t": lambda p: p[2].update({1: 2**63}),
    "no digest": lambda p: p[2].update({2: {}}),
    "only one digest": lambda p: p[2].update({2: {0: bytes(32)}}),
    "a third digest": lambda p: p[2].update({2: {**p[2][2], 2: bytes(32)}}),
    "a short digest": lambda p: p[2].update({2: {0: bytes(31), 1: bytes(64)}}),
    "a digest as text": lambda p: p[2].update({2: {0: "x" * 32, 1: bytes(64)}}),
    "an unknown access": lambda p: p[2].update({3: 4}),
    "an unknown field of the program": lambda p: p[2].update({4: 0}),
    "no access": lambda p: p[2].pop(3),
    # policy
    "no policy text and no path": lambda p: p[3].pop(0),
    "policy text and path": lambda p: p[3].update({1: "/etc/p"}),
    "a policy text of null": lambda p: p[3].update({0: None}),
    "a policy text with a NUL": lambda p: p[3].update({0: "\0"}),
    "a relative policy path": lambda p: (p[3].pop(0), p[3].update({1: "p"})),
    "no policy digest": lambda p: p[3].pop(2),
    "a long policy digest": lambda p: p[3].update({2: bytes(33)}),
    "language 0": lambda p: p[3].update({3: 0}),
    "an unknown unmatched action": lambda p: p[3].update({4: 2}),
    "inherit as a number": lambda p: p[3].update({5: 1}),
    "log-all as a number": lambda p: p[3].update({6: 0}),
    "an emulation with a space": lambda p: p[3].update({7: ["na tive"]}),
    "an empty emulation": lambda p: p[3].update({7: [""]}),
    "an emulation as a number": lambda p: p[3].update({7: [1]}),
    # identity
    "an empty identity": lambda p: p.update({4: {}}),
    "an unknown field of the identity": lambda p: p[4].update({5: 0}),
    "elevations of nobody": lambda p: p[4].update({4: []}),
    "an elevation as nobody": lambda p: p[4].update({4: [{}]}),
    "an elevation as a user of null": lambda p: p[4].update({4: [{0: None}]}),
    "an elevation with a third field": lambda p: p[4].update({4: [{0: ["root", 0], 2: 0}]}),
    "an elevation as a pair": lambda p: p[4].update({4: [["root", 0]]}),
    "an elevation without a number": lambda p: p[4].update({4: [{1: ["adm"]}]}),
    "an elevation twice": lambda p: p[4].update({4: [{0: ["root", 0]}, {0: ["", 0]}]}),
    "a user without a number": lambda p: p[4].update({0: ["root"]}),
    "a user of three": lambda p: p[4].update({0: ["root", 0, 0]}),
    "a user of null": lambda p: p[4].update({0: None}),
    "a user number as text": lambda p: p[4].update({0: ["root", "0"]}),
    "a user number of -1": lambda p: p[4].update({0: ["root", -1]}),
    "a user number of 2^32-1": lambda p: p[4].update({0: ["root", 2**32 - 1]}),
    "a user number that is false": lambda p: p[4].update({0: ["root", False]}),
    "a user name with a colon": lambda p: p[4].update({0: ["ro:ot", 0]}),
    "a user name with a newline": lambda p: p[4].update({0: ["ro\not", 0]}),
    "a user name that looks like a number": lambda p: p[4].update({0: ["#1", 0]}),
    "a group twice": lambda p: p[4].update({2: [["adm", 4], ["", 4]]}),
    "a capability twice": lambda p: p[4].update({3: [["bpf", 39], ["bpf", 39]]}),
    "groups of null": lambda p: p[4].update({2: None}),
    # invocation
    "an unknown field of the invocation": lambda p: p[5].update({5: 0}),
    "no list of entries": lambda p: p[5].pop(0),
    "entries of null": lambda p: p[5].update({0: None}),
    "an entry of three": lambda p: p[5].update({0: [[True, 0, ""]]}),
    "an entry with an unknown kind": lambda p: p[5].update({0: [[True, 3, "", 0]]}),
    "an entry that allows with 1": lambda p: p[5].update({0: [[1, 0, "", 0]]}),
    "everyone with a name": lambda p: p[5].update({0: [[True, 0, "bob", 0]]}),
    "everyone with a number": lambda p: p[5].update({0: [[True, 0, "", 1]]}),
    "more than 1024 entries": lambda p: p[5].update({0: [[True, 0, "", 0]] * 1025}),
    "a terminal demanded with 1": lambda p: p[5].update({1: 1}),
    "fixed and constrained arguments": lambda p: p[5].update({2: []}),
    "arguments of null": lambda p: p[5].update({3: None}),
    "an argument as a number": lambda p: p[5].update({3: [1]}),
    "an argument with a NUL": lambda p: p[5].update({3: ["\0"]}),
    "no time windows": lambda p: p[5].pop(4),
    "a window on no day": lambda p: p[5].update({4: [[0, 0, 1]]}),
    "a window on an eighth day": lambda p: p[5].update({4: [[128, 0, 1]]}),
    "a window that ends before it begins": lambda p: p[5].update({4: [[1, 10, 10]]}),
    "a window beyond midnight": lambda p: p[5].update({4: [[1, 0, 1441]]}),
    # limits
    "empty limits": lambda p: p.update({6: {}}),
    "empty resource limits": lambda p: p[6].update({0: {}}),
    "an unknown field of the limits": lambda p: p[6].update({4: 0}),
    "an unknown resource": lambda p: p[6].update({0: {16: [0, 0]}}),
    "a resource under its name": lambda p: p[6].update({0: {"nofile": [0, 0]}}),
    "a limit softer than hard": lambda p: p[6].update({0: {7: [2, 1]}}),
    "a negative limit": lambda p: p[6].update({0: {7: [-1, 1]}}),
    "a limit of one number": lambda p: p[6].update({0: {7: [1]}}),
    "a nice value of 20": lambda p: p[6].update({1: 20}),
    "a nice value of -21": lambda p: p[6].update({1: -21}),
    "a umask of 01000": lambda p: p[6].update({2: 0o1000}),
    "an oom score of 1001": lambda p: p[6].update({3: 1001}),
    "a nice value of null": lambda p: p[6].update({1: None}),
    # environment
    "no pass list": lambda p: p[7].pop(0),
    "no set list": lambda p: p[7].pop(1),
    "an empty variable name": lambda p: p[7].update({0: [""]}),
    "a variable name with an equals sign": lambda p: p[7].update({0: ["A=B"]}),
    "a variable name with a NUL": lambda p: p[7].update({0: ["A\0"]}),
    "a set variable name with an equals sign": lambda p: p[7].update({1: {"A=B": "c"}}),
    "a set variable under a number": lambda p: p[7].update({1: {1: "c"}}),
    "a value with a NUL": lambda p: p[7].update({1: {"A": "\0"}}),
    "a value as a number": lambda p: p[7].update({1: {"A": 1}}),
    "set variables as a list": lambda p: p[7].update({1: []}),
    # files
    "a file of three": lambda p: p.update({8: [[0, "/x", 1]]}),
    "a file with an unknown role": lambda p: p.update({8: [[4, "/x", 1, p[2][2]]]}),
    "a file with a relative path": lambda p: p.update({8: [[0, "x", 1, p[2][2]]]}),
    "a file with a negative size": lambda p: p.update({8: [[0, "/x", -1, p[2][2]]]}),
    "a file with one digest": lambda p: p.update({8: [[0, "/x", 1, {0: bytes(32)}]]}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses(name: str) -> None:
    payload = full_payload()
    read(payload)
    ATTACKS[name](payload)
    with pytest.raises(CertificateError) as caught:
        read(payload)
    assert caught.value.reason == "malformed", caught.value.message


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the way to every value inside a payload."""
    found = [path]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += spots(item, (*path, key))
    return found


junk = st.recursive(
    st.integers(-(2**64), U64) | st.text(max_size=6) | st.binary(max_size=6) | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.integers(0, 15) | st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_anywhere_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    payload = full_payload()
    spot = data.draw(st.sampled_from([one for one in spots(payload) if one]))
    inside = payload
    for step in spot[:-1]:
        inside = inside[step]
    inside[spot[-1]] = data.draw(junk)
    try:
        certificate = read(payload)
    except CertificateError as error:
        assert error.reason in ("malformed", "unsupported")
    else:
        assert codec.encode(certificate.to_payload()) == codec.encode(payload)


@given(junk)
def test_a_payload_of_anything_else_is_refused(payload: Any) -> None:
    with pytest.raises(CertificateError):
        read(payload)


# -- what a certificate grants ---------------------------------------------------------------------


def certificate(identity: Identity | None) -> Certificate:
    made = read(good_payload())
    made.identity = identity
    return made


@pytest.mark.parametrize(
    ("identity", "grants"),
    [
        (None, False), (Identity(), False), (Identity(user=("root", 0)), True),
        (Identity(group=("adm", 4)), True), (Identity(groups=[("adm", 4)]), True),
        (Identity(groups=[]), True), (Identity(capabilities=[("bpf", 39)]), True),
        (Identity(capabilities=[]), True),
        (Identity(elevations=[(("root", 0), None)]), True),
    ],
)  # fmt: skip
def test_a_grant_is_any_identity_that_says_something(
    identity: Identity | None, grants: bool
) -> None:
    assert certificate(identity).is_grant() is grants


# -- certificates made of any good values ----------------------------------------------------------

names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=10)
ids = st.integers(0, fields.MAX_ID)
pairs = st.tuples(names | st.just(""), ids)
some_path = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
strings = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
digest32, digest64 = st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)
size = st.integers(0, 2**63 - 1)
limit = st.tuples(st.integers(0, U64), st.integers(0, U64)).map(lambda pair: tuple(sorted(pair)))
window = st.tuples(st.integers(1, 127), st.integers(0, 700), st.integers(701, 1440))
entry = st.one_of(
    st.tuples(st.booleans(), st.just("everyone"), st.just(""), st.just(0)),
    st.tuples(st.booleans(), st.sampled_from(["user", "group"]), names | st.just(""), ids),
)
identities = st.builds(
    Identity,
    st.none() | pairs,
    st.none() | pairs,
    st.none() | st.lists(pairs, max_size=4, unique_by=lambda pair: pair[1]),
    st.none() | st.lists(st.sampled_from(sorted(CAPABILITIES.items())), max_size=4, unique=True),
    st.none() | st.lists(
        st.tuples(st.none() | pairs, st.none() | pairs).filter(any), min_size=1, max_size=3,
        unique_by=numbers,
    ),
).filter(Identity.names_anything)
invocations = st.one_of(
    st.builds(Invocation, st.lists(entry, max_size=4), st.booleans(), st.lists(strings, max_size=3),
              st.none(), st.lists(window, max_size=2)),
    st.builds(Invocation, st.lists(entry, max_size=4), st.booleans(), st.none(),
              st.none() | st.lists(strings, max_size=3), st.lists(window, max_size=2)),
)  # fmt: skip
certificates = st.builds(
    Certificate,
    claims=st.just(Claims("", "", 0, 0, 0, b"")),
    serial=st.integers(0, U64),
    program=st.builds(Program, some_path, size, digest32, digest64,
                      st.sampled_from(["direct", "indirect", "file", "untrusted"])),
    policy=st.one_of(
        st.builds(PolicyRef, strings, st.none(), digest32, st.integers(1, U64), st.just("deny"),
                  st.booleans(), st.booleans(), st.lists(names, max_size=2)),
        st.builds(PolicyRef, st.none(), some_path, digest32),
    ),
    identity=st.none() | identities,
    invocation=invocations,
    limits=st.builds(Limits, st.dictionaries(st.integers(0, 15), limit, max_size=3),
                     st.none() | st.integers(-20, 19), st.none() | st.integers(0, 0o777),
                     st.none() | st.integers(-1000, 1000)),
    environment=st.none() | st.builds(Environment, st.lists(names, max_size=3),
                                      st.dictionaries(names, strings, max_size=3)),
    files=st.lists(st.builds(FileDigest, st.sampled_from(
        ["interpreter", "loader", "library", "data"]), some_path, size, digest32, digest64),
        max_size=2),
    integrity=st.sampled_from(["auto", "exec-stop", "sealed", "cached"]),
    log=st.sampled_from(["audit", "full"]),
    note=names,
    extensions=st.dictionaries(names, st.integers(0, 5), max_size=2),
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(certificates)
def test_every_certificate_survives_being_written_and_read(made: Certificate) -> None:
    assert read(codec.decode(codec.encode(made.to_payload()))) == made
