"""Whether this invoker, with these arguments, now, may run the certificate."""

from __future__ import annotations

import grp
import pwd
import time

from certexec.errors import RunError
from certexec.kernel.libc import fnmatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.certificate.model import Invocation
    from certexec.run.invoker import Invoker

MINUTES_PER_HOUR = 60


def admit(
    invocation: Invocation, invoker: Invoker, argv: Sequence[bytes], now: float
) -> None:
    """Raise RunError unless the certificate's invocation row admits this execution.

    1. the ordered list: the first entry that names the invoker decides, none means no;
    2. a terminal, where one is required;
    3. each argument after argv[0] matches one of the globs, where there are any (fixed arguments
       replace what was typed and need no check);
    4. now lies in one of the time windows (UTC), where there are any.
    """
    # 1. who
    if not _listed(invocation.entries, invoker):
        raise RunError(
            "acl-denied",
            f"uid {invoker.uid} may not run this certificate",
            'its signer can add you with "certexec sign --allow-user"',
        )
    # 2. from where
    if invocation.tty and invoker.tty == 0:
        raise RunError("tty-required", "this certificate runs only from a terminal")
    # 3. with which arguments
    if invocation.argv_globs is not None and invocation.argv is None:
        globs = [glob.encode() for glob in invocation.argv_globs]
        for argument in argv[1:]:
            if not any(fnmatch(glob, argument, 0) for glob in globs):
                shown = argument[:64].decode("utf-8", "replace")
                raise RunError("argv-denied", f'the argument "{shown}" is not allowed')
    # 4. when
    if invocation.windows and not _in_window(invocation.windows, now):
        raise RunError("time-denied", "this certificate may not be run at this time")


def _listed(entries: Sequence[tuple[bool, str, str, int]], invoker: Invoker) -> bool:
    """Apply the ordered list. An entry with a name and a number speaks of both.

    To be let in, the number must be the invoker's and the name must have that number here: a list
    from another machine lets no stranger in. To be kept out, either is enough.
    """
    for allow, kind, name, number in entries:
        if kind == "everyone":
            return allow
        here = _number_of(kind, name) if name else number
        ids = {invoker.uid} if kind == "user" else {invoker.gid, *invoker.groups}
        if allow and number in ids and here == number:
            return True
        if not allow and (number in ids or here in ids):
            return False
    return False


def _number_of(kind: str, name: str) -> int | None:
    try:
        if kind == "user":
            return pwd.getpwnam(name).pw_uid
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _in_window(windows: Sequence[tuple[int, int, int]], now: float) -> bool:
    clock = time.gmtime(now)
    minute = clock.tm_hour * MINUTES_PER_HOUR + clock.tm_min
    today = 1 << clock.tm_wday  # Monday is bit 0
    return any(days & today and start <= minute < end for days, start, end in windows)
