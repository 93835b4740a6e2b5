"""SHA-256 and SHA-512: the interpreter's own code for little, OpenSSL's for much.

Loading OpenSSL costs some milliseconds at every start, the interpreter's code several times more
per byte; for a small binary the first is most of the whole.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    if size < OPENSSL_FROM:
        try:
            return _own(name)
        except ImportError:
            pass  # an interpreter that was built without them has OpenSSL's
    import _hashlib

    state: State = _hashlib.new(name)
    return state


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of bytes in memory."""
    state = new("sha256", len(data))
    state.update(data)
    return state.digest()


def _own(name: str) -> State:
    try:
        module = __import__("_sha2")  # Python 3.12
    except ImportError:
        module = __import__(f"_{name}")
    state: State = getattr(module, name)()
    return state
