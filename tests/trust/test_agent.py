"""Keys of an ssh-agent: a good one signs, a bad one is refused, and in bounded time."""

import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import TrustError
from certexec.trust import agent as protocol
from certexec.trust.agent import Agent, public_of_blob, ssh_blob, ssh_fingerprint
from certexec.trust.keys import PublicKey
from tests.certificate.simulator import key
from tests.trust.fake_agent import FakeAgent, fake_agent, mpint, signature_blob, string

KINDS = ("ed25519", "p256")
MESSAGE = b"what is to be signed"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeAgent]:
    keys = [key("alice"), key("k-p256", "p256")]
    with fake_agent(tmp_path / "agent", *keys) as made:
        yield made


@pytest.fixture
def agent(fake: FakeAgent, tmp_path: Path) -> Agent:
    return Agent(str(tmp_path / "agent"), 5, 5)


def refused(act: Callable[[], object]) -> TrustError:
    with pytest.raises(TrustError) as caught:
        act()
    assert caught.value.message[0].islower()
    return caught.value


# -- a good agent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_an_agent_signs_and_the_key_is_found_by_both_fingerprints(
    fake: FakeAgent, agent: Agent, number: int
) -> None:
    public = fake.keys[number].public
    blob = ssh_blob(public)
    assert blob is not None
    for fingerprint in (public.fingerprint, ssh_fingerprint(blob)):
        found = agent.find(fingerprint)
        assert (found.public.kind, found.public.raw) == (public.kind, public.raw)
        assert found.public.comment == "a comment"
        for message in (MESSAGE, b"", bytes(70000)):
            assert public.verify(found.sign(message), message)


def test_short_numbers_of_a_p256_signature_are_filled_up(fake: FakeAgent, agent: Agent) -> None:
    """One signature in 128 has a half that begins with a NUL; every form is met here."""
    found = agent.find(fake.keys[1].public.fingerprint)
    lengths = set()
    fake.requests.clear()
    for number in range(400):
        found.sign(b"%d" % number)
        lengths.add(len(signature_blob(fake.keys[1], b"%d" % number)))
    assert len(lengths) > 1


def test_keys_that_cannot_sign_certificates_are_told_apart(fake: FakeAgent, agent: Agent) -> None:
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\0" + b"\xff" * 32)
    token = string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"ssh:")
    other_curve = string(b"ecdsa-sha2-nistp384") + string(b"nistp384") + string(bytes(97))
    mixed = string(protocol.SSH_P256) + string(b"nistp384") + string(bytes(65))
    weak = string(protocol.SSH_ED25519) + string(b"\1" + bytes(31))
    longer = (ssh_blob(key("alice").public) or b"") + b"x"
    fake.others = [rsa, token, other_curve, mixed, weak, longer, b"", b"\0\0"]
    usable, others = agent.keys()
    assert [one.public.raw for one in usable] == [one.public.raw for one in fake.keys]
    assert set(others) == {ssh_fingerprint(blob) for blob in fake.others}
    assert "ssh-rsa" in others[ssh_fingerprint(rsa)]
    assert "small order" in others[ssh_fingerprint(weak)]
    error = refused(lambda: agent.find(ssh_fingerprint(rsa)))
    assert error.reason == "bad-key" and "ssh-rsa" in error.message


def test_a_key_that_is_not_there_is_not_found(agent: Agent) -> None:
    for fingerprint in ("", "SHA256:", key("bob").public.fingerprint):
        error = refused(lambda given=fingerprint: agent.find(given))  # type: ignore[misc]
        assert error.reason == "not-found"
        assert "certexec key list --agent" in error.hint


@pytest.mark.parametrize(
    "comment", [b"", b" spaces ", b"\x1b[2J", b"x" * 300, b"\xff\xfe", b"a\nb"]
)
def test_an_odd_comment_does_no_harm(fake: FakeAgent, agent: Agent, comment: bytes) -> None:
    fake.comment = comment
    usable, others = agent.keys()
    assert (len(usable), others) == (2, {})
    assert usable[0].public.comment in ("", "spaces", "\ufffd\ufffd")


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_in_ssh_s_form_reads_back(kind: str) -> None:
    public = key(f"k-{kind}", kind).public
    blob = ssh_blob(public)
    assert blob is not None
    assert public_of_blob(blob).kid == public.kid
    assert ssh_blob(key("k-mldsa65", "mldsa65").public) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_refused_as_one(blob: bytes) -> None:
    try:
        assert isinstance(public_of_blob(blob), PublicKey)
    except TrustError as error:
        assert error.reason == "bad-key"


# -- a bad one -------------------------------------------------------------------------------------

LIST = bytes((protocol.IDENTITIES_ANSWER,))
BAD_ANSWERS: dict[str, bytes] = {
    "a length of nothing": struct.pack(">I", 0),
    "a length beyond the limit": struct.pack(">I", protocol.MAX_ANSWER + 1) + b"x" * 64,
    "the largest length": b"\xff\xff\xff\xff",
    "half a length": b"\0\0",
    "a cut answer": struct.pack(">I", 100) + LIST + bytes(20),
    "no count": string(LIST + b"\0\0"),
    "a count of too many": string(LIST + b"\xff\xff\xff\xff"),
    "a key that is longer than the answer": string(LIST + b"\0\0\0\1" + b"\0\0\1\0" + b"x"),
    "a key without a comment": string(LIST + b"\0\0\0\1" + string(b"x")),
    "something after the list": string(LIST + bytes(4) + b"x"),
    "another type": string(b"\x0e" + bytes(4)),
    "a failure": string(b"\x05"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_list_is_refused_that_is(name: str, fake: FakeAgent, agent: Agent) -> None:
    fake.raw = BAD_ANSWERS[name]
    error = refused(agent.keys)
    assert error.reason == "unreadable"
    assert "the agent's answer" in error.message
    assert ("are possible" in error.message) == ("length" in name and "half" not in name)


def of(name: bytes, signature: bytes) -> bytes:
    return string(name) + string(signature)


ED, P256 = protocol.SSH_ED25519, protocol.SSH_P256
HALF = bytes(31) + b"\1"
BAD_SIGNATURES: dict[str, tuple[int, bytes, str]] = {
    "another key's kind": (0, of(P256, mpint(b"\1" * 32) + mpint(b"\1" * 32)), "another kind"),
    "an unknown kind": (0, of(b"ssh-rsa", bytes(64)), "another kind"),
    "too short": (0, of(ED, bytes(63)), "another kind"),
    "too long": (0, of(ED, bytes(65)), "another kind"),
    "nothing": (0, b"", "cut short"),
    "without its content": (0, string(ED), "cut short"),
    "followed by something": (0, of(ED, bytes(64)) + b"x", "longer than it says"),
    "an Ed25519 one for P-256": (1, of(ED, bytes(64)), "another kind"),
    "one number": (1, of(P256, mpint(b"\1")), "cut short"),
    "three numbers": (1, of(P256, mpint(b"\1") * 3), "longer than it says"),
    "a number of 33 bytes": (1, of(P256, mpint(b"\1" * 33) + mpint(b"\1")), "a number"),
    "a negative number": (1, of(P256, string(b"\x80" + bytes(31)) + mpint(b"\1")), "a number"),
    "a number with a NUL too many": (1, of(P256, string(b"\0\1") + mpint(b"\1")), "a number"),
    "a number of no bytes": (1, of(P256, string(b"") + mpint(b"\1")), "a number"),
    "a number that is zero": (1, of(P256, string(b"\0") + mpint(b"\1")), "a number"),
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_a_signature_is_refused_that_is(name: str, fake: FakeAgent, agent: Agent) -> None:
    number, blob, complaint = BAD_SIGNATURES[name]
    found = agent.find(fake.keys[number].public.fingerprint)
    fake.raw = string(bytes((protocol.SIGN_RESPONSE,)) + string(blob))
    error = refused(lambda: found.sign(MESSAGE))
    assert (error.reason, complaint in error.message) == ("unreadable", True), error.message


@pytest.mark.parametrize("number", [0, 1])
def test_a_signature_that_does_not_fit_is_refused(
    fake: FakeAgent, agent: Agent, number: int
) -> None:
    found = agent.find(fake.keys[number].public.fingerprint)
    for wrong in (
        signature_blob(fake.keys[number], b"another message"),
        signature_blob(key("bob" if number == 0 else "bob-p256", KINDS[number]), MESSAGE),
    ):
        fake.raw = string(bytes((protocol.SIGN_RESPONSE,)) + string(wrong))
        assert refused(lambda: found.sign(MESSAGE)).reason == "bad-signature"


def test_a_response_of_another_type_or_with_more_in_it_is_no_signature(
    fake: FakeAgent, agent: Agent
) -> None:
    found = agent.find(fake.keys[0].public.fingerprint)
    fake.twist = lambda answer: b"\x0c" + answer[1:]
    assert "is not a signature" in refused(lambda: found.sign(MESSAGE)).message
    fake.twist = lambda answer: answer + b"x"
    assert "longer than it says" in refused(lambda: found.sign(MESSAGE)).message


def test_every_cut_of_an_answer_is_refused(fake: FakeAgent, agent: Agent) -> None:
    found = agent.find(fake.keys[0].public.fingerprint)
    blob = ssh_blob(found.public) or b""
    whole = fake.answer(b"\x0d" + string(blob) + string(MESSAGE) + bytes(4))
    for length in range(1, len(whole)):
        fake.raw = string(whole[:length])
        assert refused(lambda: found.sign(MESSAGE)).reason == "unreadable"


@pytest.mark.parametrize("code", protocol.FAILURES)
def test_an_agent_that_refuses_to_sign_is_said_to(
    fake: FakeAgent, agent: Agent, code: int
) -> None:
    found = agent.find(fake.keys[0].public.fingerprint)
    fake.raw = string(bytes((code,)))
    error = refused(lambda: found.sign(MESSAGE))
    assert (error.reason, error.message) == ("unreadable", "the agent did not sign")
    assert "ssh-add -X" in error.hint


@pytest.mark.parametrize("answer", [b"", struct.pack(">I", 50) + b"\x0c"])
def test_an_agent_that_is_silent_is_not_waited_for(
    fake: FakeAgent, tmp_path: Path, answer: bytes
) -> None:
    fake.raw = answer
    agent = Agent(str(tmp_path / "agent"), 0.2, 0.2)
    begin = time.monotonic()
    message = refused(agent.keys).message
    assert time.monotonic() - begin < 20
    assert "within 0.2 seconds" in message if answer == b"" else "cut short" in message


def test_an_agent_that_drips_does_not_outlive_the_deadline(tmp_path: Path) -> None:
    """Each byte comes in time, the whole does not."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "agent"))
    listening.listen()
    over = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(5)
            connection.sendall(struct.pack(">I", 100000))
            while not over.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    assert "within 0.5" in refused(Agent(str(tmp_path / "agent"), 0.5, 0.5).keys).message
    over.set()
    thread.join(10)
    listening.close()


def test_an_agent_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file", tmp_path / ("x" * 200), tmp_path):
        error = refused(Agent(str(path)).keys)
        assert error.reason == "unreadable"
        assert "ssh-add" in error.hint


# -- OpenSSH's -------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of OpenSSH's agent, which ends with the test."""
    if any(shutil.which(name) is None for name in ("ssh-agent", "ssh-add", "ssh-keygen")):
        pytest.skip("openssh-client is not installed")
    path = tmp_path / "real"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it says where it listens once it does
        yield path
    finally:
        process.terminate()
        process.wait()


def ssh(real: Path, *argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, "SSH_AUTH_SOCK": str(real)}, cwd=real.parent,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_openssh_s_agent_signs(real: Path, kind: str) -> None:
    ssh(real, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "of ssh", "-f", "id")
    assert Agent(str(real)).keys() == ([], {})
    ssh(real, "ssh-add", "-q", "id")
    (listed,), others = Agent(str(real)).keys()
    assert others == {}
    printed = ssh(real, "ssh-keygen", "-l", "-f", "id.pub").split()[1]
    assert listed.ssh_fingerprint == printed
    found = Agent(str(real)).find(printed)
    assert found.public.comment == "of ssh"
    for number in range(20):
        message = b"%d" % number
        assert found.public.verify(found.sign(message), message)


def test_openssh_s_agent_refuses_when_it_is_locked_or_the_key_is_gone(real: Path) -> None:
    ssh(real, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "id")
    ssh(real, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "other")
    ssh(real, "ssh-add", "-q", "id", "other")
    (found,), others = Agent(str(real)).keys()
    assert "ssh-rsa" in "".join(others.values())
    ssh(real, "ssh-add", "-q", "-D")
    assert refused(lambda: found.sign(MESSAGE)).message == "the agent did not sign"
