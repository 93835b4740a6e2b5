"""Which system a text of rules is for (pure): systrace, AppArmor or firejail."""

from __future__ import annotations

import re

SYSTRACE, APPARMOR, FIREJAIL = "systrace", "apparmor", "firejail"
KINDS = (SYSTRACE, APPARMOR, FIREJAIL)
_SYSTRACE = re.compile(r"^\s*(policy|language): ", re.MULTILINE | re.IGNORECASE)
_APPARMOR = re.compile(
    r"^\s*(#?include\s+(if\s+exists\s+)?<|abi\s+<|@\{\w+\}\s*\+?=|(profile\s|[\"/@]).*\{\s*(#.*)?$)",
    re.MULTILINE,
)
_FIREJAIL = re.compile(
    r"^(include \S+\.(inc|local|profile|net)|quiet|(no)?(black|white)list .|private\b|caps\."
    r"|seccomp\b|noroot|read-(only|write) .|noexec .|net none|protocol .|nonewprivs|disable-mnt)",
    re.MULTILINE,
)


def kind_of(text: str) -> str:
    """Return which of KINDS a text is for: systrace's, when it looks like none of the others."""
    if _SYSTRACE.search(text):
        return SYSTRACE
    if _APPARMOR.search(text):
        return APPARMOR
    return FIREJAIL if _FIREJAIL.search(text) else SYSTRACE
