"""The certificates that a tree's programs may execute: found and judged before it starts.

Only names that rules on exec give one by one are looked at: what a pattern lets through is without
bound, and every policy that a tree can get to must be known when its filter is made.
"""

from __future__ import annotations

import os
import stat

from certexec.certificate.envelope import MAX_SIZE, PREFIX
from certexec.kernel.procfs import own_fd
from certexec.policy.model import parts
from certexec.policy.nest import exact_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from certexec.certificate.model import Certificate
    from certexec.policy.model import Policy

    Look = Callable[[str], "Inside | None"]

NAMES_MAX = 512
"""files that are looked at for one tree; each costs an open, and each certificate a signature."""
INSIDE_MAX = 64
"""certificates; each policy costs at the start, and more than a few make everything supervised."""


class Inside:
    """A certificate that may be executed inside.

    Attributes:
        path: the name that a rule gives it; digest: SHA-256 of its bytes.
        certificate: what it says; policy: the one for its program. Both None for one that cannot
            run inside: executing it is refused, with the reason.
        why: that reason, as far as it was asked for.
    """

    __slots__ = ("certificate", "digest", "path", "policy", "why")

    def __init__(
        self, path: str, digest: bytes, certificate: Certificate | None = None,
        policy: Policy | None = None, why: str = "",
    ) -> None:  # fmt: skip
        self.why = why
        self.path = path
        self.digest = digest
        self.certificate = certificate
        self.policy = policy


def gather(policies: Iterable[Policy], look: Look) -> list[Inside]:
    """Return the certificates that these policies name, and those that theirs name in turn.

    ``look`` returns None for what is no certificate.
    """
    found: dict[bytes, Inside] = {}
    waiting = list(policies)
    seen: set[str] = set()
    for policy in waiting:  # which grows meanwhile
        for name in (name for part in parts(policy) for name in exact_names(part)):
            if name in seen or len(seen) >= NAMES_MAX or len(found) >= INSIDE_MAX:
                continue
            seen.add(name)
            one = look(name)
            if one is not None and one.digest not in found:
                found[one.digest] = one
                if one.policy is not None:
                    waiting.append(one.policy)
    return list(found.values())


def read_if_certificate(path: str) -> bytes:
    """Return the content of a certificate, b"" for anything else or what cannot be read."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""  # opening a device can start something
        readable = os.open(own_fd(fd), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    finally:
        os.close(fd)
    try:
        if os.pread(readable, len(PREFIX), 0) != PREFIX:
            return b""
        return os.pread(readable, MAX_SIZE + 1, 0)
    except OSError:
        return b""
    finally:
        os.close(readable)
