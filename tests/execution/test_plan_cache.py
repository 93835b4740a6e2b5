"""A kept plan is used as long as everything is as it was, and never after anything changed.

Whether it was used shows without a server: the interpreter is taken away, so that whoever asks for
a server gets none, and only a kept plan can start the program.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certexec.run import cache_entry
from tests.execution.world import (
    ALICE,
    BOB,
    INTERNAL,
    NETADMIN,
    SERVICE,
    World,
    policy,
    refused,
)

HOME = "/mnt/free"
"""Where root alone may write, on a file system that keeps change times (world.directory)."""
SAYS = '#include <stdio.h>\nint main(void) { puts("%s"); return 0; }\n'
ONCE = """
import sys
from certexec.run import plan_cache
changes = dict(one.split("=") for one in sys.argv[1:])
for name, entry in list(plan_cache.entries()):
    for key, value in changes.items():
        setattr(entry, key, int(value))
    plan_cache.write(name, entry)
"""


class Kept:
    """A program of root's, its certificate, and the plan that is kept for it."""

    def __init__(self, world: World, name: str = "kept", home: str = HOME) -> None:
        self.world = world
        self.home = home
        self.place = world.directory(name)
        world.machine.run("mount", "--bind", str(self.place), home)
        self.good = world.compile("good", SAYS % "fine")
        self.evil = world.compile("evil", SAYS % "evil")
        self.store = Path(world.machine.path("/run/certexec/plans"))
        self.trust = Path(world.machine.path("/etc/certexec/trust.d"))
        self.python = next(Path(world.machine.path("/usr/libexec/certexec/versions")).iterdir())
        self.python /= "python"
        self.program = f"{home}/program"
        self.certificate = "/usr/local/bin/kept"

    def renew(self, *options: str, text: str | None = None, source: str = "") -> str:
        """Make program, certificate and plan anew; returns the certificate's path."""
        target = self.place / "program"
        target.unlink(missing_ok=True)
        shutil.copy(source or self.good, target)
        target.chmod(0o755)
        self.flush()
        listed = any(one.startswith(("--allow", "--deny")) for one in options)
        if text is None:  # where it may execute others, a grant is supervised
            denied = ("execve: deny[eperm]", "execveat: deny[eperm]")
            text = policy(self.program, *(denied if "--setuid" in options else ()))
        rules = self.world.write("kept.policy", text)
        where = self.world.path("bin/kept")
        self.world.verb(
            "sign", "--force", "-k", self.world.path("ops.key"), "-o", where,
            *(() if "--policy-path" in options else ("-p", rules)),
            *(() if listed else ("--allow-everyone",)), *options, self.program,
        )  # fmt: skip
        self.world.verb("install", "-f", where, self.certificate)
        return self.certificate

    def path(self, inside: str) -> Path:
        return Path(self.world.machine.path(inside))

    def flush(self) -> None:
        self.world.verb("cache", "flush")

    def entries(self) -> list[Path]:
        return sorted(self.store.iterdir()) if self.store.exists() else []

    @contextmanager
    def no_server(self) -> Iterator[None]:
        """Let nobody start a policy server."""
        aside = self.python.with_name("aside")
        self.python.rename(aside)
        try:
            yield
        finally:
            aside.rename(self.python)

    def used(self, path: str = "", uid: int = ALICE, before: str = "",
             groups: tuple[int, ...] = ()) -> bool:  # fmt: skip
        """Tell whether a start takes the kept plan; everything else asks for a server."""
        with self.no_server():
            done = self.world.run(
                path or self.certificate, uid=uid, before=before, groups=groups
            )
        if done.returncode == 0:
            return True
        assert done.returncode == INTERNAL and "not set up" in done.stderr, done
        return False

    def rewrite(self, **changes: object) -> None:
        """Change what entries say, soundly summed, as only root could."""
        done = self.world.machine.run(
            "python3", "-c", ONCE, *(f"{key}={value}" for key, value in changes.items()),
            env={"PYTHONPATH": str(self.world.package)},
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def kept_of_module(world_of_session: World) -> Iterator[Kept]:
    kept = Kept(world_of_session)
    yield kept
    kept.flush()
    world_of_session.machine.run("umount", HOME)


@pytest.fixture
def kept(kept_of_module: Kept, world: World) -> Kept:
    """A fresh certificate whose plan is kept."""
    kept_of_module.renew()
    assert kept_of_module.used()
    return kept_of_module


# -- it is used ------------------------------------------------------------------------------------


def test_install_keeps_a_plan_for_ordinary_invokers_and_one_for_capable_ones(kept: Kept) -> None:
    assert [path.name[-2:] for path in kept.entries()] == ["-0", "-1"]
    assert kept.used(uid=ALICE) and kept.used(uid=BOB) and kept.used(uid=0)
    for path in kept.entries():
        info = path.stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (0, 0, 0o644)


def test_a_start_by_root_keeps_the_plan_of_what_nobody_installed(kept: Kept) -> None:
    kept.flush()
    assert kept.world.run(kept.certificate, uid=0).stdout == "fine\n"
    assert not kept.world.settle()
    assert kept.used(uid=0)
    assert not kept.used(uid=ALICE)


def test_a_start_by_an_ordinary_user_keeps_nothing(kept: Kept) -> None:
    kept.flush()
    assert kept.world.run(kept.certificate, uid=ALICE).stdout == "fine\n"
    assert not kept.world.settle()
    assert kept.entries() == []


def test_a_kept_plan_confines_as_the_judged_one(kept: Kept) -> None:
    text = policy(kept.program, "write: deny[eperm]", without=("write",))
    kept.renew(text=text)
    with kept.no_server():
        done = kept.world.run(kept.certificate)
    assert done.stdout == ""


def test_limits_and_environment_are_the_same_with_and_without(kept: Kept) -> None:
    source = "/usr/bin/env"
    options = ("--rlimit", "nofile=77", "--umask", "027", "--env", "TERM", "--env", "LC_X",
               "--set-env", "COLOR=blue")  # fmt: skip
    kept.renew(*options, source=source)
    typed = {"TERM": "vt100", "COLOR": "red", "SECRET": "x", "LC_X": "a"}
    judged = kept.world.run(kept.certificate, env=typed)
    with kept.no_server():
        done = kept.world.run(kept.certificate, env=typed)
    assert sorted(done.stdout.splitlines()) == sorted(judged.stdout.splitlines())
    assert "TERM=vt100" in done.stdout and "COLOR=blue" in done.stdout
    assert "SECRET" not in done.stdout


# -- it is not used: something changed -------------------------------------------------------------


def _rewrite(path: Path) -> None:
    """Write the same bytes again, in place."""
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(data)


def _same_times(path: Path, data: bytes) -> None:
    """Change content, and put the times back that anybody can put back."""
    info = path.stat()
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def _replace(path: Path, source: str) -> None:
    fresh = path.with_name("fresh")
    shutil.copy(source, fresh)
    fresh.chmod(0o755)
    fresh.rename(path)


CHANGES: dict[str, Callable[[Kept], object]] = {
    "the program is written to": lambda k: _rewrite(k.place / "program"),
    "the program has another content and its old times": lambda k: _same_times(
        k.place / "program", Path(k.evil).read_bytes()),
    "the program is replaced": lambda k: _replace(k.place / "program", k.evil),
    "the program is replaced by the same bytes": lambda k: _replace(k.place / "program", k.good),
    "the program has another mode": lambda k: (k.place / "program").chmod(0o700),
    "the program has another name, too": lambda k: os.link(
        k.place / "program", k.place / f"second-{os.urandom(4).hex()}"),
    "the program is gone": lambda k: (k.place / "program").unlink(),
    "the certificate is written to": lambda k: _rewrite(k.path(k.certificate)),
    "the certificate has another mode": lambda k: k.path(k.certificate).chmod(0o711),
    "the certificate has another name, too": lambda k: os.link(
        k.path(k.certificate), k.path(f"/usr/local/bin/second-{os.urandom(4).hex()}")),
    "a key is added": lambda k: (k.trust / "third.pub").write_bytes(
        (k.trust / "plain.pub").read_bytes()),
    "a key is changed": lambda k: _rewrite(k.trust / "plain.pub"),
    "a key's constraints are changed": lambda k: _rewrite(k.trust / "ops.toml"),
    "the trust store can be written by a group": lambda k: k.trust.chmod(0o775),
    "the directory above it can be": lambda k: k.trust.parent.chmod(0o775),
    "the trust store is another directory": lambda k: _exchange(k.trust),
    "there is another user": lambda k: _rewrite(k.path("/etc/passwd")),
    "there is another group": lambda k: _rewrite(k.path("/etc/group")),
    "another version of certexec counts": lambda k: _link_anew(
        k.path("/usr/libexec/certexec/current")),
}  # fmt: skip


def _exchange(directory: Path) -> None:
    aside = directory.with_name("aside")
    directory.rename(aside)
    shutil.copytree(aside, directory)


def _link_anew(link: Path) -> None:
    target = os.readlink(link)
    link.unlink()
    link.symlink_to(target)


@contextmanager
def _store_as_it_was(kept: Kept) -> Iterator[None]:
    copy = kept.trust.with_name("copy")
    shutil.copytree(kept.trust, copy)
    try:
        yield
    finally:
        shutil.rmtree(kept.trust)
        copy.rename(kept.trust)
        kept.trust.chmod(0o755)
        kept.trust.parent.chmod(0o755)
        shutil.rmtree(kept.trust.with_name("aside"), ignore_errors=True)


@pytest.mark.parametrize("what", CHANGES)
def test_a_plan_is_not_used_when(kept: Kept, what: str) -> None:
    with _store_as_it_was(kept):
        kept.renew()
        assert kept.used()
        CHANGES[what](kept)
        assert not kept.used()
        assert "evil" not in kept.world.run(kept.certificate).stdout


def test_a_plan_is_not_used_when_the_policys_file_was_written_to(kept: Kept) -> None:
    rules = kept.place / "rules"
    rules.write_text(policy(kept.program))
    rules.chmod(0o644)
    kept.renew("--policy-path", f"{HOME}/rules")
    assert kept.used()
    _rewrite(rules)
    assert not kept.used()
    assert kept.world.run(kept.certificate).stdout == "fine\n"


@pytest.mark.parametrize("how", ["others may not", "a list of users", "a key"])
def test_what_an_invoker_may_not_read_starts_no_program_of_theirs(kept: Kept, how: str) -> None:
    rules = kept.place / "rules"
    rules.write_text(policy(kept.program))
    rules.chmod(0o640 if how == "others may not" else 0o644)
    with _store_as_it_was(kept):
        if how == "a list of users":  # user::rw-, user:ALICE:---, group::r--, mask::r--, other::r--
            rows = ((1, 6, -1), (2, 0, ALICE), (4, 4, -1), (16, 4, -1), (32, 4, -1))
            acl = struct.pack("<I", 2) + b"".join(
                struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in rows
            )
            os.setxattr(rules, "system.posix_acl_access", acl)
        if how == "a key":
            (kept.trust / "plain.pub").chmod(0o600)
        kept.renew("--policy-path", f"{HOME}/rules")
        assert not kept.used()
        assert kept.world.run(kept.certificate).stdout == ""


def test_a_copy_of_the_certificate_has_no_plan(kept: Kept) -> None:
    copy = kept.path("/usr/local/bin/copy")
    shutil.copy(kept.path(kept.certificate), copy)
    assert not kept.used("/usr/local/bin/copy")
    assert kept.used()


@pytest.mark.parametrize(
    ("covered", "with_what"),
    [("program", "evil"), ("program", "program"), ("", ""), ("", "evil-directory")],
    ids=["another file", "the same file", "the same directory", "another directory"],
)
def test_a_plan_is_not_used_under_a_mount(kept: Kept, covered: str, with_what: str) -> None:
    kept.world.copy(kept.evil, "kept/evil")
    other = kept.place / "evil-directory"
    other.mkdir(exist_ok=True)
    shutil.copy(kept.evil, other / "program")
    where = f"{HOME}/{covered}".rstrip("/")
    done = kept.world.machine.run("mount", "--bind", f"{HOME}/{with_what}".rstrip("/"), where)
    assert done.returncode == 0, done.stderr
    try:
        assert not kept.used()
    finally:
        kept.world.machine.run("umount", where)
    assert kept.used()


def test_a_mount_over_the_trust_store_is_noticed(kept: Kept) -> None:
    where = "/etc/certexec/trust.d"
    kept.world.machine.run("mount", "--bind", where, where)
    try:
        assert not kept.used()
    finally:
        kept.world.machine.run("umount", where)
    assert kept.used()


def _inside(kept: Kept, *command: str) -> subprocess.CompletedProcess[str]:
    with kept.no_server():
        return kept.world.machine.run(*command, kept.certificate)


def test_a_plan_is_not_used_in_another_mount_namespace(kept: Kept) -> None:
    done = _inside(kept, "unshare", "-m")
    assert (done.returncode, done.stdout) == (INTERNAL, "")


def test_a_plan_is_not_used_in_a_user_namespace_of_somebodys(kept: Kept) -> None:
    enter = kept.world.machine.command("unshare", "-Ur", kept.certificate, uid=ALICE)
    with kept.no_server():
        done = subprocess.run(enter, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (INTERNAL, "")


def _says(path: Path, **changes: object) -> None:
    """Change what an entry says and nothing about where it lies."""
    entry = cache_entry.decode(path.read_bytes())
    assert entry is not None
    for name, value in changes.items():
        setattr(entry, name, value)
    path.write_bytes(entry.encode())


def test_a_plan_is_not_used_after_another_boot(kept: Kept) -> None:
    _says(kept.entries()[0], memory=0)
    assert kept.used()
    other = kept.world.write("boot-id", "11111111-2222-3333-4444-555555555555\n")
    where = "/proc/sys/kernel/random/boot_id"
    assert kept.world.machine.run("mount", "--bind", other, where).returncode == 0
    try:
        assert not kept.used()
    finally:
        kept.world.machine.run("umount", where)
    assert kept.used()


def test_a_plan_needs_no_name_of_the_boot_where_it_was_written_in_this_boot(kept: Kept) -> None:
    name = b"/proc/sys/kernel/random/boot_id"
    entry = cache_entry.decode(kept.entries()[0].read_bytes())
    assert entry is not None and entry.memory and entry.texts[0][0] == name
    others = entry.texts[1:]
    _says(kept.entries()[0], texts=[(name, b"another boot"), *others])
    assert kept.used()
    _says(kept.entries()[0], memory=entry.memory ^ 1)  # brought here from another tmpfs
    assert not kept.used()
    _says(kept.entries()[0], memory=0)
    assert not kept.used()


def test_a_number_that_a_disk_has_says_nothing_about_the_boot(kept: Kept) -> None:
    where = str(kept.store)
    disk = kept.world.directory("disk-store")
    shutil.copytree(where, disk, dirs_exist_ok=True)
    copy = disk / kept.entries()[0].name
    number = os.statvfs(disk).f_fsid
    assert number
    _says(copy, memory=number)
    kept.world.machine.run("mount", "--bind", str(disk), "/run/certexec/plans")
    try:
        assert kept.used()
        _says(copy, texts=[(b"/proc/sys/kernel/random/boot_id", b"another boot")])
        assert not kept.used()
    finally:
        kept.world.machine.run("umount", "/run/certexec/plans")


@pytest.mark.parametrize(
    "changes", [{"not_after": 1}, {"not_before": 1 << 40}], ids=["is over", "has not come"]
)
def test_a_plan_is_not_used_when_its_time(kept: Kept, changes: dict[str, int]) -> None:
    kept.rewrite(not_before=0)  # what is written anew by root is used
    assert kept.used()
    kept.rewrite(**changes)
    assert not kept.used()


def test_a_plan_counts_no_longer_than_its_certificate_and_not_before_it_was_made(
    kept: Kept,
) -> None:
    kept.renew("--valid-for", "2h")
    entry = cache_entry.decode(kept.entries()[0].read_bytes())
    assert entry is not None
    made = kept.entries()[0].stat().st_mtime
    assert abs(entry.not_before - made) < 60
    assert entry.not_after - made <= 2 * 3600


def _flip(path: Path) -> None:
    """Change what nobody reads: the sum alone tells."""
    data = bytearray(path.read_bytes())
    data[168] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "has one bit changed": _flip,
    "is cut short": lambda path: os.truncate(path, path.stat().st_size - 8),
    "is longer": lambda path: path.write_bytes(path.read_bytes() + bytes(8)),
    "is empty": lambda path: path.write_bytes(b""),
    "belongs to somebody else": lambda path: os.chown(path, ALICE, 0),
    "can be written by its group": lambda path: path.chmod(0o664),
    "can be written by others": lambda path: path.chmod(0o646),
    "is a link": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere")).name),
    "is a directory": lambda path: (path.unlink(), path.mkdir()),
    "is a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_an_entry_is_ignored_and_made_anew_when_it(kept: Kept, how: str) -> None:
    for path in kept.entries():
        DAMAGE[how](path)
    try:
        assert not kept.used()
        assert kept.world.run(kept.certificate).stdout == "fine\n"
    finally:
        shutil.rmtree(kept.store)
    assert kept.world.run(kept.certificate, uid=0).stdout == "fine\n"
    assert not kept.world.settle()
    assert kept.used(uid=0)


# -- for whom --------------------------------------------------------------------------------------


def test_a_plan_is_used_only_for_those_on_the_list(kept: Kept) -> None:
    kept.renew("--deny-user", "bob", "--allow-group", "netadmin", "--allow-user", "alice")
    assert kept.used(uid=ALICE)
    assert not kept.used(uid=BOB) and not kept.used(uid=SERVICE)
    assert kept.used(uid=SERVICE, groups=(NETADMIN,))
    assert not kept.used(uid=BOB, groups=(NETADMIN,))
    refused(kept.world.run(kept.certificate, uid=BOB), "acl-denied")


@pytest.mark.parametrize(
    "options",
    [("--require-tty",), ("--no-args",), ("--integrity", "exec-stop"), ("--integrity", "sealed"),
     ("--log", "full"), ("--unmatched", "ask")],
    ids=lambda options: " ".join(options),
)  # fmt: skip
def test_what_depends_on_more_is_not_kept(kept: Kept, options: tuple[str, ...]) -> None:
    kept.renew(*options)
    assert kept.entries() == []


def test_what_depends_on_who_runs_it_is_not_kept(kept: Kept) -> None:
    kept.renew(text=policy(kept.program, "mkdir: permit, if user = alice", without=("mkdir",)))
    assert kept.entries() == []


def test_a_program_that_others_can_write_has_no_kept_plan(kept: Kept) -> None:
    (kept.place / "program").chmod(0o775)
    kept.flush()
    done = kept.world.attempt("cache", "warm", kept.certificate)
    assert done.returncode == 1 and "a copy in memory" in done.stderr
    (kept.place / "program").chmod(0o755)
    assert kept.world.attempt("cache", "warm", kept.certificate).returncode == 0
    kept.flush()
    kept.place.chmod(0o777)
    done = kept.world.attempt("cache", "warm", kept.certificate)
    kept.place.chmod(0o755)
    assert done.returncode == 1 and "can be written by everybody" in done.stderr
    assert kept.entries() == []


def test_a_signed_verdict_may_say_that_a_kept_one_will_do(kept: Kept) -> None:
    kept.renew("--integrity", "cached")
    assert kept.used()


# -- with an identity ------------------------------------------------------------------------------

GRANT = ("--setuid", "service", "--allow-user", "alice")


def test_a_grant_is_kept_for_the_user_who_ran_it_and_for_nobody_else(kept: Kept) -> None:
    kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "service")
    try:
        kept.renew("--setuid", "service", "--allow-user", "alice", "--allow-user", "bob",
                   source="/usr/bin/id")  # fmt: skip
        assert kept.entries() == []
        judged = kept.world.run(kept.certificate)
        assert f"euid={SERVICE}" in judged.stdout, judged
        assert not kept.world.settle()
        assert kept.used(uid=ALICE) and not kept.used(uid=BOB)
        with kept.no_server():
            assert kept.world.run(kept.certificate).stdout == judged.stdout
        # somebody who can write to the program keeps the lease from being granted
        with open(kept.place / "program", "r+b"):
            assert not kept.used(uid=ALICE)
        assert kept.used(uid=ALICE)
    finally:
        kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "root")


def test_a_kept_grant_replaces_the_environment_as_a_judged_one(kept: Kept) -> None:
    kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "service")
    typed = {"TERM": "vt100", "LANG": "a/b", "LC_TIME": "C.UTF-8", "LD_PRELOAD": "/x", "HOME": "/x",
             "MINE": "1", "LC_ALL": "x" * 129}  # fmt: skip
    try:
        kept.renew(*GRANT, "--env", "MINE", source="/usr/bin/env")
        judged = kept.world.run(kept.certificate, env=typed)
        assert not kept.world.settle()
        with kept.no_server():
            done = kept.world.run(kept.certificate, env=typed)
        assert done.returncode == 0
        assert sorted(done.stdout.splitlines()) == sorted(judged.stdout.splitlines())
        assert {"TERM=vt100", "LC_TIME=C.UTF-8", "MINE=1"} <= set(done.stdout.splitlines())
        assert not any(one in done.stdout for one in ("LANG", "LD_", "x" * 129))
    finally:
        kept.world.verb("trust", "add", kept.world.path("ops.pub"), "--may-grant", "root")


# -- the verbs -------------------------------------------------------------------------------------


def test_list_verify_and_flush_say_what_is_kept(kept: Kept) -> None:
    listed = kept.world.verb("cache", "list")
    assert listed.count(f"{kept.certificate}: {kept.program}, for ") == 2
    assert kept.world.verb("cache", "verify").count(": fresh\n") == 2
    _rewrite(kept.place / "program")
    done = kept.world.attempt("cache", "verify")
    assert done.returncode == 1
    assert done.stdout.count(f'"{kept.program}" changed') == 2
    done = kept.world.attempt("cache", "flush", uid=ALICE)
    assert done.returncode == 2 and "only root" in done.stderr
    assert "2 plans dropped" in kept.world.verb("cache", "flush")
    assert kept.entries() == []


def test_inspect_and_doctor_say_whether_a_verdict_is_kept(kept: Kept) -> None:
    for uid in (0, ALICE):
        shown = kept.world.verb("inspect", kept.certificate, uid=uid)
        assert "kept unchanged by: cached\n" in shown and "not cached" not in shown
    assert " 2 of 2 plans " in _row(kept, "cached")
    _rewrite(kept.place / "program")
    shown = kept.world.verb("inspect", kept.certificate)
    assert "kept unchanged by: exec-stop\nnot cached: no verdict is kept yet" in shown
    assert " 0 of 2 plans " in _row(kept, "cached")
    kept.flush()
    assert " 0 plans " in _row(kept, "cached")
    kept.renew("--require-tty")
    assert "not cached: it asks for a terminal\n" in kept.world.verb("inspect", kept.certificate)


def _row(kept: Kept, name: str) -> str:
    lines = kept.world.attempt("doctor").stdout.splitlines()
    return next(line for line in lines if f" {name} " in line)
