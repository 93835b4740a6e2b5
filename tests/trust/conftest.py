"""A directory that only its owner can write, all the way up: /tmp does not do for a trust store."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.errors import TrustError
from certexec.kernel.ownership import check_chain

CANDIDATES = ("/run", str(Path.home()), "/var/lib")


@pytest.fixture
def safe_dir() -> Iterator[Path]:
    """Return an empty directory in which a trust store can be kept; skip where there is none."""
    for base in CANDIDATES:
        if not os.access(base, os.W_OK):
            continue
        path = Path(tempfile.mkdtemp(prefix="certexec-test-", dir=base))
        try:
            os.chmod(path, 0o755)
            os.close(check_chain(os.path.realpath(path), {os.getuid()}))
        except TrustError:
            shutil.rmtree(path)
            continue
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
        return
    if os.environ.get("CERTEXEC_MUST_WORK"):
        pytest.fail("no directory that only its owner can write")
    pytest.skip("no directory that only its owner can write")
