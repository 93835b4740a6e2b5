"""certexec keygen, as typed."""

import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certexec.trust.keys import parse_public
from certexec.trust.private_keys import from_pem
from tests.cli.conftest import Script

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", ["ed25519", "p256", "mldsa65"])
def test_makes_a_private_key_for_its_owner_and_a_public_one_for_all(
    script: Script, kind: str
) -> None:
    script(
        f"""
        certexec keygen -f ops -t {kind} --no-passphrase -C "ops team"
        stdout '^SHA256:[A-Za-z0-9+/]{{43}}$'
        stderr 'wrote "ops.key" and "ops.pub"'
        mode ops.key 0600
        mode ops.pub 0644
        """
    )
    public = parse_public(script.path("ops.pub").read_text())
    private = from_pem(script.path("ops.key").read_bytes(), None, "ops.key")
    assert (public.kind, public.comment, public.raw) == (kind, "ops team", private.public.raw)
    assert public.fingerprint + "\n" == script.stdout


def test_the_private_key_is_never_readable_by_others_whatever_the_umask(script: Script) -> None:
    before = os.umask(0)
    try:
        script("certexec keygen -f ops --no-passphrase")
    finally:
        os.umask(before)
    script("mode ops.key 0600\nmode ops.pub 0644")


def test_an_existing_file_is_never_replaced_without_force(script: Script) -> None:
    script(
        """
        certexec keygen -f ops --no-passphrase
        cp ops.key before.key
        cp ops.pub before.pub
        ! certexec keygen -f ops --no-passphrase
        stderr '"ops.key" exists'
        stderr 'hint: use "--force"'
        same ops.key before.key
        rm ops.key
        ! certexec keygen -f ops --no-passphrase
        ! exists ops.key
        same ops.pub before.pub
        certexec keygen -f ops --no-passphrase --force
        mode ops.key 0600
        ! same ops.pub before.pub
        """
    )


def test_a_symbolic_link_in_the_way_is_not_followed(script: Script) -> None:
    script.path("ops.key").symlink_to("elsewhere")
    script(
        """
        ! certexec keygen -f ops --no-passphrase
        ! exists elsewhere
        certexec keygen -f ops --no-passphrase --force
        ! exists elsewhere
        mode ops.key 0600
        """
    )
    assert stat.S_ISREG(script.path("ops.key").lstat().st_mode)


def test_what_cannot_work_is_refused_before_anything_is_written(script: Script) -> None:
    script(
        """
        ? certexec keygen
        ? certexec keygen -f ops.key --no-passphrase
        stderr 'hint: say "-f ops"'
        ? certexec keygen -f ops -t rsa --no-passphrase
        ? certexec keygen -f ops --no-passphrase --passphrase-fd 0
        ? certexec keygen -f missing/ops --no-passphrase
        stderr 'hint: "mkdir -p missing" first'
        ? certexec keygen -f /dev/null/ops --no-passphrase
        stderr '"/dev/null" is not a directory'
        ? certexec keygen -f / --no-passphrase
        ? certexec keygen -f . --no-passphrase
        ? certexec keygen -f ./.. --no-passphrase
        ! certexec keygen -f ops --no-passphrase -C "two  spaces at the end "
        ! exists ops.key ops.pub
        """
    )
    assert list(script.directory.iterdir()) == []


def test_what_cannot_be_written_is_told_before_a_passphrase_is_asked(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptor 999 is not open: whoever asks for a passphrase says so."""
    script(
        """
        ? certexec keygen -f missing/sub/ops --passphrase-fd 999
        stderr 'there is no directory "missing/sub"'
        stderr 'hint: "mkdir -p missing/sub" first'
        certexec keygen -f ops --no-passphrase
        rm ops.key
        ! certexec keygen -f ops --passphrase-fd 999
        stderr '"ops.pub" exists'
        stderr 'hint: use "--force"'
        mkdir sub
        """
    )
    monkeypatch.setattr(os, "access", lambda path, mode: path != "sub")
    script(
        """
        ? certexec keygen -f sub/ops --passphrase-fd 999
        stderr 'cannot write "sub/ops.key": its directory is not writable for you'
        ? certexec keygen -f other --passphrase-fd 999
        stderr 'cannot read a passphrase from descriptor 999'
        ! exists sub/ops.key other.key
        """
    )


def with_descriptor(content: bytes) -> str:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return str(reading)


def test_a_passphrase_comes_from_a_descriptor(script: Script) -> None:
    script(f"certexec keygen -f ops --passphrase-fd {with_descriptor(b'secret' + bytes([10]))}")
    pem = script.path("ops.key").read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert from_pem(pem, b"secret", "ops.key")


def test_only_one_line_is_read_from_the_descriptor(script: Script) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"secret\nrest")  # and the pipe stays open
    script(f"certexec keygen -f ops --passphrase-fd {reading}")
    assert from_pem(script.path("ops.key").read_bytes(), b"secret", "ops.key")
    assert os.read(reading, 10) == b"rest"
    os.close(writing)
    os.close(reading)


def test_a_file_system_without_hard_links_will_do(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refusing)
    script(
        """
        certexec keygen -f ops --no-passphrase
        mode ops.key 0600
        ! certexec keygen -f ops --no-passphrase
        """
    )
    assert sorted(path.name for path in script.directory.iterdir()) == ["ops.key", "ops.pub"]


def test_an_empty_passphrase_is_refused(script: Script) -> None:
    script(
        f"""
        ? certexec keygen -f ops --passphrase-fd {with_descriptor(bytes([10]))}
        stderr 'hint: to do without one'
        ? certexec keygen -f ops --passphrase-fd 999
        stderr 'cannot read'
        ? certexec keygen -f ops --passphrase-fd {with_descriptor(b"")}
        stderr 'no passphrase'
        ! exists ops.key ops.pub
        """
    )


def typed(directory: Path, arguments: list[str], answers: list[bytes]) -> tuple[int, bytes]:
    """Run certexec on a terminal of its own and type ``answers``, each after a prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "certexec.cli.main", *arguments])
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            block = os.read(terminal, 4096)
        except OSError:
            break
        if not block:
            break
        shown += block
        if answers and shown.endswith(b": "):
            os.write(terminal, answers.pop(0) + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown


def test_a_passphrase_is_asked_twice_on_the_terminal_and_not_shown(script: Script) -> None:
    code, shown = typed(script.directory, ["keygen", "-f", "ops"], [b"s3cret", b"s3cret"])
    assert code == 0, shown
    assert b"s3cret" not in shown
    assert from_pem(script.path("ops.key").read_bytes(), b"s3cret", "ops.key")


def test_two_different_passphrases_make_no_key(script: Script) -> None:
    code, shown = typed(script.directory, ["keygen", "-f", "ops"], [b"one", b"two"])
    assert code == 2
    assert b"differ" in shown
    assert list(script.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("typed_key", "code", "said"), [(b"\x04", 2, b"no passphrase was typed"), (b"\x03", -2, b"")]
)
def test_a_passphrase_that_is_not_typed_makes_no_key(
    script: Script, typed_key: bytes, code: int, said: bytes
) -> None:
    ended, shown = typed(script.directory, ["keygen", "-f", "ops"], [typed_key])
    assert (ended, said in shown) == (code, True), shown
    assert list(script.directory.iterdir()) == []


def test_without_a_terminal_nobody_is_asked(script: Script) -> None:
    done = subprocess.run(
        ["setsid", sys.executable, "-m", "certexec.cli.main", "keygen", "-f", "ops"],
        cwd=script.directory, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no terminal" in done.stderr and "--passphrase-fd" in done.stderr
    assert list(script.directory.iterdir()) == []
