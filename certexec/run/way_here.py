"""By which way a certificate's program is kept unchanged on this machine, for people.

``certexec.run.integrity`` and the launcher choose by the same rules when it is executed.
"""

from __future__ import annotations

import os

from certexec.kernel.filesystem import exec_write_denied
from certexec.run import cacheable, plan_cache
from certexec.run.layout import SYSTEM, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.certificate.model import Certificate

CACHED, EXEC_STOP, SEALED = "cached", "exec-stop", "sealed"
NOT_YET = "no verdict is kept yet: root's next execution keeps one, or \"certexec cache warm\""


class Way:
    """A way, "" where it cannot be told; and why it is not CACHED, "" where it is.

    With a verdict that is kept the file is not hashed again while it, and all else that counted,
    stays as it was; otherwise at each execution, while exec denies writing to it or in a copy.
    """

    __slots__ = ("name", "not_cached")

    def __init__(self, name: str, not_cached: str) -> None:
        self.name = name
        self.not_cached = not_cached


def way_here(certificate: Certificate, file: str | None, layout: Layout = SYSTEM) -> Way:
    """Tell the way for a certificate in ``file``; None: it came from no file."""
    if file is not None and _is_kept(file, layout):
        return Way(CACHED, "")
    name = _uncached(certificate)
    why = cacheable.why_never(certificate, layout) if name else "its program cannot be read"
    return Way(name, why or NOT_YET)


def _uncached(certificate: Certificate) -> str:
    if certificate.integrity in (EXEC_STOP, SEALED):
        return certificate.integrity
    if certificate.files:
        return SEALED
    try:
        fd = os.open(certificate.program.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return EXEC_STOP if exec_write_denied(fd, os.uname().release) else SEALED
    finally:
        os.close(fd)


def _is_kept(file: str, layout: Layout) -> bool:
    """Tell whether a launcher would use a plan for this file, be it for one invoker."""
    try:
        info = os.stat(file)
    except OSError:
        return False
    begin = plan_cache.key(info.st_dev, info.st_ino, False)[:-1]
    return any(
        entry is not None and name.startswith(begin) and not plan_cache.verify(name, entry)
        for name, entry in plan_cache.entries(layout)
    )
