"""The trust store: what is read, and every way in which somebody else could have written it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from certexec.errors import TrustError
from certexec.trust.constraints import Constraints
from certexec.trust.edit import add_key, find_key, remove_key
from certexec.trust.store import MAX_KEYS, by_kid, load_store
from tests.certificate.simulator import key

ME = frozenset({0, os.getuid()})


@pytest.fixture
def store(safe_dir: Path) -> Path:
    """Return a store with one key, "alice", that may grant root."""
    path = safe_dir / "trust.d"
    add_key(str(path), key("alice").public, Constraints(grants=["user:root"]), "alice",
            owner_ok=ME, create=True)
    return path


def refused(path: Path) -> TrustError:
    with pytest.raises(TrustError) as caught:
        load_store(str(path), owner_ok=ME)
    return caught.value


def test_a_key_and_its_constraints_are_read(store: Path) -> None:
    (trusted,) = load_store(str(store), owner_ok=ME)
    assert trusted.name == "alice"
    assert trusted.key.kid == key("alice").public.kid
    assert trusted.constraints.grants == ["user:root"]
    assert by_kid([trusted]) == {trusted.key.kid: trusted}


def test_a_key_without_a_constraint_file_may_sign_anywhere_and_grant_nothing(store: Path) -> None:
    (store / "alice.toml").unlink()
    (trusted,) = load_store(str(store), owner_ok=ME)
    assert trusted.constraints == Constraints()


def test_keys_come_in_the_order_of_their_names(store: Path) -> None:
    for name in ("zoe", "bob"):
        add_key(str(store), key(name).public, Constraints(), name, owner_ok=ME)
    assert [one.name for one in load_store(str(store), owner_ok=ME)] == ["alice", "bob", "zoe"]


def test_other_files_are_no_keys(store: Path) -> None:
    (store / "README").write_text("hello")
    (store / ".hidden.pub").write_text("not a key")
    (store / "alice.pub.bak").write_text("not a key")
    (store / "gone.toml").write_text("nonsense")
    assert len(load_store(str(store), owner_ok=ME)) == 1


DANGERS: dict[str, Callable[[Path], object]] = {
    "a store that a group can write": lambda path: path.chmod(0o775),
    "a store that everybody can write": lambda path: path.chmod(0o777),
    "a sticky store that everybody can write": lambda path: path.chmod(0o1777),
    "a directory above that everybody can write": lambda path: path.parent.chmod(0o777),
    "a sticky directory above that everybody can write": lambda path: path.parent.chmod(0o1777),
    "a key that a group can write": lambda path: (path / "alice.pub").chmod(0o664),
    "a key that everybody can write": lambda path: (path / "alice.pub").chmod(0o646),
    "constraints that everybody can write": lambda path: (path / "alice.toml").chmod(0o666),
    "a symbolic link for a key": lambda path: (
        (path / "alice.pub").rename(path / "real"),
        (path / "alice.pub").symlink_to("real"),
    ),
    "a symbolic link for constraints": lambda path: (
        (path / "alice.toml").rename(path / "real"),
        (path / "alice.toml").symlink_to("real"),
    ),
    "a dangling symbolic link for constraints": lambda path: (
        (path / "alice.toml").unlink(),
        (path / "alice.toml").symlink_to("nowhere"),
    ),
    "a pipe for a key": lambda path: os.mkfifo(path / "pipe.pub"),
    "a directory for a key": lambda path: (path / "dir.pub").mkdir(),
    "a directory for constraints": lambda path: (
        (path / "alice.toml").unlink(),
        (path / "alice.toml").mkdir(),
    ),
}


@pytest.mark.parametrize("name", DANGERS)
def test_refuses(name: str, store: Path) -> None:
    DANGERS[name](store)
    assert refused(store).reason == "trust-unsafe"


def test_refuses_a_symbolic_link_for_the_store(store: Path) -> None:
    link = store.parent / "link"
    link.symlink_to(store)
    assert refused(link).reason == "trust-unsafe"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("inside", ["", "alice.pub", "alice.toml"])
def test_refuses_what_belongs_to_somebody_else(store: Path, inside: str) -> None:
    os.chown(store / inside, 12345, 12345)
    assert refused(store).reason == "trust-unsafe"
    # and accepts it where that somebody is the one who asks
    if inside:
        assert load_store(str(store), owner_ok={12345})


def test_a_file_in_tmp_is_refused_although_the_directory_is_ours(tmp_path: Path) -> None:
    assert refused(tmp_path).reason == "trust-unsafe"


def test_a_missing_store_is_unreadable(safe_dir: Path) -> None:
    error = refused(safe_dir / "missing")
    assert error.reason == "unreadable"
    assert "certexec trust add" in error.hint


@pytest.mark.parametrize("content", [b"", b"junk", b"certexec-ed25519 AAAA", b"\xff", b"x" * 5000])
def test_one_damaged_key_refuses_the_whole_store(store: Path, content: bytes) -> None:
    (store / "bob.pub").write_bytes(content)
    error = refused(store)
    assert error.reason == "bad-key"
    assert "bob.pub" in error.message


@pytest.mark.parametrize("content", [b"junk", b"\xff", b"paths = [\n", b"#" * 70000])
def test_constraints_that_are_not_understood_refuse_the_whole_store(
    store: Path, content: bytes
) -> None:
    (store / "alice.toml").write_bytes(content)
    error = refused(store)
    assert error.reason in ("trust-syntax", "bad-key")
    assert "alice.toml" in error.message


def test_one_key_under_two_names_refuses_the_whole_store(store: Path) -> None:
    (store / "copy.pub").write_bytes((store / "alice.pub").read_bytes())
    assert refused(store).reason == "bad-key"


def test_more_keys_than_the_limit_refuse_the_whole_store(store: Path) -> None:
    for number in range(MAX_KEYS):
        (store / f"{number}.pub").write_text("")
    assert refused(store).reason == "trust-unsafe"


# -- changing it -----------------------------------------------------------------------------------


def files(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def test_adding_makes_files_that_everybody_can_read_whatever_the_umask(safe_dir: Path) -> None:
    previous = os.umask(0o077)
    try:
        add_key(str(safe_dir / "new" / "trust.d"), key("alice").public, Constraints(), "alice",
                owner_ok=ME, create=True)
    finally:
        os.umask(previous)
    for path in (safe_dir / "new", safe_dir / "new" / "trust.d"):
        assert path.stat().st_mode & 0o777 == 0o755
    for path in (safe_dir / "new" / "trust.d").iterdir():
        assert path.stat().st_mode & 0o777 == 0o644


def test_adding_the_same_key_again_changes_its_constraints(store: Path) -> None:
    assert not add_key(str(store), key("alice").public, Constraints(["/opt/**"]), "alice",
                       owner_ok=ME)
    (trusted,) = load_store(str(store), owner_ok=ME)
    assert (trusted.constraints.paths, trusted.constraints.grants) == (["/opt/**"], [])


def test_adding_a_known_key_under_another_name_is_refused(store: Path) -> None:
    with pytest.raises(TrustError) as caught:
        add_key(str(store), key("alice").public, Constraints(), "other", owner_ok=ME)
    assert caught.value.reason == "exists"
    assert files(store) == ["alice.pub", "alice.toml"]


def test_adding_another_key_under_a_known_name_is_refused(store: Path) -> None:
    with pytest.raises(TrustError) as caught:
        add_key(str(store), key("bob").public, Constraints(), "alice", owner_ok=ME)
    assert caught.value.reason == "exists"
    assert load_store(str(store), owner_ok=ME)[0].key.kid == key("alice").public.kid


@pytest.mark.parametrize(
    "name", ["", ".x", "-x", "a/b", "../x", "a b", "ä", "x" * 65, "a\n", "a\0"]
)
def test_a_name_that_is_no_plain_file_name_is_refused(store: Path, name: str) -> None:
    with pytest.raises(TrustError) as caught:
        add_key(str(store), key("bob").public, Constraints(), name, owner_ok=ME)
    assert caught.value.reason == "usage"
    assert files(store) == ["alice.pub", "alice.toml"]


def test_adding_to_an_unsafe_store_is_refused(store: Path) -> None:
    store.chmod(0o777)
    with pytest.raises(TrustError) as caught:
        add_key(str(store), key("bob").public, Constraints(), "bob", owner_ok=ME)
    assert caught.value.reason == "trust-unsafe"
    assert files(store) == ["alice.pub", "alice.toml"]


@pytest.mark.parametrize("call", ["rename", "fsync", "fchmod"])
def test_a_failure_half_way_leaves_no_key_and_no_rest(
    store: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(TrustError):
            add_key(str(store), key("bob").public, Constraints(), "bob", owner_ok=ME)
    assert "bob.pub" not in files(store)
    assert not [name for name in files(store) if name.endswith(".tmp")]


def test_constraints_are_there_before_their_key(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    rename = os.rename

    def noting(source: str, target: str, **options: int) -> None:
        order.append(target)
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", noting)
    add_key(str(store), key("bob").public, Constraints(), "bob", owner_ok=ME)
    assert order == ["bob.toml", "bob.pub"]


@pytest.mark.parametrize("by", ["name", "fingerprint"])
def test_a_removed_key_is_gone(store: Path, by: str) -> None:
    wanted = "alice" if by == "name" else key("alice").public.fingerprint
    assert remove_key(str(store), wanted, owner_ok=ME).name == "alice"
    assert files(store) == []


def test_removing_what_is_not_there_says_so(store: Path) -> None:
    with pytest.raises(TrustError) as caught:
        remove_key(str(store), "bob", owner_ok=ME)
    assert caught.value.reason == "not-found"
    with pytest.raises(TrustError):
        find_key([], "alice")
