"""Damaged, moved, outdated and misplaced input: each is refused with its word, and nothing runs."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certexec.certificate.envelope import HEAD, MAX_SIZE, PREFIX
from tests.execution.world import (
    ALICE,
    BOB,
    NOT_FOUND,
    REFUSED,
    SERVICE,
    World,
    reason,
    refused,
)
from tests.isolation import need

ID = "/usr/bin/id"
FLIPS = 200
PARALLEL = 4
SEED = 20260
DAMAGED = {"malformed", "bad-signature", "untrusted-key"}
"""What a certificate can be called that was changed after signing."""


@pytest.fixture(scope="module")
def good(world_of_session: World) -> Path:
    """A certificate that works."""
    path = Path(world_of_session.sign("good.cert", ID))
    done = world_of_session.run(str(path), "-u")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ALICE}\n", "")
    return path


# -- damaged certificates --------------------------------------------------------------------------


def test_an_empty_certificate_is_no_program(world: World) -> None:
    path = world.write("bin/empty.cert", b"", 0o755)
    done = world.run(path)
    assert "Exec format error" in done.stderr  # the kernel sees no magic number and asks nobody
    assert done.stdout == ""
    done = world.attempt("run", path)
    assert (done.returncode, reason(done)) == (REFUSED, "malformed")
    assert world.attempt("verify", path).returncode == 1


def test_a_certificate_may_have_64_kib_and_not_one_byte_more(world: World, good: Path) -> None:
    data = good.read_bytes()
    for size in (MAX_SIZE, MAX_SIZE + 1, 1 << 20):
        path = world.write("bin/long.cert", data.ljust(size, b"\0"), 0o755)
        refused(world.run(path, "-u"), "malformed")


def test_a_truncated_certificate_is_malformed(world: World, good: Path) -> None:
    data = good.read_bytes()
    edges = {len(PREFIX), len(PREFIX) + 1, len(HEAD) - 1, len(HEAD), len(HEAD) + 1, len(data) - 1}
    for length in sorted(edges | {len(data) // 3, len(data) // 2, len(data) - 64}):
        path = world.write("bin/short.cert", data[:length], 0o755)
        refused(world.run(path, "-u"), "malformed")


def test_any_flipped_bit_refuses_the_certificate(world: World, good: Path) -> None:
    data = good.read_bytes()
    chance = random.Random(SEED)
    bits = chance.sample(range(8 * len(PREFIX), 8 * len(data)), FLIPS)

    def flip(bit: int) -> None:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path = world.write(f"bin/flip-{bit}.cert", bytes(changed), 0o755)
        done = world.run(path, "-u")
        assert reason(done) in DAMAGED, (bit, done)
        assert (done.returncode, done.stdout) == (REFUSED, ""), (bit, done)
        os.unlink(path)

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(flip, bits))


def test_a_flipped_bit_in_the_magic_number_lets_the_preamble_answer(
    world: World, good: Path
) -> None:
    data = good.read_bytes()

    def flip(bit: int) -> None:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path = world.write(f"bin/magic-{bit}.cert", bytes(changed), 0o755)
        done = world.run("/bin/sh", "-c", path)
        assert done.returncode == REFUSED, (bit, done)
        assert done.stdout == "", (bit, done)
        # with a control character in the first line dash takes no file for a script
        said = ("certexec: no certexec handler is registered", "Exec format error")
        assert any(text in done.stderr for text in said), (bit, done)
        assert done.stderr.count("\n") == 1, (bit, done)
        os.unlink(path)

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(flip, range(8 * len(PREFIX))))


def test_a_certificate_by_a_stranger_is_untrusted(world: World) -> None:
    world.verb("keygen", "--no-passphrase", "-f", world.path("stranger"))
    refused(world.run(world.sign("stranger.cert", ID, key="stranger")), "untrusted-key")


# -- the binary ------------------------------------------------------------------------------------


@pytest.fixture
def victim(world: World) -> str:
    """A program of our own, with a certificate, that works until somebody touches it."""
    program = world.copy(ID, "victim")
    world.sign("victim.cert", program)
    assert world.run(world.path("bin/victim.cert"), "-u").stdout == f"{ALICE}\n"
    return program


def run_victim(world: World):  # type: ignore[no-untyped-def]
    return world.run(world.path("bin/victim.cert"), "-u")


def test_a_replaced_binary_is_refused(world: World, victim: str) -> None:
    os.rename(world.copy("/usr/bin/whoami", "other"), victim)
    refused(run_victim(world), "binary-mismatch")


def test_a_binary_with_one_other_byte_is_refused(world: World, victim: str) -> None:
    data = bytearray(Path(victim).read_bytes())
    data[len(data) // 2] ^= 1
    Path(victim).write_bytes(data)
    refused(run_victim(world), "binary-mismatch")
    Path(victim).write_bytes(data + b"!")
    refused(run_victim(world), "binary-mismatch")


def test_a_missing_binary_is_not_found(world: World, victim: str) -> None:
    os.unlink(victim)
    refused(run_victim(world), "binary-missing", NOT_FOUND)


def test_a_hard_link_to_something_else_is_refused(world: World, victim: str) -> None:
    os.unlink(victim)
    os.link(world.copy("/usr/bin/whoami", "other"), victim)
    refused(run_victim(world), "binary-mismatch")


def test_one_more_name_for_the_binary_changes_nothing(world: World, victim: str) -> None:
    os.link(victim, world.path("second-name"))
    assert run_victim(world).stdout == f"{ALICE}\n"
    os.unlink(world.path("second-name"))


def test_a_symbolic_link_in_place_of_the_binary_is_refused(world: World, victim: str) -> None:
    os.rename(victim, world.path("moved"))
    os.symlink(world.path("moved"), victim)  # the very bytes that were signed
    refused(run_victim(world), "binary-mismatch")


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_file_is_refused_without_waiting(world: World, victim: str, kind: str) -> None:
    os.unlink(victim)
    if kind == "directory":
        os.mkdir(victim)
    elif kind == "fifo":
        os.mkfifo(victim, 0o755)
    else:
        world.python(f"import socket; socket.socket(socket.AF_UNIX).bind({victim!r})", uid=0)
    done = run_victim(world)
    assert reason(done) in ("binary-mismatch", "binary-unusable")
    assert (done.returncode, done.stdout) == (REFUSED, "")
    if kind == "directory":
        os.rmdir(victim)


@pytest.mark.parametrize("mode", ["exec-stop", "sealed"])
def test_a_binary_that_nobody_may_execute_is_refused(world: World, mode: str) -> None:
    program = world.copy(ID, "no-x")
    certificate = world.sign("no-x.cert", program, "--integrity", mode)
    os.chmod(program, 0o644)
    refused(world.run(certificate), "binary-unusable")


def test_an_unreadable_binary_runs_only_by_a_certificate_of_root(world: World) -> None:
    program = world.copy(ID, "secret-id", 0o711)
    refused(world.run(world.sign("secret.cert", program), "-u"), "binary-unusable")
    installed = world.install("secret", program, "--setuid", "service", "--allow-user", "alice")
    done = world.run(installed, "-u")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{SERVICE}\n", "")


# -- mounts ----------------------------------------------------------------------------------------


@pytest.fixture
def mounted(world: World) -> Iterator[Path]:
    """A file system inside the machine, to be mounted anew with other options."""
    need("mount")
    where = world.directory("mounted")
    done = world.machine.run("mount", "-t", "tmpfs", "-o", "mode=755", "none", str(where))
    assert done.returncode == 0, done.stderr
    yield where
    world.machine.run("umount", str(where))
    where.rmdir()


def remount(world: World, where: Path, options: str) -> None:
    done = world.machine.run("mount", "-o", f"remount,bind,{options}", str(where))
    assert done.returncode == 0, done.stderr


def test_a_binary_on_a_noexec_mount_is_refused(world: World, mounted: Path) -> None:
    program = f"{mounted}/id"
    shutil.copy(ID, world.machine.path(program))
    grant = ["--setuid", "service", "--allow-user", "alice"]
    for mode, identity in (("auto", []), ("sealed", []), ("auto", grant), ("sealed", grant)):
        make = world.install if identity else world.sign
        certificate = make(f"noexec-{mode}", program, "--integrity", mode, *identity)
        assert world.run(certificate, "-u").stdout == f"{SERVICE if identity else ALICE}\n"
        remount(world, mounted, "noexec")
        refused(world.run(certificate, "-u"), "binary-unusable")
        remount(world, mounted, "exec")


def test_a_certificate_on_a_nosuid_mount_grants_nothing(world: World, mounted: Path) -> None:
    installed = world.install("nosuid", ID, "--setuid", "root", "--allow-user", "alice")
    there = f"{mounted}/nosuid"
    world.machine.run("cp", "-a", installed, there)
    assert world.run(there, "-u").stdout == "0\n"
    remount(world, mounted, "nosuid")
    refused(world.run(there, "-u"), "setuid-denied")


def test_a_binary_on_a_nosuid_mount_is_as_good_as_any(world: World, mounted: Path) -> None:
    program = f"{mounted}/id"
    shutil.copy(ID, world.machine.path(program))
    remount(world, mounted, "nosuid")
    assert world.run(world.sign("on-nosuid.cert", program), "-u").stdout == f"{ALICE}\n"
    installed = world.install("on-nosuid", program, "--setuid", "root", "--allow-user", "alice")
    assert world.run(installed, "-u").stdout == "0\n"


# -- trust and time --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/etc/certexec/trust.d", 0o777),
        ("/etc/certexec/trust.d", 0o1777),
        ("/etc/certexec/trust.d", 0o775),
        ("/etc/certexec", 0o757),
        ("/etc/certexec/trust.d/ops.pub", 0o666),
        ("/etc/certexec/trust.d/ops.toml", 0o664),
    ],
)
def test_a_trust_store_that_others_can_write_is_refused(
    world: World, good: Path, path: str, mode: int
) -> None:
    inside = world.machine.path(path)
    before = os.stat(inside).st_mode & 0o7777
    os.chmod(inside, mode)
    try:
        refused(world.run(str(good), "-u"), "trust-unsafe")
    finally:
        os.chmod(inside, before)
    assert world.run(str(good), "-u").returncode == 0


@pytest.mark.parametrize("path", ["/etc/certexec/trust.d", "/etc/certexec/trust.d/ops.pub"])
def test_a_trust_store_that_somebody_else_owns_is_refused(
    world: World, good: Path, path: str
) -> None:
    inside = world.machine.path(path)
    os.chown(inside, BOB, 0)
    try:
        refused(world.run(str(good), "-u"), "trust-unsafe")
    finally:
        os.chown(inside, 0, 0)


def test_a_personal_trust_store_must_be_ones_own(world: World, good: Path) -> None:
    for owner, mode, expected in (
        (ALICE, 0o700, 0),
        (ALICE, 0o770, REFUSED),
        (BOB, 0o755, REFUSED),
    ):
        directory = world.directory(f"trust-{owner}-{mode:o}", mode, owner)
        shutil.copy(world.path("ops.pub"), directory)
        done = world.attempt("run", "--trust", str(directory), str(good), "--", "-u", uid=ALICE)
        assert done.returncode == expected, done
        if expected:
            assert reason(done) == "trust-unsafe"
        else:
            assert done.stdout == f"{ALICE}\n"


def test_a_certificate_runs_neither_before_nor_after_its_time(world: World) -> None:
    early = world.sign("early.cert", ID, "--not-before", "+1h", "--valid-for", "1d")
    refused(world.run(early), "not-yet-valid")
    late = world.sign("late.cert", ID, "--not-before", "2020-01-01", "--not-after", "2020-01-02")
    refused(world.run(late), "expired")
    assert world.attempt("verify", early, late).returncode == 1


def test_an_expired_grant_gives_nothing(world: World) -> None:
    source = world.sign("late-root.cert", ID, "--setuid", "root", "--allow-everyone",
                        "--not-before", "2020-01-01", "--not-after", "2020-01-02")  # fmt: skip
    assert world.attempt("install", source, "/usr/local/bin/late-root").returncode == 1
    by_hand = world.put_by_hand(source)
    refused(world.run(by_hand, "-u"), "expired")


def test_a_certificate_that_may_be_executed_and_not_read_is_called_so(world: World) -> None:
    certificate = world.sign("unread.cert", "/usr/bin/id")
    os.chmod(certificate, 0o111)
    done = world.run(certificate, uid=ALICE)
    refused(done, "certificate-unreadable")
    assert "chmod a+r" in done.stderr
