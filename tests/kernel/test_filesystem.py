"""File systems, file identities and exec's protection against writers."""

import errno
import os
import time

import pytest

from certexec.errors import KernelError
from certexec.kernel import filesystem


@pytest.fixture
def fd(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("path", "name"), [("/proc", "proc"), ("/sys", "sysfs")])
def test_a_file_system_has_the_name_of_its_number(path, name):
    descriptor = os.open(path, os.O_RDONLY)
    assert filesystem.type_name(descriptor) == name
    os.close(descriptor)


def test_a_memory_file_is_on_tmpfs():
    descriptor = os.memfd_create("x")
    assert filesystem.type_name(descriptor) == "tmpfs"
    os.close(descriptor)


def test_an_unknown_file_system_is_shown_by_number(fd, monkeypatch):
    monkeypatch.setattr(filesystem, "NAMES", {})
    assert int(filesystem.type_name(fd), 16) == filesystem.type_number(fd)


def test_a_closed_descriptor_is_an_error_of_ours():
    with pytest.raises(KernelError):
        filesystem.type_number(999999)
    with pytest.raises(OSError, match="Bad file") as caught:
        filesystem.identify(999999)
    assert caught.value.errno == errno.EBADF


def test_the_identity_agrees_with_stat(fd):
    os.write(fd, b"12345")
    os.fchmod(fd, 0o741)
    found, stat = filesystem.identify(fd), os.fstat(fd)
    assert (found.inode, found.size, found.mode) == (stat.st_ino, 5, stat.st_mode)
    assert (found.uid, found.gid, found.links) == (stat.st_uid, stat.st_gid, 1)
    assert found.device == (os.major(stat.st_dev), os.minor(stat.st_dev))
    assert (found.modified, found.changed) == (stat.st_mtime_ns, stat.st_ctime_ns)
    assert found.mount is not None
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        assert f"mnt_id:\t{found.mount}\n" in lines
    if found.birth is not None:
        assert abs(found.birth / 1e9 - time.time()) < 60


def test_a_write_changes_the_key_but_not_the_file(fd):
    before = filesystem.identify(fd)
    assert before.key() == filesystem.identify(fd).key()
    time.sleep(0.02)
    os.write(fd, b"x")
    after = filesystem.identify(fd)
    assert before.key() != after.key()
    assert before.same_file(after)


def test_a_write_is_seen_although_its_time_was_set_back(fd):
    os.write(fd, b"x")
    before, times = filesystem.identify(fd), os.fstat(fd)
    time.sleep(0.02)
    os.pwrite(fd, b"y", 0)
    os.utime(fd, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = filesystem.identify(fd)
    assert (before.size, before.modified) == (after.size, after.modified)
    assert before.key() != after.key()


def test_a_path_is_identified_with_and_without_following(tmp_path, fd):
    (tmp_path / "link").symlink_to("file")
    directory = os.open(tmp_path, os.O_RDONLY)
    followed = filesystem.identify(directory, b"link")
    itself = filesystem.identify(directory, b"link", follow=False)
    assert followed.same_file(filesystem.identify(fd))
    assert not itself.same_file(followed)
    os.close(directory)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44", (6, 18, 44)),
        ("6.1.0-40-amd64", (6, 1, 0)),
        ("6.12.1+deb13-amd64", (6, 12, 1)),
        ("6.12-rc3", (6, 12, 0)),
        ("5.15.153.1-microsoft-standard-WSL2", (5, 15, 153)),
        ("6.11", (6, 11, 0)),
        ("linux", None),
        ("", None),
        ("6", None),
        ("6.x", None),
    ],
)
def test_a_release_is_read_as_numbers(release, version):
    assert filesystem.parse_release(release) == version


@pytest.mark.parametrize("release", ["6.10.14", "6.11.11", "6.12.2", "6.13.0", "6.1.0-40-amd64"])
def test_exec_denies_writers_on_a_tmpfs(release):
    descriptor = os.memfd_create("x")
    assert filesystem.exec_write_denied(descriptor, release)
    os.close(descriptor)


@pytest.mark.parametrize("release", ["6.11.0", "6.11.0-19-generic", "6.11.10", "6.12.0", "6.12.1",
                                     "6.12-rc1", "unknown"])
def test_kernels_without_the_denial_are_known(release):
    descriptor = os.memfd_create("x")
    assert not filesystem.exec_write_denied(descriptor, release)
    os.close(descriptor)


@pytest.mark.parametrize("name", ["overlayfs", "fuse", "nfs", "0x12345"])
def test_file_systems_without_the_denial_are_known(name, fd, monkeypatch):
    monkeypatch.setattr(filesystem, "type_name", lambda fd: name)
    assert not filesystem.exec_write_denied(fd, "6.18.44")


def test_what_is_promised_holds_on_this_kernel(tmp_path):
    with open("/bin/sleep", "rb") as original:
        (tmp_path / "sleep").write_bytes(original.read())
    (tmp_path / "sleep").chmod(0o755)
    descriptor = os.open(tmp_path / "sleep", os.O_RDONLY)
    promised = filesystem.exec_write_denied(descriptor, os.uname().release)
    os.close(descriptor)
    if not promised:
        pytest.skip("nothing is promised for this kernel and file system")
    child = os.posix_spawn(tmp_path / "sleep", ["sleep", "30"], {})
    try:
        for _ in range(200):
            if os.readlink(f"/proc/{child}/exe").endswith("/sleep"):
                break
            time.sleep(0.01)
        with pytest.raises(OSError, match="Text file busy"):
            os.open(tmp_path / "sleep", os.O_WRONLY)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_the_mount_and_the_mode_are_those_of_the_identity(fd):
    info = filesystem.identify(fd)
    assert filesystem.mount_and_mode(fd) == (info.mount, info.mode)
    assert filesystem.mount_and_mode(fd)[1] == os.fstat(fd).st_mode
    with pytest.raises(OSError, match="[Bb]ad file descriptor"):
        filesystem.mount_and_mode(-1)
