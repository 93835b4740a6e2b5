"""The doors to the kernel, compiled for as long as is measured: what ``pip install`` gives users.

An editable install has none, so that the tests run on Python alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from binfmt.build_hook import DOORS_WHEEL_PATH, HERE, compile_doors


@contextlib.contextmanager
def compiled_doors() -> Iterator[bool]:
    """Build them into this tree, and take them out again; tell whether they are there."""
    path = HERE.parent / DOORS_WHEEL_PATH
    try:
        compile_doors(path)
    except RuntimeError as error:
        print(f"bench: measuring Python alone: {error}", file=sys.stderr)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink()
