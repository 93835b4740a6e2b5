"""A file's content against what was signed, at once and beside other work."""

from __future__ import annotations

import hashlib
import os

import pytest

from certexec.kernel.digest import OPENSSL_FROM, sha256
from certexec.run.content import Digests, digest


@pytest.mark.parametrize("size", [0, 5000, 3 * OPENSSL_FROM + 1])
def test_both_digests_of_a_file_are_its_contents(size: int) -> None:
    data = os.urandom(size)
    fd = os.memfd_create("test")
    os.write(fd, data)
    assert Digests(fd, size).finish() == (sha256(data), hashlib.sha512(data).digest())
    assert digest(fd, size) == sha256(data)


def test_a_file_that_cannot_be_read_raises() -> None:
    fd = os.open("/", os.O_RDONLY)
    with pytest.raises(OSError):
        Digests(fd, OPENSSL_FROM).finish()
