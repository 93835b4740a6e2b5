"""certexec verify, as typed: 0 valid, 1 not, 2 could not tell."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certexec.certificate import codec
from certexec.certificate.envelope import MAX_SIZE
from certexec.trust.private_keys import from_pem
from tests.certificate.simulator import Signer, Simulator
from tests.cli.conftest import POLICY, Script
from tests.isolation import Machine, need

ROOT = Path(__file__).resolve().parents[2]


def simulated(signed: Script) -> Simulator:
    """Return a simulator that signs with the trusted key of ``signed``, for its program."""
    key = from_pem(signed.path("ops.key").read_bytes(), None, "ops.key", "ops")
    simulator = Simulator()
    simulator.signers = [Signer(key)]
    items = codec.decode(signed.path("hello.cert").read_bytes(), tags=True).value.value[1].value  # type: ignore[attr-defined]
    simulator.payload = codec.decode(items[2])
    simulator.claims.update({4: 4000000000, 5: 1700000000})
    return simulator


def test_a_valid_certificate_is_ok(signed: Script) -> None:
    signed(
        """
        certexec verify --trust trust hello.cert
        stdout '^hello.cert: OK \\(SHA256:.{43}, expires [0-9]{4}-[0-9]{2}-[0-9]{2}\\)$'
        ! stderr .
        certexec -q verify --trust trust hello.cert
        ! stdout .
        """
    )


def test_every_way_to_fail_has_its_word(signed: Script) -> None:
    verify = "certexec verify --trust trust"
    signed(
        f"""
        ! {verify} hello hello.policy
        stdout '^hello: FAIL \\(malformed\\)$'
        cp hello.cert longer.cert
        append longer.cert x
        ! {verify} longer.cert
        stdout 'FAIL \\(malformed\\)'
        certexec keygen -f other --no-passphrase
        certexec sign -k other.key -p hello.policy -o other.cert hello
        ! {verify} other.cert
        stdout 'FAIL \\(untrusted-key\\)'
        stderr 'hint: .*certexec trust add'
        ! {verify} --at 2001-01-01 hello.cert
        stdout 'FAIL \\(not-yet-valid\\)'
        ! {verify} --at +91d hello.cert
        stdout 'FAIL \\(expired\\)'
        {verify} --at +89d hello.cert
        certexec trust add ops.pub --trust trust --path '/nowhere/**'
        ! {verify} hello.cert
        stdout 'FAIL \\(key-constraint\\)'
        certexec trust add ops.pub --trust trust --max-lifetime 89d
        ! {verify} hello.cert
        stdout 'FAIL \\(key-constraint\\)'
        certexec trust add ops.pub --trust trust
        certexec sign -k ops.key -p hello.policy --setuid root --allow-everyone -o root.cert hello
        ! {verify} root.cert
        stdout 'FAIL \\(setuid-denied\\)'
        stderr 'hint: .*--may-grant root'
        certexec trust add ops.pub --trust trust --may-grant root
        {verify} root.cert
        """
    )


def test_a_tampered_certificate_has_a_bad_signature(signed: Script) -> None:
    data = bytearray(signed.path("hello.cert").read_bytes())
    data[-1] ^= 1
    signed.path("bad.cert").write_bytes(data)
    signed(
        """
        ! certexec verify --trust trust bad.cert
        stdout 'FAIL \\(bad-signature\\)'
        """
    )


def test_a_changed_or_missing_binary_fails(signed: Script) -> None:
    signed(
        """
        append hello x
        ! certexec verify --trust trust hello.cert
        stdout '^hello.cert: FAIL \\(binary-mismatch\\)$'
        stderr 'hint: it changed after signing'
        certexec verify --no-binary --trust trust hello.cert
        rm hello
        ! certexec verify --trust trust hello.cert
        stdout 'FAIL \\(binary-missing\\)'
        certexec verify --no-binary --trust trust hello.cert
        """
    )


def executed(signed: Script, certificate: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Execute a certificate with "certexec run"."""
    return subprocess.run(
        [sys.executable, "-m", "certexec.cli.main", "run", "--trust", "trust", certificate, *more],
        cwd=signed.directory, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def run_reason(signed: Script, certificate: str) -> str:
    """Execute a certificate and return the word of its refusal."""
    done = executed(signed, certificate)
    assert done.returncode in (126, 127), done.stderr
    found = re.search(r"\(([a-z-]+)\)", done.stderr.splitlines()[0])
    assert found is not None, done.stderr
    return found[1]


@pytest.mark.parametrize("damage", ["rm hello", "chmod 644 hello", "append hello x"])
def test_the_word_is_that_of_an_execution(signed: Script, damage: str) -> None:
    signed(damage)
    word = run_reason(signed, "hello.cert")
    signed(f"! certexec verify --trust trust hello.cert\nstdout 'FAIL \\({word}\\)'")
    assert "certexec: hint: " in signed.stderr


def test_a_binary_without_an_execute_bit_fails(signed: Script) -> None:
    signed(
        """
        chmod 644 hello
        ! certexec verify --trust trust hello.cert
        stdout 'FAIL \\(binary-unusable\\)'
        stderr '"/.*/hello" is not executable for you'
        stderr 'hint: .*chmod \\+x /.*/hello'
        certexec verify --no-binary --trust trust hello.cert
        chmod 755 hello
        certexec verify --trust trust hello.cert
        """
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_the_execute_bit_that_counts_is_that_of_the_identity(signed: Script) -> None:
    """Mode 0744: for its owner and root, and for nobody else."""
    signed(
        """
        certexec trust add ops.pub --trust trust --may-grant daemon --may-grant root
        certexec sign -k ops.key -p hello.policy --setuid daemon --allow-everyone -o d.cert hello
        certexec sign -k ops.key -p hello.policy --setuid root --allow-everyone -o r.cert hello
        chmod 744 hello
        certexec verify --trust trust r.cert hello.cert
        ! certexec verify --trust trust d.cert
        stdout 'FAIL \\(binary-unusable\\)'
        stderr 'not executable for the identity that is granted'
        """
    )
    os.chown(signed.path("hello"), 1, 1)
    signed("certexec verify --trust trust d.cert r.cert")


def test_an_interpreter_that_cannot_be_executed_fails(signed: Script) -> None:
    shutil.copy2(os.path.realpath("/bin/sh"), signed.path("sh"))
    tool = signed.path("tool")
    tool.write_text(f"#!{signed.path('sh').resolve()}\n")
    tool.chmod(0o755)
    signed.write("tool.policy", POLICY.format(path=tool.resolve()))
    signed(
        """
        certexec sign -k ops.key -p tool.policy -o tool.cert tool
        certexec verify --trust trust tool.cert
        chmod 644 sh
        ! certexec verify --trust trust tool.cert
        stdout 'FAIL \\(binary-unusable\\)'
        rm sh
        ! certexec verify --trust trust tool.cert
        stdout 'FAIL \\(file-mismatch\\)'
        """
    )


def test_a_binary_on_a_mount_without_execution_fails(signed: Script) -> None:
    need("nsenter", "setpriv", "mount")
    machine = Machine()
    try:
        where = str(signed.directory)
        shutil.copytree(where, machine.path(where))  # the machine has a /run of its own
        script = f"""
            set -e
            mount --bind {where} {where}
            mount -o remount,bind,noexec {where}
            cd {where}
            set +e
            {sys.executable} -m certexec.cli.main run --trust trust hello.cert
            {sys.executable} -m certexec.cli.main verify --trust trust hello.cert
        """
        done = machine.run("sh", "-c", script)
    finally:
        machine.stop()
    assert done.stdout == "hello.cert: FAIL (binary-unusable)\n", done.stderr
    assert done.returncode == 1
    assert "on a mount without execution (binary-unusable)" in done.stderr.splitlines()[0]
    assert f"hint: \"findmnt -T {os.path.realpath(where)}/hello\" shows the mount" in done.stderr


def test_a_changed_binary_of_the_same_size_fails(signed: Script) -> None:
    data = bytearray(signed.path("hello").read_bytes())
    data[-1] ^= 1
    signed.path("hello").write_bytes(data)
    signed("! certexec verify --trust trust hello.cert\nstdout 'FAIL \\(binary-mismatch\\)'")


def test_a_binary_replaced_by_a_link_fails(signed: Script) -> None:
    signed.path("hello").rename(signed.path("real"))
    signed.path("hello").symlink_to("real")
    signed("! certexec verify --trust trust hello.cert\nstdout 'FAIL \\(binary-mismatch\\)'")


def test_a_changed_interpreter_fails(signed: Script) -> None:
    simulator = simulated(signed)
    digests = {0: bytes(32), 1: bytes(64)}
    simulator.payload[8] = [[0, "/usr/bin/true", 5, digests]]
    signed.path("x.cert").write_bytes(simulator.build())
    signed("! certexec verify --trust trust x.cert\nstdout 'FAIL \\(file-mismatch\\)'")


@pytest.mark.parametrize("field", [0, 1])
def test_both_digests_are_compared(signed: Script, field: int) -> None:
    simulator = simulated(signed)
    digest = simulator.payload[2][2][field]
    simulator.payload[2][2][field] = bytes(len(digest))
    signed.path("x.cert").write_bytes(simulator.build())
    signed("! certexec verify --trust trust x.cert\nstdout 'FAIL \\(binary-mismatch\\)'")


IDENTITIES: dict[str, tuple[int, object]] = {
    "a user": (4, {0: ["root", 1]}),
    "a user that is not here": (4, {0: ["no-such-user", 1]}),
    "a group": (4, {1: ["daemon", 77]}),
    "a supplementary group": (4, {2: [["daemon", 77]]}),
    "a user on the list": (5, {0: [[True, 1, "daemon", 77]], 1: False, 4: []}),
    "a group on the list": (5, {0: [[False, 2, "daemon", 77]], 1: False, 4: []}),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_fails_where_the_machine_has_another_number_for(name: str, signed: Script) -> None:
    field, value = IDENTITIES[name]
    simulator = simulated(signed)
    simulator.payload[field] = value
    signed.path("x.cert").write_bytes(simulator.build())
    signed(
        """
        ! certexec verify --trust trust x.cert
        stdout 'FAIL \\(identity-mismatch\\)'
        ! certexec verify --no-binary --trust trust x.cert
        """
    )


def test_a_policy_that_cannot_be_enforced_fails(signed: Script) -> None:
    simulator = simulated(signed)
    path = signed.path("hello").resolve()
    for text, word in (
        (f"Policy: {path}, Emulation: native\n\tnative-open: filename then\n", "policy-syntax"),
        (f"Policy: {path}, Emulation: native\n\tnative-open: permit-now\n",
         "policy-unsupported"),
    ):
        simulator.payload[3][0] = text
        simulator.payload[3][2] = hashlib.sha256(text.encode()).digest()
        signed.path("x.cert").write_bytes(simulator.build())
        signed(f"! certexec verify --trust trust x.cert\nstdout 'FAIL \\({word}\\)'")


def test_an_inline_policy_must_have_its_digest(signed: Script) -> None:
    simulator = simulated(signed)
    simulator.payload[3][0] += "\n"
    signed.path("x.cert").write_bytes(simulator.build())
    signed("! certexec verify --trust trust x.cert\nstdout 'FAIL \\(policy-mismatch\\)'")


def test_a_signer_can_be_required(signed: Script) -> None:
    signed("certexec trust list --trust trust --json")
    fingerprint = json.loads(signed.stdout)["keys"][0]["fingerprint"]
    signed(
        f"""
        certexec verify --trust trust --require-signer {fingerprint} hello.cert
        ! certexec verify --trust trust --require-signer SHA256:{"A" * 43} hello.cert
        stdout 'FAIL \\(untrusted-key\\)'
        ? certexec verify --trust trust --require-signer ops hello.cert
        """
    )


def test_what_cannot_be_told_is_neither_yes_nor_no(signed: Script) -> None:
    signed.path("folder").mkdir()
    os.mkfifo(signed.path("pipe"))
    signed(
        """
        ? certexec verify --trust trust missing.cert
        stdout 'UNKNOWN \\(not-found\\)'
        ? certexec verify --trust trust pipe
        ? certexec verify --trust trust folder
        stderr 'no certificate'
        ? certexec verify --trust missing hello.cert
        ? certexec verify --trust trust --at sometime hello.cert
        ? certexec verify --trust trust
        ? certexec verify --trust trust hello.cert missing.cert
        stdout 'hello.cert: OK'
        ! certexec verify --trust trust hello missing.cert hello.cert
        """
    )


def test_a_directory_stands_for_the_certificates_in_it(signed: Script) -> None:
    signed(
        """
        mkdir sub
        cp hello.cert sub/b.cert
        cp hello.cert sub/a
        cp hello.policy sub/not-a-cert.cert
        certexec verify --trust trust sub
        stdout '^sub/a: OK'
        stdout '^sub/b.cert: OK'
        ! stdout not-a-cert
        mkdir sub/deep
        cp hello.cert sub/deep/c
        append sub/deep/c x
        ! certexec verify --trust trust sub
        stdout '^sub/deep/c: FAIL'
        stdout '^sub/a: OK'
        """
    )


def test_a_report_says_what_became_of_certificates_and_what_changed(signed: Script) -> None:
    signed(
        """
        certexec verify --trust trust --html report.html hello.cert
        stdout '^report.html: 1 certificate, 0 not valid$'
        ! stderr .
        mode report.html 644
        ! certexec verify --trust trust --html report.html hello.cert hello
        stdout '^report.html: 2 certificates, 1 not valid, 1 changed$'
        ? certexec verify --trust trust --html report.html missing
        stdout ' 1 not valid, 1 changed$'
        ? certexec verify --trust trust --html report.html --json hello.cert
        stderr 'exclude each other'
        ? certexec verify --trust trust --html trust hello.cert
        """
    )
    page = signed.path("report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "not-found" in page and "<script" not in page
    assert "Only in the last report" in page


def test_json_says_the_same(signed: Script) -> None:
    signed("! certexec verify --trust trust --json hello.cert hello missing")
    good, bad, missing = (json.loads(line) for line in signed.stdout.splitlines())
    assert good["schema"] == bad["schema"] == missing["schema"] == 2
    assert (good["path"], good["ok"], good["name"], good["grant"]) == (
        "hello.cert", True, "hello", False,
    )  # fmt: skip
    assert good["signers"][0]["name"] == "ops"
    assert good["program"] == str(signed.path("hello").resolve())
    assert (bad["ok"], bad["reason"], bad["exit_code"]) == (False, "malformed", 1)
    assert (missing["ok"], missing["reason"], missing["exit_code"]) == (False, "not-found", 2)
    signed("certexec verify --trust trust --json hello.cert")
    assert json.loads(signed.stdout)["ok"] is True


def test_every_refusal_that_mends_has_a_hint(signed: Script) -> None:
    signed(
        """
        ! certexec verify --trust trust hello
        stderr 'hint: if it was a certificate once, it is damaged'
        ! certexec inspect hello
        stderr 'hint: if it was a certificate once, it is damaged'
        rm hello
        ! certexec verify --trust trust hello.cert
        stdout 'FAIL \\(binary-missing\\)'
        stderr 'hint: install the program, or sign it anew'
        """
    )


@pytest.mark.parametrize(
    ("flags", "word", "hint"),
    [
        (["--no-args"], "argv-denied", "which arguments are allowed"),
        (["--time-window", "{other_day} 10:00-11:00"], "time-denied", "when it may be run"),
    ],
)
def test_a_refused_execution_has_a_hint(
    signed: Script, flags: list[str], word: str, hint: str
) -> None:
    now = time.gmtime()
    other = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(now.tm_wday + 3) % 7]
    given = [flag.format(other_day=other) for flag in flags]
    code = signed.certexec("sign", "-k", "ops.key", "-p", "hello.policy", "-o", "x.cert", *given,
                           "hello")  # fmt: skip
    assert code == 0
    done = executed(signed, "x.cert", "argument")
    assert done.returncode == 126
    assert f"({word})" in done.stderr and hint in done.stderr and "certexec inspect" in done.stderr


@pytest.mark.parametrize("size", [0, 1, 8, 200, MAX_SIZE, MAX_SIZE + 1, 1 << 20])
def test_files_of_any_size_are_malformed(signed: Script, size: int) -> None:
    good = signed.path("hello.cert").read_bytes()
    signed.path("x.cert").write_bytes((good + bytes(size))[:size])
    signed("! certexec verify --trust trust x.cert\nstdout 'FAIL \\(malformed\\)'")


def test_a_file_name_cannot_steer_the_terminal(signed: Script) -> None:
    name = "\x1b[2J.cert"
    signed.path(name).write_bytes(b"")
    assert signed.certexec("verify", "--trust", "trust", name) == 1
    assert "\x1b" not in signed.stdout + signed.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_binary_that_may_not_be_read_cannot_be_judged(signed: Script) -> None:
    signed("certexec verify --trust trust hello.cert\nchmod 711 hello")
    told = as_nobody(signed, "hello.cert")
    assert told.startswith("2\n"), told
    assert "UNKNOWN (unreadable)" in told
    assert "--no-binary" in told


def as_nobody(signed: Script, *arguments: str) -> str:
    """Return exit code and output of ``verify --trust trust ARGUMENTS`` by an ordinary user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # everything is imported already, so an ordinary user can go on from here
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = signed.certexec("verify", "--trust", "trust", *arguments)
            os.write(writing, f"{code}\n{signed.stdout}{signed.stderr}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        told = file.read()
    os.waitpid(pid, 0)
    return told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_below_a_directory_hides_nothing_else(signed: Script) -> None:
    signed(
        """
        mkdir all
        mkdir all/closed
        mkdir all/open
        cp hello.cert all/closed/hello.cert
        cp hello.cert all/open/hello.cert
        cp hello.policy all/open/notes
        cp hello.cert all/open/private.cert
        chmod 700 all/closed
        chmod 711 all/open/private.cert
        """
    )
    told = as_nobody(signed, "all")
    assert told.startswith("2\n"), told
    assert "all/closed: UNKNOWN (unreadable)" in told
    assert "all/open/private.cert: UNKNOWN (unreadable)" in told
    assert "all/open/hello.cert: OK" in told
    assert "notes" not in told
    signed("append all/open/hello.cert x")
    told = as_nobody(signed, "--json", "all")
    assert told.startswith("1\n"), told
    assert '"all/closed"' in told and '"all/open/hello.cert"' in told


def test_a_directory_without_certificates_is_no_answer(signed: Script) -> None:
    signed(
        """
        mkdir empty
        ? certexec verify --trust trust empty
        stderr 'there is no certificate'
        ? certexec verify --json --trust trust empty
        ! stdout ok
        """
    )


def test_a_time_before_now_can_be_asked_about(signed: Script) -> None:
    signed(
        """
        ! certexec verify --trust trust --at -1d hello.cert
        stderr 'not-yet-valid|before|not valid before'
        certexec verify --trust trust --at +1d hello.cert
        ? certexec verify --trust trust --at foo hello.cert
        stderr '-2h or now'
        """
    )
