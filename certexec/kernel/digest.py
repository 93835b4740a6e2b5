"""SHA-256 and SHA-512: the interpreter's own code for little, OpenSSL's for much.

Loading OpenSSL costs some milliseconds at every start, the interpreter's code several times more
per byte; for a small binary the first is most of the whole.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class State(Protocol):
        """A digest that is being computed."""

        def update(self, data: bytes | memoryview, /) -> None:
            """Add bytes."""

        def digest(self) -> bytes:
            """Return the digest of what was added so far."""


OPENSSL_FROM = 512 << 10
"""bytes from which loading OpenSSL pays (3 ms to load; 1.4 against 4 ms for each MiB)."""


def new(name: str, size: int) -> State:
    """Return the state of "sha256" or "sha512" for about ``size`` bytes."""
    if size < OPENSSL_FROM and not _loaded:
        try:
            return _own(name)
        except ImportError:
            pass  # an interpreter that was built without them has OpenSSL's
    import _hashlib

    state: State = _hashlib.new(name)
    return state


_loaded: list[str] = []


def stay_with_openssl() -> None:
    """Load OpenSSL now, and leave everything to it: for a process that starts once for many."""
    import _hashlib

    _loaded.append(_hashlib.__name__)


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of bytes in memory."""
    state = new("sha256", len(data))
    state.update(data)
    return state.digest()


_makers: dict[str, Callable[[], State]] = {}
"""Once found: to look for a module that is not there takes longer than many a digest."""


def _own(name: str) -> State:
    make = _makers.get(name)
    if make is None:
        try:
            module = __import__("_sha2")  # Python 3.12
        except ImportError:
            module = __import__(f"_{name}")
        make = _makers[name] = getattr(module, name)
    return make()
