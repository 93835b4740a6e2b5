"""The walk that proves who could have written a file."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import TrustError
from certexec.kernel import ownership
from certexec.kernel.procfs import in_initial_user_namespace

MUST_WORK = os.environ.get("CERTEXEC_MUST_WORK") == "1"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


def need_root() -> None:
    if os.geteuid() != 0:
        if MUST_WORK:
            pytest.fail("this test needs root")
        pytest.skip("needs root")


def acl(*entries: tuple[int, int, int]) -> bytes:
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    return struct.pack("<I", 2) + packed


@pytest.fixture
def tree() -> Iterator[str]:
    """A directory whose whole chain belongs to root; pytest's own is below a sticky /tmp."""
    need_root()
    path = tempfile.mkdtemp(prefix="certexec-test-", dir="/run")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def refusal(call: object, *arguments: object) -> TrustError:
    with pytest.raises(TrustError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def test_a_chain_of_root_is_accepted_and_opened_for_listing(tree: str) -> None:
    os.mkdir(f"{tree}/a", 0o755)
    fd = ownership.check_chain(f"{tree}/a")
    try:
        assert os.listdir(fd) == []
        assert os.path.samestat(os.fstat(fd), os.stat(f"{tree}/a"))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_the_root_directory_itself_is_accepted(tree: str) -> None:
    os.close(ownership.check_chain("/"))


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_directory_that_others_may_write_is_refused_sticky_or_not(tree: str, mode: int) -> None:
    os.mkdir(f"{tree}/a")
    os.chmod(f"{tree}/a", mode)
    error = refusal(ownership.check_chain, f"{tree}/a")
    assert error.reason == "trust-unsafe"
    assert f"{tree}/a" in error.message
    # what is shared on purpose, as /tmp is, must not be taken away from everybody
    assert ("chmod" in error.hint) != bool(mode & 0o1000)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_above_counts_as_much_as_the_last_one(tree: str, mode: int) -> None:
    os.makedirs(f"{tree}/a/b")
    os.chmod(f"{tree}/a", mode)
    assert refusal(ownership.check_chain, f"{tree}/a/b").reason == "trust-unsafe"


def test_another_owner_is_refused_unless_allowed(tree: str) -> None:
    os.makedirs(f"{tree}/a/b")
    os.chown(f"{tree}/a", 12345, 0)
    assert refusal(ownership.check_chain, f"{tree}/a/b").reason == "trust-unsafe"
    os.close(ownership.check_chain(f"{tree}/a/b", {12345}))


def test_a_symbolic_link_on_the_way_is_not_followed(tree: str) -> None:
    os.mkdir(f"{tree}/real")
    os.mkdir(f"{tree}/real/below")
    os.symlink("real", f"{tree}/link")
    for path in (f"{tree}/link", f"{tree}/link/below"):
        error = refusal(ownership.check_chain, path)
        assert error.reason == "trust-unsafe"
        assert f'"{tree}/link"' in error.message


@pytest.mark.parametrize("path", ["relative/x", "", "/usr/../usr", "/usr/./lib", "/usr\0/lib"])
def test_a_path_that_is_not_plain_and_absolute_is_refused(path: str) -> None:
    assert refusal(ownership.check_chain, path).reason == "trust-unsafe"


def test_a_missing_directory_is_said_to_be_missing(tree: str) -> None:
    error = refusal(ownership.check_chain, f"{tree}/missing")
    assert error.reason == "unreadable"
    assert "No such file" in error.message


def test_a_file_is_judged_like_the_directories_above_it(tree: str) -> None:
    path = f"{tree}/file"
    with open(path, "w") as file:
        file.write("x")
    os.chmod(path, 0o644)
    fd = ownership.check_file(path)
    assert os.read(fd, 9) == b"x"
    os.close(fd)
    for spoil in (
        lambda: os.chmod(path, 0o664),
        lambda: (os.chmod(path, 0o644), os.chown(path, 12345, 0)),
        lambda: (os.chown(path, 0, 0), os.chmod(tree, 0o777)),
    ):
        spoil()
        assert refusal(ownership.check_file, path).reason == "trust-unsafe"


def test_a_file_that_is_a_link_a_pipe_or_a_directory_is_refused(tree: str) -> None:
    os.symlink("/etc/passwd", f"{tree}/link")
    os.mkfifo(f"{tree}/pipe", 0o644)
    os.mkdir(f"{tree}/directory", 0o755)
    for name in ("link", "pipe", "directory"):
        assert refusal(ownership.check_file, f"{tree}/{name}").reason == "trust-unsafe"
    assert refusal(ownership.check_file, f"{tree}/").reason == "trust-unsafe"


def test_no_descriptor_is_left_behind_by_a_refusal(tree: str) -> None:
    os.mkdir(f"{tree}/a")
    os.chmod(f"{tree}/a", 0o777)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        refusal(ownership.check_chain, f"{tree}/a")
        refusal(ownership.check_file, f"{tree}/a/x")
        refusal(ownership.check_file, f"{tree}/missing")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_an_acl_for_a_named_user_is_refused_with_its_own_hint(tree: str) -> None:
    os.mkdir(f"{tree}/a", 0o755)
    value = acl(
        (USER_OBJ, 7, 0xFFFFFFFF), (USER, 7, 12345), (GROUP_OBJ, 5, 0xFFFFFFFF),
        (MASK, 7, 0xFFFFFFFF), (OTHER, 5, 0xFFFFFFFF),
    )
    try:
        os.setxattr(f"{tree}/a", ownership.ACL_XATTR, value)
    except OSError as error:
        if MUST_WORK:
            raise
        pytest.skip(f"no ACLs on this file system: {error}")
    error = refusal(ownership.check_chain, f"{tree}/a")
    assert error.reason == "trust-unsafe"
    assert "ACL" in error.message
    assert "setfacl -b" in error.hint


def test_an_acl_that_cannot_be_read_is_refused(
    tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str, name: str) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "getxattr", broken)
    assert "ACL" in refusal(ownership.check_chain, tree).message


NONE = 0xFFFFFFFF
BASE = ((USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 5, NONE))


@pytest.mark.parametrize(
    ("entries", "writable"),
    [
        (BASE, False),
        (((USER_OBJ, 7, NONE), (GROUP_OBJ, 7, NONE), (OTHER, 5, NONE)), True),
        (((USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 7, NONE)), True),
        ((*BASE, (USER, 7, 1000), (MASK, 7, NONE)), True),
        ((*BASE, (USER, 7, 1000), (MASK, 5, NONE)), False),
        ((*BASE, (USER, 5, 1000), (MASK, 7, NONE)), False),
        ((*BASE, (USER, 7, 0), (MASK, 7, NONE)), False),
        ((*BASE, (GROUP, 6, 0), (MASK, 7, NONE)), True),
        ((*BASE, (64, 2, NONE)), True),
    ],
)
def test_an_acl_is_writable_exactly_when_somebody_else_may_write(
    entries: tuple[tuple[int, int, int], ...], writable: bool
) -> None:
    assert ownership.acl_lets_others_write(acl(*entries)) is writable


@given(st.binary(max_size=64))
def test_an_acl_that_is_not_understood_counts_as_writable(data: bytes) -> None:
    well_formed = len(data) >= 4 and (len(data) - 4) % 8 == 0 and data[:4] == b"\2\0\0\0"
    if not well_formed:
        assert ownership.acl_lets_others_write(data)


def in_user_namespace(code: str) -> str:
    command = ["unshare", "--user", "--map-root-user", shutil.which("python3") or "python3"]
    done = subprocess.run(
        [*command, "-c", code], capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    if done.returncode != 0:
        if MUST_WORK:
            pytest.fail(done.stderr)
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    return done.stdout.strip()


def test_only_uid_0_counts_as_root_in_the_initial_namespace() -> None:
    if not in_initial_user_namespace():
        pytest.skip("runs inside a user namespace")
    assert ownership.root_owners() == {0}


def test_inside_a_user_namespace_outside_owners_count_as_root_too() -> None:
    shown = in_user_namespace(
        "from certexec.kernel import ownership; print(sorted(ownership.root_owners()))"
    )
    assert shown == "[0, 65534]"


def test_the_overflow_uid_does_not_count_where_it_is_somebody_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {"/proc/self/uid_map": b"0 100000 65536\n", "/proc/sys/fs/overflowuid": b"65534\n"}
    monkeypatch.setattr(ownership, "read_file", files.__getitem__)
    assert ownership.root_owners() == {0}
    files["/proc/self/uid_map"] = b"0 100000 65534\n"
    assert ownership.root_owners() == {0, 65534}
