"""Both ways to a digest give the same one."""

from __future__ import annotations

import hashlib
import os

import pytest

from certexec.kernel.digest import OPENSSL_FROM, new, sha256
from certexec.run.integrity import both_digests, digest


@pytest.mark.parametrize("size", [0, 1, 4096, OPENSSL_FROM - 1, OPENSSL_FROM, 3 * OPENSSL_FROM])
@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_small_and_large_are_hashed_alike(name: str, size: int) -> None:
    data = os.urandom(size)
    state = new(name, size)
    state.update(data)
    assert state.digest() == hashlib.new(name, data).digest()


@pytest.mark.parametrize("size", [0, 5000, 3 * OPENSSL_FROM + 1])
def test_both_digests_of_a_file_are_its_contents(size: int) -> None:
    data = os.urandom(size)
    fd = os.memfd_create("test")
    os.write(fd, data)
    assert both_digests(fd, size) == [sha256(data), hashlib.sha512(data).digest()]
    assert digest(fd, size) == sha256(data)


def test_a_file_that_cannot_be_read_raises() -> None:
    fd = os.open("/", os.O_RDONLY)
    with pytest.raises(OSError):
        both_digests(fd, OPENSSL_FROM)
