"""Which word was probably meant (pure; the run path loads no difflib)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LONG = 5
"""From this length on a word may be two mistakes away, shorter ones one."""
_LONGEST = 16
"""characters; a longer word is no misspelt keyword, and its distance takes time."""


def distance(one: str, two: str) -> int:
    """Count the letters to add, drop, change, or swap with the next, to make one word the other.

    No letter is touched twice ("optimal string alignment").
    """
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, 1):
        above, before = before, row
        row = [i]
        for j, other in enumerate(two, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == two[j - 2] and one[i - 2] == other:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]


def close_word(word: str, known: Iterable[str]) -> str:
    """Return the known word that ``word`` is a misspelling of, the first of the nearest; or ""."""
    if len(word) > _LONGEST:
        return ""
    word = word.lower()
    found = [(distance(word, one), place, one) for place, one in enumerate(known)]
    near = [one for one in found if one[0] <= (2 if len(one[2]) >= _LONG else 1)]
    return min(near)[2] if near else ""
