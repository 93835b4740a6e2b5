"""certexec trust, as typed."""

import json
import os

from certexec.trust.store import load_store
from tests.cli.conftest import Script

ME = {0, os.getuid()}


def test_a_key_is_added_listed_and_removed(script: Script) -> None:
    script(
        """
        certexec keygen -f ops --no-passphrase -C "ops team"
        certexec trust add ops.pub --trust trust
        stdout '^ops: trusted \\(SHA256:.{43}\\)$'
        certexec trust list --trust trust
        stdout '^ops: ed25519 SHA256:.{43} ops team$'
        stdout 'may grant nothing'
        certexec trust remove ops --trust trust
        stdout '^ops: removed'
        certexec trust list --trust trust
        ! stdout .
        stderr 'no key is trusted'
        """
    )


def test_all_constraints_are_kept(script: Script) -> None:
    script("certexec keygen -f ops --no-passphrase")
    code = script.certexec(
        "trust", "add", "ops.pub", "--trust", "trust", "--name", "build", "--may-grant", "root",
        "--may-grant", ":daemon", "--may-grant", "#12345", "--may-grant", "cap:CAP_NET_RAW",
        "--path", "/usr/bin/*", "--path", "/opt/**", "--max-lifetime", "90d", "--cosigners", "2",
    )  # fmt: skip
    assert code == 0, script.stderr
    (trusted,) = load_store(str(script.path("trust").resolve()), owner_ok=ME)
    limits = trusted.constraints
    assert trusted.name == "build"
    assert limits.grants == ["user:root#0", "group:daemon#1", "user:#12345", "cap:net_raw"]
    assert limits.paths == ["/usr/bin/*", "/opt/**"]
    assert (limits.max_lifetime, limits.cosigners) == (90 * 86400, 2)
    script("certexec trust list --json --trust trust")
    shown = json.loads(script.stdout)
    assert shown["schema"] == 1
    assert shown["keys"] == [
        {
            "name": "build", "type": "ed25519", "fingerprint": trusted.key.fingerprint,
            "comment": "", "paths": limits.paths, "grants": limits.grants,
            "max_lifetime": 90 * 86400, "cosigners": 2,
        }
    ]  # fmt: skip


def test_adding_a_key_again_changes_what_it_may(signed: Script) -> None:
    signed(
        """
        certexec trust list --trust trust
        stdout 'user:root#0'
        certexec trust add ops.pub --trust trust
        stdout '^ops: changed'
        certexec trust list --trust trust
        ! stdout 'user:root#0'
        """
    )


def test_what_is_not_a_key_is_not_added(script: Script) -> None:
    script(
        """
        certexec keygen -f ops --no-passphrase
        ! certexec trust add ops.key --trust trust
        stderr '"ops.key" is a private key'
        stderr 'hint: give its public half: "ops.pub"'
        ? certexec trust add ops --trust trust
        stderr 'there is no key "ops"'
        stderr 'hint: did you mean "ops.pub"'
        ? certexec trust add missing.pub --trust trust
        stderr 'hint: make one with "certexec keygen -f missing"'
        ? certexec trust add ops.pub --trust trust --may-grant nobody-of-this-name
        stderr 'there is no user'
        ? certexec trust add ops.pub --trust trust --may-grant ':no-such-group'
        ? certexec trust add ops.pub --trust trust --may-grant cap:fly
        ? certexec trust add ops.pub --trust trust --max-lifetime 90
        stderr 'write it as 90d'
        ? certexec trust add ops.pub --trust trust --cosigners 8
        ? certexec trust add ops.pub --trust trust --name ../evil
        ? certexec trust add ops.pub --trust trust --path relative/x
        stderr 'the path pattern "relative/x" does not begin with a slash'
        ! exists trust
        ! exists evil
        """
    )


def test_a_file_that_is_no_public_key_is_named(signed: Script) -> None:
    signed.write("damaged.pub", "certexec-ed25519 AAAA ops")
    signed.write("id.pub", "ssh-ed25519 AAAAC3Nz me")
    signed.write("empty.pub", "")
    signed(
        """
        ! certexec trust add damaged.pub --trust other
        stderr '"damaged.pub": the ed25519 key has 3 bytes'
        ! certexec trust add id.pub --trust other
        stderr '"id.pub" is a public key of OpenSSH'
        stderr 'hint: .*certexec key public -k agent:SHA256:'
        ! certexec trust add empty.pub --trust other
        stderr '"empty.pub" is not a public key of certexec'
        stderr 'hint: "certexec keygen -f NAME"'
        ! certexec trust add hello.cert --trust other
        stderr '"hello.cert" is a certificate of certexec'
        rm ops.pub
        ! certexec trust add ops.key --trust other
        stderr 'hint: write its public half with "certexec key public -k ops.key -o ops.pub"'
        ! exists other
        """
    )


def test_a_small_order_key_is_not_added(script: Script) -> None:
    script.write("weak.pub", "certexec-ed25519 AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= weak\n")
    script(
        """
        ! certexec trust add weak.pub --trust trust
        stderr 'small order'
        ! exists trust
        """
    )


def test_names_and_keys_do_not_get_mixed_up(script: Script) -> None:
    script(
        """
        certexec keygen -f one --no-passphrase
        certexec keygen -f two --no-passphrase
        certexec trust add one.pub --trust trust
        ! certexec trust add one.pub --trust trust --name other
        stderr 'hint: .*--name one'
        ! certexec trust add two.pub --trust trust --name one
        stderr 'choose another'
        ? certexec trust remove two --trust trust
        stderr 'hint: "certexec trust list"'
        """
    )


def test_a_store_that_others_can_write_is_refused_by_every_verb(signed: Script) -> None:
    signed(
        """
        chmod 777 trust
        ! certexec trust list --trust trust
        stderr 'can be written by everybody'
        ! certexec trust add ops.pub --trust trust
        ! certexec trust remove ops --trust trust
        ! certexec verify --trust trust hello.cert
        exists trust/ops.pub
        """
    )


def test_a_missing_store_cannot_be_listed(script: Script) -> None:
    script(
        """
        ? certexec trust list --trust missing
        ? certexec trust remove x --trust missing
        """
    )
