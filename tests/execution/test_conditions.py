"""Who may run a certificate, from where, with which arguments, when; what it may demand."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from certexec.certificate.model import FileDigest
from tests.execution.world import (
    ALICE,
    BOB,
    NETADMIN,
    REFUSED,
    SERVICE,
    World,
    reason,
    refused,
)

ID = "/usr/bin/id"


# -- who, from where, with which arguments, when ---------------------------------------------------


def test_only_those_on_the_list_run_it(world: World) -> None:
    certificate = world.sign("alice.cert", ID, "--allow-user", "alice")
    assert world.run(certificate, "-u").stdout == f"{ALICE}\n"
    refused(world.run(certificate, "-u", uid=BOB), "acl-denied")
    refused(world.run(certificate, "-u", uid=0), "acl-denied")


def test_a_group_on_the_list_admits_its_members(world: World) -> None:
    certificate = world.sign("netadmin.cert", ID, "--allow-group", "netadmin")
    refused(world.run(certificate, "-u"), "acl-denied")
    assert world.run(certificate, "-u", groups=[NETADMIN]).stdout == f"{ALICE}\n"


def test_the_first_entry_that_fits_decides(world: World) -> None:
    certificate = world.sign("not-bob.cert", ID, "--deny-user", "bob", "--allow-everyone")
    assert world.run(certificate, "-u").stdout == f"{ALICE}\n"
    refused(world.run(certificate, "-u", uid=BOB), "acl-denied")
    certificate = world.sign("not-net.cert", ID, "--allow-user", "bob", "--deny-group", "netadmin",
                             "--allow-everyone")  # fmt: skip
    refused(world.run(certificate, "-u", groups=[NETADMIN]), "acl-denied")
    assert world.run(certificate, "-u", uid=BOB, groups=[NETADMIN]).stdout == f"{BOB}\n"


def test_an_empty_list_is_nobody(world: World) -> None:
    certificate = world.forge("nobody.cert", ID, invocation__entries=[])
    for uid in (ALICE, 0):
        refused(world.run(certificate, uid=uid), "acl-denied")


def test_a_name_with_another_number_here_lets_nobody_in(world: World) -> None:
    entries = [(True, "user", "alice", BOB)]  # signed where alice has bob's number
    certificate = world.forge("moved.cert", ID, invocation__entries=entries)
    for uid in (ALICE, BOB):
        refused(world.run(certificate, uid=uid), "acl-denied")


def test_an_identity_with_another_number_here_is_refused(world: World) -> None:
    source = world.sign("other-number.cert", ID, "--setuid", "service", "--allow-everyone")
    passwd = Path(world.machine.path("/etc/passwd"))
    before = passwd.read_text()
    by_hand = world.put_by_hand(source)
    assert world.run(by_hand, "-u").stdout == f"{SERVICE}\n"
    passwd.write_text(before.replace(f"service:x:{SERVICE}:", "service:x:61999:"))
    try:
        refused(world.run(by_hand, "-u"), "identity-mismatch")
    finally:
        passwd.write_text(before)


def test_a_terminal_may_be_required(world: World) -> None:
    certificate = world.sign("tty.cert", "/usr/bin/tty", "--require-tty")
    refused(world.run(certificate, before="os.setsid()"), "tty-required")
    before = """
import pty
child, master = pty.fork()
if child:
    text = b""
    while True:
        try:
            text += os.read(master, 4096)
        except OSError:
            break
    os.write(1, text)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = world.run(certificate, before=before)
    assert done.returncode == 0, done
    assert done.stdout.startswith("/dev/pts/")


def test_arguments_may_be_constrained(world: World) -> None:
    certificate = world.sign("echo.cert", "/usr/bin/echo", "--args", "a*", "--args", "[0-9]")
    assert world.run(certificate, "apple", "7").stdout == "apple 7\n"
    assert world.run(certificate).stdout == "\n"
    for bad in (["b"], ["apple", "77"], ["apple", ""], ["-e"]):
        refused(world.run(certificate, *bad), "argv-denied")
    certificate = world.sign("no-args.cert", "/usr/bin/echo", "--no-args")
    assert world.run(certificate).stdout == "\n"
    refused(world.run(certificate, "x"), "argv-denied")


def test_arguments_may_be_fixed(world: World) -> None:
    certificate = world.sign("fixed.cert", "/usr/bin/echo", "--fixed-args", "only 'this and' that")
    for typed in ([], ["something", "else"]):
        assert world.run(certificate, *typed).stdout == "only this and that\n"


def test_a_time_window_is_kept(world: World) -> None:
    always = world.sign("always.cert", ID, "--time-window", "daily 00:00-24:00")
    assert world.run(always, "-u").returncode == 0
    # the day before yesterday, whenever this test runs
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    day = days[(time.gmtime().tm_wday - 2) % 7]
    never = world.sign("never.cert", ID, "--time-window", f"{day} 00:00-24:00")
    refused(world.run(never, "-u"), "time-denied")


# -- the policy ------------------------------------------------------------------------------------


def test_a_policy_file_must_be_the_one_that_was_signed(world: World) -> None:
    world.sign("by-path.cert", ID)
    beside = world.path("beside.policy")
    shutil.copy(world.path("by-path.cert.policy"), beside)
    certificate = world.path("bin/by-path.cert")
    world.verb("sign", "--force", "-k", world.path("ops.key"), "--policy-path", beside,
               "--allow-everyone", "-o", certificate, ID)  # fmt: skip
    assert world.run(certificate, "-u").stdout == f"{ALICE}\n"
    with open(beside, "a") as file:
        file.write("\tnative-reboot: permit\n")
    refused(world.run(certificate, "-u"), "policy-mismatch")
    os.unlink(beside)
    refused(world.run(certificate, "-u"), "policy-mismatch")
    os.symlink(world.path("by-path.cert.policy"), beside)
    refused(world.run(certificate, "-u"), "policy-mismatch")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("this is no policy\n", "policy-syntax"),
        (f"Policy: {ID}, Emulation: native\n\tnative-read: nonsense\n", "policy-syntax"),
        ("Policy: /usr/bin/true, Emulation: native\n\tnative-read: permit\n", "policy-unsupported"),
        (f"Policy: {ID}, Emulation: native\n\tnative-exit: permit as root\n", "policy-unsupported"),
    ],
)
def test_a_signed_policy_that_cannot_be_enforced_is_refused(
    world: World, text: str, word: str
) -> None:
    from certexec.kernel.digest import sha256

    certificate = world.forge("odd-policy.cert", ID, policy__text=text,
                              policy__sha256=sha256(text.encode()))  # fmt: skip
    done = world.run(certificate, "-u")
    assert reason(done).startswith("policy-"), done
    assert (done.returncode, done.stdout) == (REFUSED, "")


@pytest.mark.parametrize(
    "row",
    [
        {"program__access": "indirect"},
        {"policy__language": 2},
        {"policy__emulations": ["openbsd"]},
        {"critical": {"sandbox": 1}},
        {"version": 2},
    ],
    ids=lambda row: next(iter(row)),
)
def test_a_row_that_is_not_enforced_is_refused_at_exec(
    world: World, row: dict[str, object]
) -> None:
    refused(world.run(world.forge("row.cert", ID, **row), "-u"), "unsupported")


def test_digests_of_libraries_are_refused_until_they_are_enforced(world: World) -> None:
    library = FileDigest("library", "/lib/libc.so.6", 1, bytes(32), bytes(64))
    refused(world.run(world.forge("library.cert", ID, files=[library])), "unsupported")


def test_an_unknown_extension_grants_nothing_and_does_not_hurt(world: World) -> None:
    certificate = world.forge("extended.cert", ID, extensions={"setuid": "root"})
    assert world.run(certificate, "-u").stdout == f"{ALICE}\n"
