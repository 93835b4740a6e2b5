"""Fixtures that are made elsewhere."""

from tests.trust.conftest import safe_dir

__all__ = ["safe_dir"]
