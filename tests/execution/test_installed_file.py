"""The set-user-ID bit and the identity belong together; what a copy of a grant is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.execution.world import (
    ALICE,
    BOB,
    NETADMIN,
    World,
    refused,
)

ID = "/usr/bin/id"


@pytest.fixture(scope="module")
def good(world_of_session: World) -> Path:
    """A certificate that works."""
    path = Path(world_of_session.sign("good.cert", ID))
    done = world_of_session.run(str(path), "-u")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ALICE}\n", "")
    return path


# -- the bit and the identity ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def grant(world_of_session: World) -> str:
    """A certificate that grants root to Alice, not yet installed."""
    return world_of_session.sign("grant.cert", ID, "--setuid", "root", "--allow-user", "alice")


def test_the_identity_without_the_bit_is_refused_with_the_hint(world: World, grant: str) -> None:
    done = world.run(grant, "-u")
    refused(done, "setuid-denied")
    assert "certexec install" in done.stderr


def test_the_bit_without_the_identity_is_refused(world: World, good: Path) -> None:
    refused(world.run(world.put_by_hand(str(good)), "-u"), "setuid-denied")


@pytest.mark.parametrize(
    ("mode", "uid", "gid"),
    [
        (0o2755, 0, NETADMIN),
        (0o2755, 0, 0),
        (0o6755, 0, 0),
        (0o4755, BOB, BOB),
        (0o4755, BOB, 0),
        (0o4755, 0, BOB),
        (0o4775, 0, 0),
        (0o4711, 0, 0),
    ],
)
def test_a_grant_needs_a_file_of_root_with_mode_4755(
    world: World, grant: str, mode: int, uid: int, gid: int
) -> None:
    refused(world.run(world.put_by_hand(grant, mode, uid, gid), "-u"), "setuid-denied")


def test_without_a_grant_no_set_id_bit_is_accepted_either(world: World, good: Path) -> None:
    for mode, uid, gid in ((0o2755, 0, NETADMIN), (0o4755, BOB, BOB), (0o6755, 0, 0)):
        refused(world.run(world.put_by_hand(str(good), mode, uid, gid), "-u"), "setuid-denied")


def test_a_key_that_may_not_grant_grants_nothing(world: World) -> None:
    source = world.sign("no-grant.cert", ID, "--setuid", "root", "--allow-everyone", key="plain")
    done = world.attempt("install", source, "/usr/local/bin/no-grant")
    assert done.returncode == 1
    done = world.run(world.put_by_hand(source), "-u")
    refused(done, "setuid-denied")
    assert "--may-grant root" in done.stderr


def test_run_never_grants(world: World, grant: str) -> None:
    for path in (grant, world.install("granted", ID, "--setuid", "root", "--allow-user", "alice")):
        done = world.attempt("run", path, "--", "-u", uid=ALICE)
        refused(done, "setuid-denied")


# -- copied, renamed, linked -----------------------------------------------------------------------


def test_a_plain_certificate_may_be_copied_renamed_and_linked(world: World, good: Path) -> None:
    home = world.directory("alice-home", owner=ALICE)
    world.python(
        f"import os, shutil; os.chdir({str(home)!r}); shutil.copy({str(good)!r}, 'copy');"
        "os.rename('copy', 'renamed'); os.link('renamed', 'linked'); os.symlink('linked', 'soft')"
    )
    for name in ("renamed", "linked", "soft"):
        done = world.run(str(home / name), "-u")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{ALICE}\n", ""), name


def test_a_copied_grant_is_only_a_file(world: World) -> None:
    installed = world.install("copied", ID, "--setuid", "root", "--allow-user", "alice")
    home = world.directory("copies", owner=ALICE)
    code = f"import os, shutil; shutil.copy({installed!r}, {str(home)!r} + '/copy')"
    world.python(code)
    for mode in (0o755, 0o4755, 0o6755):
        world.python(f"import os; os.chmod({str(home / 'copy')!r}, {mode})")
        refused(world.run(str(home / "copy"), "-u"), "setuid-denied")


def test_a_renamed_or_linked_grant_stays_what_root_installed(world: World) -> None:
    installed = world.install("original", ID, "--setuid", "root", "--allow-user", "alice")
    world.machine.run("ln", installed, "/usr/local/bin/linked")
    world.machine.run("mv", installed, "/usr/local/bin/renamed")
    for name in ("linked", "renamed"):
        path = f"/usr/local/bin/{name}"
        assert world.run(path, "-u").stdout == "0\n"
        refused(world.run(path, "-u", uid=BOB), "acl-denied")


def test_an_unreadable_certificate_is_refused(world: World, good: Path) -> None:
    """The kernel makes its process unreadable, so that no ordinary supervisor may watch it."""
    path = world.put_by_hand(str(good), 0o711)
    refused(world.run(path, "-u"), "certificate-unreadable")
