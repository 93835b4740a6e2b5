"""certexec key, as typed."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certexec.cli import common
from certexec.trust.agent import ssh_blob, ssh_fingerprint
from certexec.trust.keys import parse_public
from certexec.trust.private_keys import from_pem
from tests.certificate.simulator import key
from tests.cli.conftest import Script
from tests.cli.test_keygen import ROOT, typed, with_descriptor
from tests.trust.fake_agent import fake_agent, string

NEWLINE = bytes([10])


@pytest.fixture
def keys(script: Script) -> Script:
    """Return a directory with a plain key and an encrypted one."""
    locked = with_descriptor(b"old" + NEWLINE)
    script(
        f"""
        certexec keygen -f plain --no-passphrase -C "plain key"
        certexec keygen -f locked -t p256 --passphrase-fd {locked}
        """
    )
    return script


def content_of(script: Script, name: str, passphrase: bytes | None) -> bytes:
    """Return the raw public half of a private key file, opened with a passphrase."""
    return from_pem(script.path(name).read_bytes(), passphrase, name).public.raw


# -- show ------------------------------------------------------------------------------------------


def test_show_says_what_a_public_key_is(keys: Script) -> None:
    keys(
        """
        certexec key show plain.pub locked.pub
        stdout '^plain.pub: ed25519 SHA256:.{43} plain key$'
        stdout '^locked.pub: p256 SHA256:.{43}$'
        ! stderr .
        certexec -q key show plain.pub
        stdout '^plain.pub: ed25519'
        """
    )


def test_show_says_the_same_as_json(keys: Script) -> None:
    keys("certexec keygen -f later -t mldsa65 --no-passphrase")
    keys("certexec key show --json plain.pub locked.pub later.pub")
    shown = json.loads(keys.stdout)
    assert shown["schema"] == 1
    plain, locked, later = shown["keys"]
    public = parse_public(keys.path("plain.pub").read_bytes())
    assert plain == {
        "file": "plain.pub", "type": "ed25519", "algorithm": -19, "comment": "plain key",
        "fingerprint": public.fingerprint, "ssh_fingerprint": ssh_fingerprint(ssh_blob(public) or
                                                                              b""),
    }  # fmt: skip
    assert (locked["type"], locked["algorithm"]) == ("p256", -9)
    assert (later["type"], later["algorithm"], later["ssh_fingerprint"]) == ("mldsa65", -49, None)


def test_show_says_of_a_wrong_file_what_it_is(keys: Script) -> None:
    keys.write("junk", "junk")
    keys(
        """
        ! certexec key show plain.key
        stderr '"plain.key" is a private key'
        stderr 'hint: give its public half: "plain.pub"'
        ! certexec key show plain.pub junk
        stderr '"junk" is not a public key of certexec'
        ! stdout .
        ? certexec key show missing.pub
        stderr 'there is no key "missing.pub"'
        ? certexec key show
        """
    )


# -- public ----------------------------------------------------------------------------------------


def test_the_public_half_is_made_from_the_private_one(keys: Script) -> None:
    keys('certexec key public -k plain.key -C "plain key"')
    assert keys.stdout == keys.path("plain.pub").read_text()
    keys(
        f"""
        certexec key public -k locked.key -o out.pub \
          --passphrase-fd {with_descriptor(b'old' + NEWLINE)}
        stdout '^out.pub: p256 SHA256:.{{43}}$'
        same out.pub locked.pub
        mode out.pub 0644
        ! certexec key public -k plain.key -o out.pub
        stderr 'hint: use "--force"'
        same out.pub locked.pub
        certexec -q key public -k plain.key -o out.pub --force
        ! stdout .
        ! stderr .
        ! same out.pub locked.pub
        ? certexec key public -k plain.key -o missing/out.pub
        stderr 'hint: "mkdir -p missing"'
        ! certexec key public -k plain.key -C "not  stripped "
        ! certexec key public -k plain.pub
        stderr 'hint: give "plain.key"'
        """.replace("\\\n", "")
    )


def test_the_public_half_of_an_agent_s_key_can_be_trusted(
    signed: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(signed.path("agent")))
    reference = f"agent:{key('alice').public.fingerprint}"
    with fake_agent(signed.path("agent"), key("alice")):
        signed(
            f"""
            certexec key public -k {reference} -o agent.pub
            stdout '^agent.pub: ed25519 SHA256:.* a comment$'
            certexec trust add agent.pub --trust trust
            certexec sign -k {reference} -p hello.policy -o out.cert hello
            certexec verify --trust trust out.cert
            """
        )


# -- list ------------------------------------------------------------------------------------------


def test_list_tells_what_can_be_known_without_a_passphrase(keys: Script) -> None:
    keys(
        """
        cp locked.key alone.key
        chmod 644 plain.key
        certexec key list
        stdout '^alone.key: unknown without its passphrase$'
        stdout '^locked.key: p256 SHA256:.{43}$'
        stdout '^plain.key: ed25519 SHA256:.{43} plain key \\(not encrypted, others can read it\\)$'
        mkdir empty
        certexec key list empty
        ! stdout .
        stderr 'no private key in "empty"'
        ? certexec key list missing
        ? certexec key list --agent .
        """
    )


def test_list_trusts_a_private_key_more_than_the_public_file_beside_it(keys: Script) -> None:
    keys("cp locked.pub plain.pub\ncertexec key list\nstdout '^plain.key: ed25519'")


def test_list_passes_over_what_is_no_key(keys: Script) -> None:
    keys.write("junk.key", "junk")
    keys.path("folder.key").mkdir()
    keys(
        """
        certexec key list .
        ! stdout 'junk|folder'
        stdout '^plain.key'
        stderr '"junk.key" is not a private key'
        stderr 'folder.key'
        """
    )


def test_list_as_json(keys: Script) -> None:
    keys("cp locked.key alone.key\ncertexec key list --json")
    shown = json.loads(keys.stdout)
    alone, locked, plain = shown["keys"]
    assert shown["schema"] == 1
    assert (alone["file"], alone["encrypted"], alone["private"]) == ("alone.key", True, True)
    assert (alone["type"], alone["fingerprint"]) == (None, None)
    assert (locked["file"], locked["encrypted"], locked["type"]) == ("locked.key", True, "p256")
    assert (plain["encrypted"], plain["comment"]) == (False, "plain key")


def test_list_shows_what_an_agent_holds(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(script.path("agent")))
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\1" * 32)
    public = key("alice").public
    with fake_agent(script.path("agent"), key("alice")) as agent:
        agent.others = [rsa]
        script("certexec key list --agent")
        printed = ssh_fingerprint(ssh_blob(public) or b"")
        assert script.stdout == (
            f"agent:{public.fingerprint}: ed25519 a comment\n    ssh-keygen calls it {printed}\n"
        )
        assert "cannot be used: certificates are not signed with" in script.stderr
        script("certexec key list --agent --json")
        shown = json.loads(script.stdout)
        assert shown["keys"][0]["reference"] == f"agent:{public.fingerprint}"
        assert shown["others"][0]["ssh_fingerprint"] == ssh_fingerprint(rsa)
        agent.keys, agent.others = [], []
        script("certexec key list --agent\n! stdout .\nstderr 'holds no key'")
    script("? certexec key list --agent\nstderr 'cannot talk to the agent'")
    monkeypatch.delenv("SSH_AUTH_SOCK")
    script("? certexec key list --agent\nstderr 'SSH_AUTH_SOCK is not set'")


# -- passwd ----------------------------------------------------------------------------------------


def passwords(*lines: bytes) -> str:
    return with_descriptor(b"".join(line + NEWLINE for line in lines))


def test_a_passphrase_is_changed_set_and_taken_away(keys: Script) -> None:
    locked, plain = content_of(keys, "locked.key", b"old"), content_of(keys, "plain.key", None)
    keys(
        f"""
        certexec key passwd locked.key --passphrase-fd {passwords(b"old", b"new")}
        stdout '^locked.key: passphrase changed$'
        mode locked.key 0600
        """
    )
    assert content_of(keys, "locked.key", b"new") == locked
    keys(
        f"""
        chmod 644 plain.key
        certexec key passwd plain.key --passphrase-fd {passwords(b"first")}
        mode plain.key 0600
        certexec key passwd file:locked.key --no-passphrase --passphrase-fd {passwords(b"new")}
        stdout 'not encrypted any more'
        mode locked.key 0600
        certexec -q key passwd locked.key --no-passphrase
        ! stdout .
        """
    )
    assert content_of(keys, "plain.key", b"first") == plain
    assert content_of(keys, "locked.key", None) == locked
    assert sorted(path.name for path in keys.directory.iterdir()) == [
        "locked.key", "locked.pub", "plain.key", "plain.pub",
    ]  # fmt: skip


def test_nothing_changes_when_a_passphrase_is_wrong_or_empty(keys: Script) -> None:
    before = keys.path("locked.key").stat(), keys.path("locked.key").read_bytes()
    keys(
        f"""
        ! certexec key passwd locked.key --passphrase-fd {passwords(b"wrong", b"new")}
        stderr 'the passphrase does not open "locked.key"'
        ? certexec key passwd locked.key --passphrase-fd {passwords(b"old", b"")}
        stderr 'hint: to do without one'
        ? certexec key passwd locked.key --passphrase-fd {passwords(b"old")}
        stderr 'no passphrase is left'
        """
    )
    after = keys.path("locked.key").stat(), keys.path("locked.key").read_bytes()
    assert (before[0].st_ino, before[1]) == (after[0].st_ino, after[1])


def test_what_is_no_key_file_has_no_passphrase(keys: Script) -> None:
    os.mkfifo(keys.path("pipe"))
    keys.path("directory.key").mkdir()
    keys(
        """
        ! certexec key passwd plain.pub
        stderr '"plain.pub" is a public key'
        ? certexec key passwd missing.key
        stderr 'hint: make one with "certexec keygen -f .*missing"'
        ? certexec key passwd directory.key
        ? certexec key passwd agent:SHA256:x
        stderr 'is not a file'
        ? certexec key passwd
        """
    )


def test_a_link_stays_a_link_and_its_key_is_changed(keys: Script) -> None:
    keys.path("sub").mkdir()
    keys.path("plain.key").rename(keys.path("sub/real.key"))
    keys.path("plain.key").symlink_to("sub/real.key")
    keys(f"certexec key passwd plain.key --passphrase-fd {passwords(b'new')}")
    assert keys.path("plain.key").is_symlink()
    assert content_of(keys, "sub/real.key", b"new")


def test_other_names_of_the_file_are_mentioned(keys: Script) -> None:
    os.link(keys.path("locked.key"), keys.path("backup.key"))
    keys(
        f"""
        certexec key passwd locked.key --passphrase-fd {passwords(b"old", b"new")}
        stderr 'warning: "locked.key" has other names'
        """
    )
    assert content_of(keys, "locked.key", b"new") == content_of(keys, "backup.key", b"old")


@pytest.mark.parametrize("name", ["rename", "fsync", "fchmod", "open"])
def test_the_key_survives_when_writing_fails(
    keys: Script, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = keys.path("locked.key").read_bytes()
    real: Callable[..., object] = getattr(os, name)

    def failing(*arguments: object, **options: object) -> object:
        if name != "open" or ".tmp" in str(arguments[0]):
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    descriptor = passwords(b"old", b"new")
    monkeypatch.setattr(common.os, name, failing)
    keys(f"? certexec key passwd locked.key --passphrase-fd {descriptor}\nstderr 'No space left'")
    monkeypatch.undo()
    assert keys.path("locked.key").read_bytes() == before
    assert not [path for path in keys.directory.iterdir() if path.name.endswith(".tmp")]


def test_a_key_that_is_replaced_meanwhile_is_not_overwritten(
    keys: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = common.Passphrases.ask_new

    def replaced(self: common.Passphrases, *arguments: str) -> bytes:
        keys.path("plain.key").replace(keys.path("locked.key"))
        return real(self, *arguments)

    monkeypatch.setattr(common.Passphrases, "ask_new", replaced)
    plain = keys.path("plain.key").read_bytes()
    keys(
        f"""
        ! certexec key passwd locked.key --passphrase-fd {passwords(b"old", b"new")}
        stderr 'was changed meanwhile'
        """
    )
    assert keys.path("locked.key").read_bytes() == plain


def test_a_person_types_the_old_passphrase_and_the_new_one_twice(keys: Script) -> None:
    code, shown = typed(keys.directory, ["key", "passwd", "locked.key"], [b"old", b"new", b"new"])
    assert code == 0, shown
    assert b'passphrase for "locked.key":' in shown and b'new passphrase for "locked.key":' in shown
    assert content_of(keys, "locked.key", b"new")
    code, shown = typed(keys.directory, ["key", "passwd", "locked.key"], [b"new", b"a", b"b"])
    assert (code, b"differ" in shown) == (2, True)
    assert content_of(keys, "locked.key", b"new")


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_asked(
    keys: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.os, "access", lambda path, mode: False)
    keys("? certexec key passwd locked.key --passphrase-fd 999\nstderr 'not writable'")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can own other people's files")
def test_root_leaves_a_key_to_its_owner(keys: Script) -> None:
    os.chown(keys.path("plain.key"), 12345, 23456)
    keys(f"certexec key passwd plain.key --passphrase-fd {passwords(b'new')}")
    status = keys.path("plain.key").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o600)


def test_a_kill_at_any_moment_leaves_one_key_or_the_other(keys: Script) -> None:
    """The file opens with the old passphrase or with the new one, whenever the command dies."""
    raw = content_of(keys, "plain.key", None)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "certexec.cli.main", "key", "passwd", "plain.key",
               "--no-passphrase"]  # fmt: skip
    begin = time.monotonic()
    subprocess.run(command, cwd=keys.directory, env=environment, check=True, capture_output=True)
    length = time.monotonic() - begin
    ends = set()
    for number in range(12):
        process = subprocess.Popen(
            command, cwd=keys.directory, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(length * (0.4 + 0.05 * number))
        process.send_signal(signal.SIGKILL)
        ends.add(process.wait())
        assert content_of(keys, "plain.key", None) == raw
        assert stat.S_IMODE(keys.path("plain.key").stat().st_mode) == 0o600
    for path in keys.directory.glob(".*.tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ends <= {0, -signal.SIGKILL}


def test_the_group_has_a_page_in_help(script: Script) -> None:
    script(
        """
        certexec key --help
        stdout '^  list '
        stdout '^  passwd '
        stdout '^  public '
        stdout '^  show '
        ? certexec key
        ? certexec key frobnicate
        """
    )
    assert Path(ROOT / "man" / "certexec-key.1").exists()
