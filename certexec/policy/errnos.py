"""The error names of ``deny[NAME]`` and the Linux error numbers that they give.

systrace knew the 82 names of 4.4BSD. Most are Linux names too. Those that Linux lacks give the
nearest Linux error, so that a policy from another system keeps denying with a sensible answer:

=============  ===============  ==================================================
BSD only       here             because it meant
=============  ===============  ==================================================
EPROCLIM       EAGAIN           too many processes: what fork(2) answers on Linux
EBADRPC        EBADMSG          the RPC structure is bad
ERPCMISMATCH   EPROTO           the RPC version is wrong
EPROGUNAVAIL   EPROTONOSUPPORT  the RPC program is not available
EPROGMISMATCH  EPROTO           the program version is wrong
EPROCUNAVAIL   EOPNOTSUPP       the program has no such procedure
EFTYPE         EINVAL           wrong file type: what Linux answers in these places
EAUTH          EACCES           authentication error
ENEEDAUTH      EACCES           an authenticator is needed
EIPSEC, ELAST  EPROTO           IPsec processing failure (ELAST is the same number)
=============  ===============  ==================================================

Source of the names: systrace 1.6g, systrace-error.c; of the numbers: errno(3) on x86-64.
"""

from __future__ import annotations

import errno

DEFAULT = errno.EPERM
"""What ``deny`` without a name answers."""

_SAME = (
    "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EDEADLK ENOMEM EACCES EFAULT "
    "ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG "
    "ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EAGAIN EWOULDBLOCK EINPROGRESS EALREADY "
    "ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT "
    "EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH "
    "ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS "
    "ETIMEDOUT ECONNREFUSED ELOOP ENAMETOOLONG EHOSTDOWN EHOSTUNREACH ENOTEMPTY EUSERS EDQUOT "
    "ESTALE EREMOTE ENOLCK ENOSYS"
)
_NEAREST = {
    "eproclim": errno.EAGAIN,
    "ebadrpc": errno.EBADMSG,
    "erpcmismatch": errno.EPROTO,
    "eprogunavail": errno.EPROTONOSUPPORT,
    "eprogmismatch": errno.EPROTO,
    "eprocunavail": errno.EOPNOTSUPP,
    "eftype": errno.EINVAL,
    "eauth": errno.EACCES,
    "eneedauth": errno.EACCES,
    "eipsec": errno.EPROTO,
    "elast": errno.EPROTO,
}
SAME: dict[str, int] = {name.lower(): getattr(errno, name) for name in _SAME.split()}
"""Lower-case name to number for the errors that Linux has."""
NUMBERS: dict[str, int] = {**SAME, **_NEAREST}
"""Lower-case name to Linux error number."""


def number(name: str) -> int | None:
    """Return the Linux error number of a systrace error name (any case), None for another name."""
    return NUMBERS.get(name.lower()) if name.isascii() else None
