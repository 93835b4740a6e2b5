"""What certexec sign -k takes: files, and keys that an agent holds."""

from collections.abc import Iterator

import pytest

from certexec.certificate.verify import read_unverified
from certexec.trust.agent import ssh_blob, ssh_fingerprint
from certexec.trust.keys import PublicKey, parse_public
from tests.certificate.simulator import key
from tests.cli.conftest import Script
from tests.cli.test_keygen import with_descriptor
from tests.trust.fake_agent import FakeAgent, fake_agent, string

ED25519 = key("alice").public
P256 = key("k-p256", "p256").public


@pytest.fixture
def agent(signed: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    """Return an agent that holds two keys, which the trust store knows as "ed" and "ec"."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(signed.path("agent")))
    for name, public in (("ed", ED25519), ("ec", P256)):
        signed.write(f"{name}.pub", public.line() + "\n")
        signed(f"certexec trust add {name}.pub --trust trust")
    with fake_agent(signed.path("agent"), key("alice"), key("k-p256", "p256")) as made:
        yield made


SIGN = "certexec sign --force -p hello.policy -o out.cert"


@pytest.mark.parametrize("chosen", [ED25519, P256], ids=["ed25519", "p256"])
def test_a_key_of_the_agent_signs(agent: FakeAgent, signed: Script, chosen: PublicKey) -> None:
    for fingerprint in (chosen.fingerprint, ssh_fingerprint(ssh_blob(chosen) or b"")):
        signed(f"{SIGN} -k agent:{fingerprint} hello")
        assert f"out.cert: signed ({chosen.fingerprint}, expires" in signed.stdout
        signed(f"certexec verify --trust trust --require-signer {chosen.fingerprint} out.cert")


def test_files_and_the_agent_sign_together(agent: FakeAgent, signed: Script) -> None:
    signed(
        f"""
        {SIGN} -k ops.key -k agent:{P256.fingerprint} -k agent:{ED25519.fingerprint} hello
        certexec verify --trust trust --require-signer {P256.fingerprint} out.cert
        ? {SIGN} -k agent:{P256.fingerprint} -k agent:{P256.fingerprint} hello
        stderr 'was given twice'
        """
    )
    issuer = parse_public(signed.path("ops.pub").read_bytes()).fingerprint
    assert read_unverified(signed.path("out.cert").read_bytes()).claims.iss == issuer


def test_a_spec_may_name_a_key_of_the_agent(agent: FakeAgent, signed: Script) -> None:
    signed.path("sub").mkdir()
    signed.write("sub/s.toml", f'key = "agent:{P256.fingerprint}"\npolicy = "../hello.policy"\n')
    signed("certexec sign --spec sub/s.toml -o out.cert hello")


def test_nothing_is_written_when_the_agent_signs_wrongly(
    agent: FakeAgent, signed: Script
) -> None:
    agent.twist = lambda answer: (
        answer if answer[0] == 12 else answer[:-1] + bytes([answer[-1] ^ 1])
    )
    signed(
        f"""
        ! certexec sign -k agent:{ED25519.fingerprint} -p hello.policy -o out.cert hello
        stderr "the agent's signature does not fit SHA256:"
        ! exists out.cert
        """
    )
    agent.twist = lambda answer: answer if answer[0] == 12 else b"\x05"
    signed(
        f"""
        ? certexec sign -k agent:{ED25519.fingerprint} -p hello.policy -o out.cert hello
        stderr 'the agent did not sign'
        stderr 'hint: .*ssh-add -X'
        ! exists out.cert
        """
    )


def test_a_key_that_the_agent_does_not_hold_is_not_found(
    agent: FakeAgent, signed: Script
) -> None:
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\1" * 32)
    agent.others = [rsa]
    signed(
        f"""
        ? certexec sign -k agent: -p hello.policy -o out.cert hello
        stderr '"agent:" names no key'
        ? certexec sign -k agent:SHA256:x -p hello.policy -o out.cert hello
        stderr 'the agent holds no key SHA256:x'
        stderr 'hint: "certexec key list --agent"'
        ! certexec sign -k agent:{ssh_fingerprint(rsa)} -p hello.policy -o out.cert hello
        stderr 'not signed with "ssh-rsa" keys'
        ! exists out.cert
        """
    )


def test_without_an_agent_it_is_said_how_to_get_one(
    signed: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    signed(
        """
        ? certexec sign -k agent:SHA256:x -p hello.policy -o out.cert hello
        stderr 'SSH_AUTH_SOCK is not set'
        stderr 'hint: start one: .*ssh-agent'
        """
    )
    monkeypatch.setenv("SSH_AUTH_SOCK", "/no/such/socket")
    signed(
        """
        ? certexec sign -k agent:SHA256:x -p hello.policy -o out.cert hello
        stderr 'cannot talk to the agent at "/no/such/socket"'
        """
    )


def test_a_token_is_used_through_an_agent(signed: Script) -> None:
    signed(
        """
        ? certexec sign -k pkcs11:token=x -p hello.policy -o out.cert hello
        stderr '"pkcs11:" cannot be used directly'
        stderr 'hint: .*ssh-add -s MODULE'
        """
    )


def test_a_key_that_others_can_read_is_mentioned(signed: Script) -> None:
    signed(
        """
        chmod 644 ops.key
        certexec sign -k ops.key -p hello.policy -o out.cert hello
        stderr 'warning: others can read the private key "ops.key"'
        chmod 600 ops.key
        certexec sign -k ops.key -p hello.policy -o out.cert --force hello
        ! stderr warning
        """
    )


def test_a_wrong_file_is_named_before_its_mode_is(signed: Script) -> None:
    signed.write("junk.key", "junk")
    signed.write("id", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    signed(
        """
        chmod 666 junk.key
        ! certexec sign -k junk.key -p hello.policy -o out.cert hello
        stderr '"junk.key" is not a private key$'
        stderr 'hint: "certexec keygen -f NAME"'
        ! stderr warning
        ! certexec sign -k ops.pub -p hello.policy -o out.cert hello
        stderr '"ops.pub" is a public key, not a private key$'
        stderr 'hint: give "ops.key"'
        ! stderr warning
        ! certexec sign -k hello.cert -p hello.policy -o out.cert hello
        stderr '"hello.cert" is a certificate of certexec, not a private key$'
        ! certexec sign -k id -p hello.policy -o out.cert hello
        stderr "in OpenSSH's own form"
        stderr 'hint: .*ssh-add id'
        ? certexec sign -k ops -p hello.policy -o out.cert hello
        stderr 'there is no key "ops"'
        stderr 'hint: did you mean "ops.key"'
        ? certexec sign -k file:new.key -p hello.policy -o out.cert hello
        stderr 'hint: make one with "certexec keygen -f new"'
        ! exists out.cert
        """
    )


def test_an_encrypted_key_needs_its_passphrase(signed: Script) -> None:
    line = bytes([10])
    signed(f"certexec keygen -f locked --passphrase-fd {with_descriptor(b'secret' + line)}")
    sign = "certexec sign -k locked.key -p hello.policy -o out.cert"
    signed(
        f"""
        ! {sign} --passphrase-fd {with_descriptor(b'wrong' + line)} hello
        stderr 'the passphrase does not open "locked.key"'
        ! exists out.cert
        {sign} --passphrase-fd {with_descriptor(b'secret' + line)} hello
        """
    )


def test_passphrases_of_several_keys_are_read_line_by_line(signed: Script) -> None:
    one, two = with_descriptor(b"1"), with_descriptor(b"2")
    signed(f"certexec keygen -f one --passphrase-fd {one}")
    signed(f"certexec keygen -f two --passphrase-fd {two}")
    both = with_descriptor(b"1" + bytes([10]) + b"2")
    sign = "certexec sign -k one.key -k two.key -p hello.policy -o out.cert"
    signed(f"{sign} --passphrase-fd {both} hello")
