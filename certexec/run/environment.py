"""The environment that the program gets: the invoker's, or a certified short list.

With a grant nothing of the invoker's environment passes that could steer the loader, the C
library or an interpreter, whatever the certificate's pass list says.
"""

from __future__ import annotations

import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from certexec.certificate.model import Environment

SAFE_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HARMLESS = (b"TERM", b"LANG", b"LANGUAGE", b"COLUMNS", b"LINES", b"NO_COLOR")
"""Passed with a grant when their value is plain text; LC_* too."""
NEVER_PREFIXES = (
    b"LD_",
    b"GLIBC_",
    b"PYTHON",
    b"PERL",
    b"RUBY",
    b"NODE_",
    b"MALLOC_",
    b"BASH_FUNC_",
    b"_RLD",
)
NEVER = frozenset(
    (
        b"GCONV_PATH",
        b"GETCONF_DIR",
        b"HOSTALIASES",
        b"LOCALDOMAIN",
        b"LOCPATH",
        b"NIS_PATH",
        b"NLSPATH",
        b"RESOLV_HOST_CONF",
        b"RES_OPTIONS",
        b"TMPDIR",
        b"TZDIR",
        b"BASH_ENV",
        b"ENV",
        b"IFS",
        b"SHELLOPTS",
        b"BASHOPTS",
        b"PS4",
        b"CDPATH",
        b"JAVA_TOOL_OPTIONS",
        b"TERMINFO",
        b"TERMINFO_DIRS",
        b"TERMPATH",
        b"TERMCAP",
    )
)
"""ld.so(8)'s list of what secure execution ignores, and what steers shells and terminals."""
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:@+-")
PLAIN_MAX = 128
"""bytes of a value that passes without being named in the certificate."""


def is_dangerous(name: bytes) -> bool:
    """Tell whether a variable may never reach a program that runs with a grant."""
    return name in NEVER or name.startswith(NEVER_PREFIXES)


def build(
    certified: Environment | None, typed: Mapping[bytes, bytes], uid: int, grant: bool
) -> list[bytes] | None:
    """Return NAME=VALUE entries, or None for "exactly the invoker's environment".

    ``typed`` is the invoker's environment, ``uid`` the invoker.
    """
    if certified is None and not grant:
        return None
    result: dict[bytes, bytes] = {}
    if grant:
        result.update(_account(uid))
        for name, value in typed.items():
            harmless = name in HARMLESS or name.startswith(b"LC_")
            if harmless and len(value) <= PLAIN_MAX and set(value) <= PLAIN:
                result[name] = value
    if certified is not None:
        for text in certified.passed:
            name = text.encode()
            if name in typed and not (grant and is_dangerous(name)):
                result[name] = typed[name]
        for text, setting in certified.set.items():
            if not (grant and is_dangerous(text.encode())):
                result[text.encode()] = setting.encode()
    return [name + b"=" + value for name, value in result.items()]


def _account(uid: int) -> dict[bytes, bytes]:
    """The invoker's own account as the system knows it, not as the environment claims it."""
    result = {b"PATH": SAFE_PATH}
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return result
    result[b"USER"] = result[b"LOGNAME"] = entry.pw_name.encode()
    result[b"HOME"] = entry.pw_dir.encode()
    result[b"SHELL"] = entry.pw_shell.encode() or b"/bin/sh"
    return result
