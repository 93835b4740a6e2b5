"""How many of the files that are there fulfil a condition: a walk that ends in time."""

from __future__ import annotations

import os
import time

from certexec.errors import PolicyError
from certexec.policy.evaluate import prepare
from certexec.policy.operators import value_bytes
from certexec.policy.syntax import parse_rule
from certexec.policy.tops import of_first_name, tops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from certexec.policy.model import Subject, UserDb

NAMES_MAX = 20_000
"""names that are looked at for one condition; /usr of a small machine has more."""
SECONDS_MAX = 1.0
"""that one walk lasts at most, however slow the disk is."""
_NOT_WALKED = frozenset(("/proc", "/sys", "/dev"))
"""What holds no files that stay; it is looked at where a condition names it."""


class FileCounter:
    """Counts, and remembers what it counted: a review comes back to the same conditions."""

    def __init__(self, subject: Subject, users: UserDb, *, names_max: int = NAMES_MAX) -> None:
        self._subject = subject
        self._users = users
        self._names_max = names_max
        self._known: dict[str, str] = {}

    def __call__(self, condition: str) -> str:
        """Return in words how many files a condition covers: "12 files", "at least 12 files".

        Of a condition on two names those that can be the first one.
        """
        if condition not in self._known:
            self._known[condition] = self._count(condition)
        return self._known[condition]

    def _count(self, condition: str) -> str:
        try:
            rule = parse_rule(
                f"{condition or 'true'} then permit", users=self._users, privileged=True,
                extended=True,
            )
        except PolicyError:
            return ""
        expression = of_first_name(rule.expression)
        test = prepare(expression)
        end = time.monotonic() + SECONDS_MAX
        found = seen = 0
        for top in tops(expression, self._subject):
            for path in _names(top):
                if seen >= self._names_max or time.monotonic() > end:
                    return f"at least {_files(found)} (looked at {seen} names)"
                seen += 1
                found += test({"filename": [value_bytes(path)]}, self._subject)
        return _files(found)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _names(top: str) -> Iterator[str]:
    """Yield a path that is there, and all below it; links are not followed."""
    if not os.path.lexists(top):
        return
    yield top
    waiting = [top] if os.path.isdir(top) and not os.path.islink(top) else []
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    yield entry.path
                    if entry.is_dir(follow_symlinks=False) and entry.path not in _NOT_WALKED:
                        waiting.append(entry.path)
        except OSError:
            continue  # what cannot be read is not counted
