"""One rule of an AppArmor profile taken apart (pure): qualifiers, names, permissions, transition.

Source: apparmor.d(5).
"""

from __future__ import annotations

import re

QUALIFIERS = ("audit", "quiet", "deny", "allow", "owner", "other")
_PERMISSIONS = re.compile(r"[rwamlk]*([pPcCuUi]*x)?[rwamlk]*$")


class Said:
    """A rule.

    Attributes:
        qualifiers: those of QUALIFIERS that it begins with.
        word: what it is about: "file", "capability", "network", ...
        rest: what follows the word; of a file rule nothing.
        name: of a file rule, with its variables; "" for one about all files.
        letters: of r, w, a, m, l, k; transition: "", or what stands before the x and x itself.
        target: the profile to change to.
    """

    __slots__ = ("letters", "name", "qualifiers", "rest", "target", "transition", "word")

    def __init__(self, text: str) -> None:
        words = re.findall(r'(?:"[^"]*"|[^\s"])+', text)
        self.qualifiers: set[str] = set()
        while words and words[0] in QUALIFIERS:
            self.qualifiers.add(words.pop(0))
        self.name = self.letters = self.transition = self.target = ""
        first = words[0] if words else ""
        self.word = first
        self.rest = " ".join(words[1:])
        is_file = first == "file" or first.startswith(("/", "@{", '"')) or (
            len(words) > 1 and _PERMISSIONS.match(first) is not None
            and words[1].startswith(("/", "@{", '"'))
        )  # fmt: skip
        if is_file:
            self._read_file(words[1:] if first == "file" else words)

    def _read_file(self, words: list[str]) -> None:
        self.word, self.rest = "file", ""
        if "->" in words:
            at = words.index("->")
            self.target = " ".join(words[at + 1 :])
            words = words[:at]
        if not words:
            self.letters, self.transition = "rwmlk", "ix"
            return
        if len(words) == 2 and not words[0].startswith(("/", "@{", '"')):
            words.reverse()
        if len(words) != 2 or not _PERMISSIONS.match(words[1]):
            self.word = "unknown"
            return
        self.name = words[0][1:-1] if words[0].startswith('"') else words[0]
        self.letters = "".join(one for one in "rwamlk" if one in words[1])
        self.transition = "".join(one for one in words[1] if one not in "rwamlk")

    @property
    def denies(self) -> bool:
        """Whether it takes away."""
        return "deny" in self.qualifiers
