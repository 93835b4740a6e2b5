"""Sealed memory files."""

import errno
import fcntl
import mmap
import os
import resource
import sys

import pytest

from certexec.errors import KernelError, RunError
from certexec.kernel import memfd


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"\x7fELF" + os.urandom(300_000))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_sealed_copy_has_the_bytes_and_cannot_be_changed(source):
    size = os.fstat(source).st_size
    copy = memfd.sealed_copy(source, size, "program")
    try:
        assert os.read(copy, size + 1) == os.pread(source, size, 0)
        assert memfd.is_sealed(copy)
        for change in (
            lambda: os.pwrite(copy, b"x", 0),
            lambda: os.ftruncate(copy, 1),
            lambda: os.ftruncate(copy, size + 1),
            lambda: mmap.mmap(copy, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            lambda: fcntl.fcntl(copy, fcntl.F_ADD_SEALS, 0x10),
        ):
            with pytest.raises(PermissionError) as caught:
                change()
            assert caught.value.errno == errno.EPERM
    finally:
        os.close(copy)


def test_a_writable_descriptor_opened_again_cannot_change_it_either(source):
    copy = memfd.sealed_copy(source, 1000, "program", 0o777)
    again = os.open(f"/proc/self/fd/{copy}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.write(again, b"x")
    os.close(again)
    os.close(copy)


def test_a_sealed_copy_can_be_executed():
    with open("/bin/true", "rb") as true:
        size = os.fstat(true.fileno()).st_size
        copy = memfd.sealed_copy(true.fileno(), size, "true")
    child = os.fork()
    if child == 0:
        os.execve(copy, ["true"], {})
    assert os.waitpid(child, 0)[1] == 0
    os.close(copy)


def test_mode_and_execute_bits_are_frozen(source):
    copy = memfd.create("program")
    found = memfd.seal(copy, 0o111)
    assert os.fstat(copy).st_mode & 0o7777 == 0o111
    if found & memfd.F_SEAL_EXEC:
        with pytest.raises(PermissionError):
            os.fchmod(copy, 0o644)
    os.close(copy)


def test_a_source_that_ends_early_is_a_mismatch(source):
    size = os.fstat(source).st_size
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RunError) as caught:
        memfd.sealed_copy(source, size + 1, "program")
    assert caught.value.reason == "binary-mismatch"
    assert os.listdir("/proc/self/fd") == before


def test_a_file_with_a_writable_mapping_is_not_sealed():
    fd = memfd.create("mapped")
    os.ftruncate(fd, 4096)
    mapping = mmap.mmap(fd, 4096)
    with pytest.raises(KernelError):
        memfd.seal(fd)
    mapping.close()
    assert memfd.seal(fd)
    os.close(fd)


def test_seals_that_did_not_stay_are_noticed(monkeypatch):
    fd = memfd.create("program")
    monkeypatch.setattr(memfd, "read_seals", lambda fd: memfd.SEALS & ~fcntl.F_SEAL_WRITE)
    with pytest.raises(KernelError) as caught:
        memfd.seal(fd)
    assert caught.value.reason == "kernel-unsupported"
    os.close(fd)


def test_an_ordinary_file_has_no_seals(source):
    assert memfd.read_seals(source) == 0
    assert not memfd.is_sealed(source)


def test_a_copy_beyond_the_file_size_limit_fails_with_a_hint(source):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RunError) as caught:
            memfd.sealed_copy(source, 100_000, "program")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.reason == "binary-unusable"
    assert "ulimit" in caught.value.hint


def test_a_kernel_without_the_flag_is_asked_again_without_it(monkeypatch):
    asked = []

    def old_kernel(name, flags):
        asked.append(flags)
        if flags & memfd.MFD_EXEC:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 99

    monkeypatch.setattr(os, "memfd_create", old_kernel)
    assert memfd.create("program") == 99
    assert len(asked) == 2


def test_a_machine_that_forbids_executable_memory_files_is_named(monkeypatch):
    def forbid(name, flags):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", forbid)
    with pytest.raises(KernelError) as caught:
        memfd.create("program")
    assert "memfd_noexec" in caught.value.hint


def test_a_long_name_is_shortened():
    fd = memfd.create("n" * 1000)
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:nnn")
    os.close(fd)
    assert sys.platform == "linux"
