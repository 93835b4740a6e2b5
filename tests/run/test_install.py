"""Installing a certificate: judged first, then in place in one step with the right bits."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator

import pytest

from certexec.certificate import envelope
from certexec.certificate.model import (
    Certificate,
    Claims,
    FileDigest,
    Identity,
    Invocation,
    PolicyRef,
    Program,
)
from certexec.certificate.sign import sign_certificate
from certexec.errors import CertexecError
from certexec.run import install as installing
from certexec.trust import edit, private_keys
from certexec.trust.constraints import Constraints
from tests.isolation import Machine, need, skip_or_fail

NOW = 1_800_000_000
POLICY = "Policy: {path}, Emulation: native\n\tnative-read: permit\n\tnative-write: permit\n"


def digests(path: str) -> tuple[int, bytes, bytes]:
    with open(path, "rb") as file:
        data = file.read()
    return len(data), hashlib.sha256(data).digest(), hashlib.sha512(data).digest()


class Bench:
    """A place that only root can write: a program, a trust store, a key, a directory in $PATH."""

    def __init__(self, root: str) -> None:
        self.root = root
        os.chmod(self.root, 0o755)
        for name in ("bin", "trust"):
            os.mkdir(f"{self.root}/{name}", 0o755)
        self.program = f"{self.root}/program"
        shutil.copy("/bin/true", self.program)
        self.bin = f"{self.root}/bin"
        self.store = f"{self.root}/trust"
        self.key = private_keys.generate("ed25519", "test")
        self.trust(["user:root"])

    def trust(self, grants: list[str]) -> None:
        limits = Constraints(grants=grants)
        edit.add_key(self.store, self.key.public, limits, "test")

    def sign(self, **changes: object) -> str:
        size, sha256, sha512 = digests(self.program)
        text = POLICY.format(path=self.program)
        settings: dict[str, object] = {
            "claims": Claims("test", "program", NOW, NOW - 10, NOW + 1000, bytes(16)),
            "serial": 1,
            "program": Program(self.program, size, sha256, sha512),
            "policy": PolicyRef(text, None, hashlib.sha256(text.encode()).digest()),
            "invocation": Invocation([(True, "everyone", "", 0)]),
            **changes,
        }
        path = f"{self.root}/program.cert"
        with open(path, "wb") as file:
            file.write(sign_certificate(Certificate(**settings), [self.key]))  # type: ignore[arg-type]
        return path

    def grant(self, **changes: object) -> str:
        return self.sign(identity=Identity(user=("root", 0)), **changes)

    def install(self, path: str, place: str = "", **settings: object) -> installing.Installed:
        return installing.install(
            path, place or f"{self.bin}/program", NOW, store=self.store,
            **settings,  # type: ignore[arg-type]
        )

    def refused(self, path: str, place: str = "", **settings: object) -> CertexecError:
        before = self.listing()
        with pytest.raises(CertexecError) as caught:
            self.install(path, place, **settings)
        assert self.listing() == before
        return caught.value

    def listing(self) -> list[tuple[str, int, int]]:
        entries = [os.path.join(self.bin, name) for name in sorted(os.listdir(self.bin))]
        return [(path, os.lstat(path).st_mode, os.lstat(path).st_ino) for path in entries]


@pytest.fixture
def bench() -> Iterator[Bench]:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    root = tempfile.mkdtemp(prefix="certexec-test-", dir="/run")
    try:
        yield Bench(root)
    finally:
        shutil.rmtree(root)


def test_a_certificate_with_a_grant_becomes_root_root_4755(bench: Bench) -> None:
    path = bench.grant()
    os.chown(path, 12345, 12345)
    done = bench.install(path)
    status = os.stat(f"{bench.bin}/program")
    assert stat.S_IMODE(status.st_mode) == 0o4755 == done.mode
    assert (status.st_uid, status.st_gid, status.st_nlink) == (0, 0, 1)
    with open(path, "rb") as source, open(done.path, "rb") as target:
        assert source.read() == target.read()
    assert os.listdir(bench.bin) == ["program"]


def test_the_group_of_the_directory_is_not_inherited(bench: Bench) -> None:
    os.chown(bench.bin, 0, 12345)
    os.chmod(bench.bin, 0o2755)
    assert os.stat(bench.install(bench.grant()).path).st_gid == 0


def test_a_certificate_without_a_grant_becomes_0755(bench: Bench) -> None:
    done = bench.install(bench.sign())
    assert stat.S_IMODE(os.stat(done.path).st_mode) == 0o755 == done.mode
    assert not done.replaced


def test_a_hostile_umask_changes_no_mode(bench: Bench) -> None:
    before = os.umask(0o777)
    try:
        done = bench.install(bench.grant())
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(done.path).st_mode) == 0o4755


def test_a_directory_takes_the_certificate_under_its_own_name(bench: Bench) -> None:
    assert bench.install(bench.sign(), bench.bin).path == f"{bench.bin}/program.cert"
    os.symlink(bench.bin, f"{bench.root}/link")
    assert bench.install(bench.sign(), f"{bench.root}/link/x").path == f"{bench.bin}/x"


def test_a_certificate_is_replaced_in_one_step_and_keeps_running_for_those_who_have_it(
    bench: Bench,
) -> None:
    old = bench.install(bench.sign())
    with open(old.path, "rb") as running:
        before = os.fstat(running.fileno()).st_ino
        assert bench.install(bench.grant()).replaced
        assert os.stat(old.path).st_ino != before
        assert running.read().startswith(envelope.PREFIX)


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_not_a_certificate_is_not_replaced_without_force(bench: Bench, kind: str) -> None:
    place = f"{bench.bin}/program"
    if kind == "file":
        shutil.copy("/bin/true", place)
    else:
        os.symlink(bench.sign() if kind == "link" else "missing", place)
    error = bench.refused(bench.sign(), place)
    assert error.reason == "exists"
    assert "--force" in error.hint
    assert bench.install(bench.sign(), place, force=True).replaced
    assert stat.S_ISREG(os.lstat(place).st_mode)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["device", "directory", "pipe", "socket"])
def test_what_is_neither_file_nor_link_is_never_replaced(
    bench: Bench, kind: str, force: bool
) -> None:
    place = f"{bench.bin}/program"
    if kind == "device":
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif kind == "socket":
        os.mknod(place, stat.S_IFSOCK | 0o666)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        os.mkdir(place)
        place = f"{place}/"
        os.mkdir(f"{place}program.cert")
        bench.bin = f"{bench.bin}/program"
    error = bench.refused(bench.sign(), place, force=force)
    assert error.reason == "exists"
    assert "is not a regular file" in error.message
    assert "force" not in error.hint


def test_force_on_a_link_replaces_the_link_and_not_what_it_leads_to(bench: Bench) -> None:
    target = f"{bench.root}/precious"
    shutil.copy("/bin/true", target)
    os.symlink(target, f"{bench.bin}/program")
    before = digests(target)
    bench.install(bench.sign(), force=True)
    assert digests(target) == before


@pytest.mark.parametrize("where", ["bin", "above"])
def test_a_grant_needs_a_directory_that_only_root_can_write(bench: Bench, where: str) -> None:
    path = bench.grant()
    os.chmod(bench.bin if where == "bin" else bench.root, 0o1777)
    assert bench.refused(path).reason in ("setuid-denied", "trust-unsafe")
    os.chmod(bench.root, 0o755)
    os.chmod(bench.bin, 0o755)
    os.chown(bench.bin, 12345, 0)
    assert bench.refused(path).reason == "setuid-denied"


def test_the_trust_store_must_be_roots_alone(bench: Bench) -> None:
    path = bench.sign()
    os.chmod(bench.store, 0o777)
    assert bench.refused(path).reason == "trust-unsafe"


def test_without_a_grant_a_shared_directory_does_but_root_is_told(bench: Bench) -> None:
    path = bench.sign()
    os.chmod(bench.bin, 0o1777)
    assert "others can replace" in bench.install(path).notes[0]


def test_a_key_that_may_not_grant_is_refused(bench: Bench) -> None:
    bench.trust([])
    error = bench.refused(bench.grant())
    assert error.reason == "setuid-denied"
    assert "--may-grant" in error.hint


def test_a_number_that_is_another_users_here_is_refused(bench: Bench) -> None:
    bench.trust(["user:nobody"])
    path = bench.sign(identity=Identity(user=("nobody", 4242)))
    assert bench.refused(path).reason in ("identity-mismatch", "setuid-denied")


def test_a_changed_program_is_refused(bench: Bench) -> None:
    path = bench.sign()
    with open(bench.program, "r+b") as file:
        file.seek(100)
        file.write(b"x")
    assert bench.refused(path).reason == "binary-mismatch"
    os.unlink(bench.program)
    assert bench.refused(path).reason == "binary-missing"


def test_a_changed_interpreter_is_refused(bench: Bench) -> None:
    other = f"{bench.root}/interpreter"
    shutil.copy("/bin/true", other)
    path = bench.sign(files=[FileDigest("interpreter", other, *digests(other))])
    with open(other, "ab") as file:
        file.write(b"x")
    assert bench.refused(path).reason == "file-mismatch"


def test_a_changed_policy_is_refused(bench: Bench) -> None:
    place = f"{bench.root}/policy"
    text = POLICY.format(path=bench.program)
    with open(place, "w") as file:
        file.write(text)
    path = bench.sign(policy=PolicyRef(None, place, hashlib.sha256(text.encode()).digest()))
    bench.install(path)
    with open(place, "a") as file:
        file.write("\tnative-open: permit\n")
    assert bench.refused(path).reason == "policy-mismatch"


def test_a_policy_that_cannot_be_enforced_is_refused(bench: Bench) -> None:
    text = POLICY.format(path=bench.program) + "\tnative-io_uring_setup: true then ask\n"
    path = bench.sign(policy=PolicyRef(text, None, hashlib.sha256(text.encode()).digest()))
    assert bench.refused(path).reason == "policy-unsupported"


@pytest.mark.parametrize("what", ["flipped", "truncated", "empty", "long", "stranger"])
def test_bytes_that_no_trusted_key_signed_are_refused(bench: Bench, what: str) -> None:
    path = bench.sign()
    with open(path, "rb") as file:
        data = bytearray(file.read())
    if what == "flipped":
        data[-1] ^= 1
    elif what == "truncated":
        del data[-1]
    elif what == "empty":
        data = bytearray()
    elif what == "long":
        data += bytes(envelope.MAX_SIZE)
    else:
        edit.remove_key(bench.store, "test")
    with open(path, "wb") as file:
        file.write(data)
    wanted = {"flipped": "bad-signature", "stranger": "untrusted-key"}
    error = bench.refused(path)
    assert error.reason == wanted.get(what, "malformed")
    if error.reason == "malformed":
        assert error.message.startswith(f'"{path}": ')


@pytest.mark.parametrize(("nbf", "exp", "reason"), [(5, 9, "not-yet-valid"), (-9, -5, "expired")])
def test_the_dates_count(bench: Bench, nbf: int, exp: int, reason: str) -> None:
    claims = Claims("test", "program", NOW, NOW + nbf, NOW + exp, bytes(16))
    assert bench.refused(bench.sign(claims=claims)).reason == reason


def test_a_certificate_that_is_not_there_or_no_file_is_said_so(bench: Bench) -> None:
    assert bench.refused(f"{bench.root}/missing").reason == "not-found"
    os.mkfifo(f"{bench.root}/pipe")
    assert bench.refused(f"{bench.root}/pipe").reason == "unreadable"
    assert bench.refused(bench.sign(), f"{bench.root}/missing/x").reason == "not-found"


def test_somebody_faster_is_not_overwritten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.sign()
    place = f"{bench.bin}/program"

    def late(*arguments: object) -> bool:
        shutil.copy("/bin/true", place)
        return False

    monkeypatch.setattr(installing, "_check_present", late)
    with pytest.raises(CertexecError) as caught:
        bench.install(path)
    assert caught.value.reason == "exists"
    assert os.listdir(bench.bin) == ["program"]
    assert digests(place) == digests("/bin/true")


@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename", "link"])
def test_a_failure_on_the_way_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    if call == "rename":
        bench.install(bench.sign())
    path = bench.grant()

    def broken(*arguments: object, **named: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        error = bench.refused(path)
    assert error.reason == "unreadable"


def test_a_mount_that_takes_the_identity_or_execution_away_is_refused(bench: Bench) -> None:
    need("nsenter", "setpriv", "mount")
    path = bench.grant()
    machine = Machine()
    code = (
        "from certexec.errors import CertexecError; from certexec.run import install\n"
        f"try: print(install.install({path!r}, '/usr/local/bin/x', {NOW}, store={bench.store!r})"
        ".mode)\nexcept CertexecError as error: print(error.reason, error.message)"
    )
    try:
        shutil.copytree(bench.root, machine.path(bench.root))  # the machine has a /run of its own
        assert machine.python(code) == str(0o4755)
        for option, reason in (("nosuid", "setuid-denied"), ("noexec", "binary-unusable")):
            machine.run("mount", "-o", f"remount,{option}", "/usr/local/bin")
            shown = machine.python(code)
            assert shown.startswith(reason)
            assert option in shown
            machine.run("mount", "-o", "remount,suid,exec", "/usr/local/bin")
    finally:
        machine.stop()


def test_an_ordinary_user_installs_without_a_grant_only(bench: Bench) -> None:
    home = f"{bench.root}/home"
    os.mkdir(home)
    os.chown(home, 12345, 12345)
    paths = bench.sign(), f"{home}/program"
    grant = shutil.copy(bench.grant(), f"{bench.root}/grant.cert")
    bench.sign()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            bench.install(*paths)
            with pytest.raises(CertexecError) as caught:
                bench.install(grant, f"{home}/grant")
            code = 0 if caught.value.reason == "not-root" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.listdir(home) == ["program"]
    status = os.stat(f"{home}/program")
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (12345, 0o755)


