"""Many certificates are judged as one is: the same verdicts, the same words, less work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.lexer import LINE_MAX
from certexec.run import memory as memory_module
from certexec.run import verify as verify_module
from certexec.run.certificate_files import Item
from certexec.run.memory import Memory
from certexec.run.once import Once
from certexec.run.parallel import in_order
from certexec.run.verify import Result, Verifier
from tests.certificate.simulator import NOW, Simulator

CONTENTS = {"a": b"first program", "b": os.urandom(700_000), "c": b""}
"""One is long enough for OpenSSL and a thread, one is empty."""
Verdict = tuple[Any, ...]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with programs."""
    directory = tmp_path_factory.mktemp("programs").resolve()
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o755)
    (directory / "closed").write_bytes(b"x")
    (directory / "closed").chmod(0o644)
    (directory / "link").symlink_to("a")
    return directory


def policy_for(path: str, rule: str = "native-exit: permit") -> str:
    return f"Policy: {path}, Emulation: native\n\t{rule}\n"


def simulated(path: str, content: bytes, policy: str | None = None) -> Simulator:
    simulator = Simulator()
    digests = {0: hashlib.sha256(content).digest(), 1: hashlib.sha512(content).digest()}
    simulator.payload[2] = {0: path, 1: len(content), 2: digests, 3: 0}
    text = policy_for(path) if policy is None else policy
    simulator.payload[3][0] = text
    simulator.payload[3][2] = hashlib.sha256(text.encode()).digest()
    return simulator


def mutate(simulator: Simulator, path: str, kind: str) -> None:
    """Change one thing that is signed, or the bytes afterwards."""
    payload = simulator.payload
    if kind in ("sha256", "sha512"):
        field = ("sha256", "sha512").index(kind)
        payload[2][2][field] = bytes(len(payload[2][2][field]))
    elif kind == "size":
        payload[2][1] += 1
    elif kind == "user":
        payload[5][0] = [[True, 1, "root", 4711]]
    elif kind == "nobody":
        payload[5][0] = [[True, 2, "no-such-group", 4711]]
    elif kind == "grant":
        payload[4] = {0: ["root", 0]}
    elif kind == "policy digest":
        payload[3][2] = bytes(32)
    elif kind in ("policy syntax", "policy unsupported", "other policy"):
        rule = {"policy syntax": "native-open: then", "other policy": "native-exit: permit"}
        text = policy_for(path, rule.get(kind, "native-open: permit-now"))
        text = text.replace(path, "/elsewhere") if kind == "other policy" else text
        payload[3][0] = text
        payload[3][2] = hashlib.sha256(text.encode()).digest()
    elif kind == "expired":
        simulator.claims[4] = NOW - 1
    elif kind == "interpreter":
        payload[8] = [[0, path, payload[2][1], payload[2][2]]]
    elif kind == "critical":
        payload[12] = {"new": 1}
    elif kind == "signature":
        simulator.after_signing = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    elif kind == "cut":
        simulator.after_signing = lambda data: data[: len(data) // 2]


KINDS = [
    "", "sha256", "sha512", "size", "user", "nobody", "grant", "policy digest", "policy syntax",
    "policy unsupported", "other policy", "expired", "interpreter", "critical", "signature", "cut",
]  # fmt: skip
PROGRAMS = [*CONTENTS, "closed", "link", "missing"]


def verdict(result: Result | None) -> Verdict:
    """Return all that a result says, in plain data."""
    assert result is not None
    error, verified = result.error, result.verified
    return (
        result.path,
        None if error is None else (type(error).__name__, error.reason, error.message, error.hint),
        None if verified is None else (verified.certificate.claims.cti,
                                       [one.key.fingerprint for one in verified.signers]),
        result.notes,
    )  # fmt: skip


def lost(item: Item, how: str) -> Verdict:
    return (item.path, how)


def build(where: Path, program: str, kind: str) -> tuple[bytes, dict[Any, Any]]:
    path = f"{where}/{program}"
    simulator = simulated(path, CONTENTS.get(program, b"x"))
    mutate(simulator, path, kind)
    return simulator.build(), simulator.trust


def verifier(trust: dict[Any, Any], memory: Memory | None = None) -> Verifier:
    return Verifier(trust, NOW, memory=memory)


@settings(max_examples=25, deadline=None)
@given(
    chosen=st.lists(st.tuples(st.sampled_from(PROGRAMS), st.sampled_from(KINDS)), max_size=70),
    flips=st.lists(st.tuples(st.integers(0, 69), st.integers(0, 5000), st.integers(1, 255))),
)
def test_many_are_judged_as_each_is_alone(
    where: Path, chosen: list[tuple[str, str]], flips: list[tuple[int, int, int]]
) -> None:
    items, trust = [], Simulator().trust
    for number, (program, kind) in enumerate(chosen):
        data = bytearray(build(where, program, kind)[0])
        for which, place, bits in flips:
            if which == number:
                data[place % len(data)] ^= bits
        items.append(Item(f"{number}.cert", data=bytes(data)))
    slow = [verdict(verifier(trust).judge(item)) for item in items]
    one = verifier(trust)
    assert [verdict(one.judge(item)) for item in items] == slow
    shared = Once()
    try:
        judge = verifier(trust, Memory(shared)).judge
        assert list(in_order(items, lambda item: verdict(judge(item)), lost, 3)) == slow
    finally:
        shared.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_mutation_has_a_verdict_of_its_own(where: Path, kind: str) -> None:
    """So that the law above is about more than one kind of refusal."""
    data, trust = build(where, "a", kind)
    error = verdict(verifier(trust).judge(Item("x", data=data)))[1]
    reason = None if error is None else error[1]
    assert reason == {
        "": None, "sha256": "binary-mismatch", "sha512": "binary-mismatch",
        "size": "binary-mismatch", "user": "identity-mismatch", "nobody": "identity-mismatch",
        "grant": "setuid-denied", "policy digest": "policy-mismatch",
        "policy syntax": "policy-syntax", "policy unsupported": "policy-unsupported",
        "other policy": "policy-mismatch", "expired": "expired", "interpreter": None,
        "critical": "unsupported", "signature": "bad-signature", "cut": "malformed",
    }[kind]  # fmt: skip


# -- what is remembered ----------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count what is worked out: "hash" and "policy"."""
    calls: list[str] = []
    real_digests, real_confine = memory_module.Digests, verify_module.decide.confinement_of

    def digests(fd: int, size: int) -> Any:
        calls.append("hash")
        return real_digests(fd, size)

    def confine(*arguments: Any, **options: Any) -> Any:
        calls.append("policy")
        return real_confine(*arguments, **options)

    monkeypatch.setattr(memory_module, "Digests", digests)
    monkeypatch.setattr(verify_module.decide, "confinement_of", confine)
    yield calls


def judged(
    one: Verifier, data: bytes, count: int = 1
) -> str | None:
    for _ in range(count):
        result = one.judge(Item("x", data=data))
        assert result is not None
    return None if result.error is None else result.error.reason


def test_a_file_is_hashed_and_a_policy_compiled_once(where: Path, counted: list[str]) -> None:
    data, trust = build(where, "a", "")
    assert judged(verifier(trust), data, 5) is None
    assert sorted(counted) == ["hash", "policy"]


def test_another_process_need_not_hash_it_again(where: Path, counted: list[str]) -> None:
    data, trust = build(where, "b", "")
    shared = Once()
    pid = os.fork()
    if pid == 0:
        os._exit(judged(verifier(trust, Memory(shared)), data) is not None)
    assert os.waitpid(pid, 0)[1] == 0
    assert judged(verifier(trust, Memory(shared)), data) is None
    shared.close()
    assert counted == []


def test_a_file_that_changed_is_hashed_again(tmp_path: Path, counted: list[str]) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    program.chmod(0o755)
    simulator = simulated(str(program), b"one")
    data, one = simulator.build(), verifier(simulator.trust)
    assert judged(one, data) is None
    program.write_bytes(b"two")
    os.utime(program, ns=(1, 1))
    assert judged(one, data) == "binary-mismatch"
    program.unlink()
    assert judged(one, data) == "binary-missing"
    program.write_bytes(b"one")
    program.chmod(0o755)
    assert judged(one, data) is None
    assert counted.count("hash") == 3


def test_a_file_that_came_while_it_was_judged_counts_for_as_long_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    program.chmod(0o755)
    simulator = simulated(str(program), b"one")
    data, one = simulator.build(), verifier(simulator.trust)

    def lstat(path: str) -> os.stat_result:
        raise FileNotFoundError(path)

    with monkeypatch.context() as moment:
        moment.setattr(os, "lstat", lstat)  # it was not there yet
        assert judged(one, data) is None
    program.unlink()
    assert judged(one, data) == "binary-missing"


def test_a_file_that_was_exchanged_while_it_was_judged_is_not_the_one_that_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, kept = tmp_path / "program", tmp_path / "kept"
    for path, content in ((program, b"bad"), (kept, b"one")):
        path.write_bytes(content)
        path.chmod(0o755)
    simulator = simulated(str(program), b"one")
    data, one = simulator.build(), verifier(simulator.trust)
    real = verify_module.integrity.open_file

    def open_another(path: str, *reasons: str) -> int:
        return real(str(kept), *reasons)

    with monkeypatch.context() as moment:
        moment.setattr(verify_module.integrity, "open_file", open_another)
        assert judged(one, data) is None  # the good one stood there at that moment
    assert judged(one, data) == "binary-mismatch"


def test_a_mode_and_a_name_are_looked_at_for_each_certificate(where: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    program.chmod(0o755)
    simulator = simulated(str(program), b"one")
    data, one = simulator.build(), verifier(simulator.trust)
    assert judged(one, data) is None
    program.chmod(0o644)
    assert judged(one, data) == "binary-unusable"
    program.chmod(0o755)
    program.rename(tmp_path / "real")
    program.symlink_to("real")
    assert judged(one, data) == "binary-mismatch"


def test_a_policy_that_claims_the_digest_of_a_good_one_is_refused(where: Path) -> None:
    good = simulated(f"{where}/a", CONTENTS["a"])
    bad = simulated(f"{where}/a", CONTENTS["a"])
    bad.payload[3][0] += "\tnative-open: permit\n"
    one = verifier(good.trust)
    assert judged(one, good.build()) is None
    assert judged(one, bad.build()) == "policy-mismatch"


def test_a_refused_policy_is_judged_for_each_certificate(where: Path, counted: list[str]) -> None:
    """Its message names the certificate."""
    data, trust = build(where, "a", "policy unsupported")
    assert judged(verifier(trust), data, 3) == "policy-unsupported"
    assert counted == ["policy"] * 3


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (4, 1, None), (5, False, None), (6, True, None),
        (7, ["native", "linux"], "policy-mismatch"),
    ],
    ids=["unmatched", "inherit", "log-all", "emulations"],
)
def test_a_verdict_on_a_policy_is_not_that_on_other_terms(
    where: Path, counted: list[str], field: int, value: object, reason: str | None
) -> None:
    simulator = simulated(f"{where}/a", CONTENTS["a"])
    plain = simulator.build()
    simulator.payload[3][field] = value
    other, one = simulator.build(), verifier(simulator.trust)
    assert [judged(one, data) for data in (plain, other, plain)] == [None, reason, None]
    assert counted.count("policy") == 2


def judged_with(
    where: Path, counted: list[str], text: str, programs: str = "ac", inherit: bool = True
) -> list[str | None]:
    """Judge certificates for programs with the same policy, but for the path; return the words."""
    del counted[:]
    made = [
        simulated(f"{where}/{name}", CONTENTS[name], text.format(f"{where}/{name}"))
        for name in programs
    ]
    one = verifier(made[0].trust)
    for simulator in made:
        simulator.payload[3][5] = inherit
    return [judged(one, simulator.build()) for simulator in made]


def test_a_policy_for_several_programs_is_compiled_once(where: Path, counted: list[str]) -> None:
    text = policy_for("{}", 'native-fsread: filename match "/usr/*" then permit')
    assert judged_with(where, counted, text) == [None, None]
    assert counted.count("policy") == 1
    assert judged_with(where, counted, "# Two lines\n# of comment\n" + text) == [None, None]
    assert counted.count("policy") == 1


@pytest.mark.parametrize(
    "text",
    [
        "Policy: {0}, Emulation: native\n\tnative-exit: permit\nPOLICY: /x, Emulation: native\n",
        "# {0}\nPolicy: {0}, Emulation: native\n\tnative-exit: permit\n",
        "Policy:  {0}, Emulation: native\n\tnative-exit: permit\n",
    ],
    ids=["two-parts", "comment", "space"],
)
def test_policies_that_differ_in_more_are_judged_each(
    where: Path, counted: list[str], text: str
) -> None:
    judged_with(where, counted, text)
    assert counted.count("policy") == 2


def test_a_comment_before_the_header_is_not_taken_for_one_in_it(
    where: Path, counted: list[str]
) -> None:
    path = f"{where}/a"
    texts = [
        f"# x\nPolicy: {path}, Emulation: native\n\tnative-exit: permit\n",
        f"Policy: {path}, Emulation: # x\nnative\n\tnative-exit: permit\n",
    ]
    made = [simulated(path, CONTENTS["a"], text) for text in texts]
    one = verifier(made[0].trust)
    assert [judged(one, simulator.build()) for simulator in made] == [None, "policy-syntax"]


def test_policies_that_others_come_under_are_judged_each(
    where: Path, counted: list[str]
) -> None:
    assert judged_with(where, counted, policy_for("{}"), inherit=False) == [None, None]
    assert counted.count("policy") == 2


def test_a_header_that_is_too_long_is_refused_whatever_was_judged_before(
    where: Path, counted: list[str]
) -> None:
    """Two paths, of which one makes the first line longer than a line may be."""
    deep = where / ("d" * 200)
    deep.mkdir(exist_ok=True)
    (deep / "a").write_bytes(CONTENTS["a"])
    (deep / "a").chmod(0o755)
    comment = "#" + "x" * (LINE_MAX - len(f"Policy: {where}/a, Emulation: native #"))
    text = "Policy: {}, Emulation: native " + comment + "\n\tnative-exit: permit\n"
    made = [
        simulated(path, CONTENTS["a"], text.format(path)) for path in (f"{where}/a", f"{deep}/a")
    ]
    one = verifier(made[0].trust)
    assert [judged(one, simulator.build()) for simulator in made] == [None, "policy-syntax"]


def test_a_path_that_a_header_reads_otherwise_is_judged_by_itself(
    where: Path, counted: list[str]
) -> None:
    """A "#" begins a comment, so such a program's policy is for another program."""
    (where / "a#b").write_bytes(CONTENTS["a"])
    (where / "a#b").chmod(0o755)
    made = [
        simulated(f"{where}/{name}", CONTENTS["a"], policy_for(f"{where}/{name}"))
        for name in ("a", "a#b")
    ]
    one = verifier(made[0].trust)
    assert [judged(one, simulator.build()) for simulator in made] == [None, "policy-syntax"]


def test_memory_forgets_all_rather_than_grow(
    where: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(memory_module, "ENTRIES_MAX", 2)
    made = [build(where, name, "") for name in CONTENTS]
    one = verifier(made[0][1])
    for data, _ in made:
        assert judged(one, data) is None
    assert len(one._memory._digests) <= 2 and len(one._memory._policies) <= 2
