"""Which system a text of rules is for (pure): systrace or AppArmor."""

from __future__ import annotations

import re

SYSTRACE, APPARMOR = "systrace", "apparmor"
KINDS = (SYSTRACE, APPARMOR)
_SYSTRACE = re.compile(r"^\s*(policy|language): ", re.MULTILINE | re.IGNORECASE)
_APPARMOR = re.compile(
    r"^\s*(#?include\s+(if\s+exists\s+)?<|abi\s+<|@\{\w+\}\s*\+?=|(profile\s|[\"/@]).*\{\s*(#.*)?$)",
    re.MULTILINE,
)


def kind_of(text: str) -> str:
    """Return which of KINDS a text is for: systrace's, when it looks like none of the others."""
    if _SYSTRACE.search(text):
        return SYSTRACE
    return APPARMOR if _APPARMOR.search(text) else SYSTRACE
