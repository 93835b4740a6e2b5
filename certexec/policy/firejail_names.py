"""Patterns of names in firejail's profiles: where they lie, and conditions in lines (pure)."""

from __future__ import annotations

from certexec.policy.firejail_syntax import RUNUSER
from certexec.policy.lexer import LINE_MAX, byte_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_PART = LINE_MAX - 120
"""bytes of a condition beside the name of a call and what follows"""
TOPS = ("$HOME", RUNUSER, "/sys/module", "/usr/share")
"""Directories of which whitelist hides the rest, besides those in the root."""


def top_of(pattern: str) -> str:
    """Return the directory whose rest a whitelist of this pattern hides."""
    for top in TOPS:
        if pattern == top or pattern.startswith(f"{top}/"):
            return top
    return "/" + pattern.split("/")[1]


def fixed(pattern: str) -> str:
    """Return the part of a pattern that is no pattern, up to a slash."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if set(part) & set("*?["):
            break
        parts.append(part)
    return "/".join(parts) or "/"


def above(pattern: str) -> str:
    """Return the directory above what a pattern stands for, or the last that it names."""
    plain = fixed(pattern)
    return plain if plain != pattern else plain.rpartition("/")[0] or "/"


def may_meet(pattern: str, places: tuple[str, ...]) -> bool:
    """Tell whether something that a pattern stands for may lie in one of these trees."""
    plain = fixed(pattern).rstrip("/") + "/"
    return any(
        plain.startswith(here) or here.startswith(plain)
        for here in (f"{fixed(place)}/" for place in places)
    )


def groups(conditions: Iterable[str], most: int = LINE_PART) -> list[str]:
    """Join conditions by "or" as far as a line holds them."""
    found: list[str] = []
    for one in conditions:
        if found and byte_length(found[-1]) + byte_length(one) + len(" or ") <= most:
            found[-1] += f" or {one}"
        else:
            found.append(one)
    return found
