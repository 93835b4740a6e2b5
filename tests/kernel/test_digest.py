"""Both ways to a digest give the same one."""

from __future__ import annotations

import hashlib
import os

import pytest

from certexec.kernel.digest import OPENSSL_FROM, new


@pytest.mark.parametrize("size", [0, 1, 4096, OPENSSL_FROM - 1, OPENSSL_FROM, 3 * OPENSSL_FROM])
@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_small_and_large_are_hashed_alike(name: str, size: int) -> None:
    data = os.urandom(size)
    state = new(name, size)
    state.update(data)
    assert state.digest() == hashlib.new(name, data).digest()
