"""AppArmor profiles as statements (pure): blocks, includes, variables. What they mean is not said.

Source: apparmor.d(5) and the parser of AppArmor 3.
"""

from __future__ import annotations

import re

from certexec.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    LookUp = Callable[[str], "list[tuple[str, str]] | None"]
    """Name of an include to names and texts of its files; None: there is none."""

INCLUDES_DEEPEST = 32
"""includes inside each other; AppArmor's own parser stops at 100"""
VALUES_MAX = 256
"""texts that one name may stand for, once its variables are replaced"""
_INCLUDE = re.compile(r'#?include\s+(if\s+exists\s+)?(?:<([^>\n]+)>|"([^"\n]+)"|(/\S+))[ \t,]*')
_ASSIGN = re.compile(r"(@\{\w+\})[ \t]*(\+?=)[ \t]*(.*)")
VARIABLE = re.compile(r"@\{\^?(\w+)\}")


class Statement:
    """A rule without its comma, and where it stands: ``FILE:LINE``."""

    __slots__ = ("place", "text")

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place


class Block:
    """What stands in braces behind a head: a profile, a hat, or rules with one qualifier."""

    __slots__ = ("blocks", "head", "place", "rules")

    def __init__(self, head: str, place: str) -> None:
        self.head = head
        self.place = place
        self.rules: list[Statement] = []
        self.blocks: list[Block] = []


class Profiles:
    """A file of profiles: the block around them all, and the variables."""

    __slots__ = ("top", "variables")

    def __init__(self) -> None:
        self.top = Block("", "")
        self.variables: dict[str, list[str]] = {}


def parse(text: str, name: str, look_up: LookUp) -> Profiles:
    """Read profiles with all that they include.

    Raises PolicyError: "not-found" for an include that there is not, as AppArmor does, too;
    "policy-syntax" for what is no profile.
    """
    found = Profiles()
    open_blocks = [found.top]
    _Reader(text, name, look_up, found, open_blocks, 0).read()
    if len(open_blocks) != 1:
        raise _wrong(open_blocks[-1].place, "a brace is not closed")
    return found


def _wrong(place: str, what: str) -> PolicyError:
    return PolicyError("policy-syntax", f"{place}: {what}", "this is no AppArmor profile")


class _Reader:
    def __init__(
        self, text: str, name: str, look_up: LookUp, found: Profiles, open_blocks: list[Block],
        depth: int,
    ) -> None:
        self.text = text
        self.name = name
        self.look_up = look_up
        self.found = found
        self.open = open_blocks
        self.depth = depth
        self.at = 0

    @property
    def place(self) -> str:
        return f"{self.name}:{self.text.count(chr(10), 0, self.at) + 1}"

    def read(self) -> None:
        text = self.text
        while self.at < len(text):
            if text[self.at].isspace():
                self.at += 1
                continue
            if (include := _INCLUDE.match(text, self.at)) is not None:
                self.include(include)
            elif text[self.at] == "#":
                self.at = self.end_of_line()
            elif (assigned := _ASSIGN.match(text, self.at)) is not None:
                self.assign(assigned)
            elif text[self.at] == "}":
                if len(self.open) == 1:
                    raise _wrong(self.place, "a brace closes nothing")
                self.open.pop()
                self.at += 1
            else:
                self.statement()

    def end_of_line(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def include(self, include: re.Match[str]) -> None:
        place = self.place
        self.at = include.end()
        name = include[2] or include[3] or include[4]
        files = self.look_up(name.strip())
        if files is None:
            if include[1]:
                return
            raise PolicyError(
                "not-found", f"{place}: there is no include {name}",
                "name the directory that holds it with --include-dir",
            )
        if self.depth >= INCLUDES_DEEPEST:
            raise _wrong(place, "includes that include each other")
        for each, text in files:
            _Reader(text, each, self.look_up, self.found, self.open, self.depth + 1).read()

    def assign(self, assigned: re.Match[str]) -> None:
        place = self.place
        self.at = self.end_of_line()
        name = assigned[1][2:-1]
        values = [_plain(one) for one in _words(assigned[3])]
        if assigned[2] == "+=":
            if name not in self.found.variables:
                raise _wrong(place, f"there is no variable @{{{name}}} to add to")
            self.found.variables[name] += values
        else:
            self.found.variables[name] = values

    def statement(self) -> None:
        """Read up to the comma that ends a rule, or the brace that opens a block."""
        place, text = self.place, self.text
        parts: list[str] = []
        braces = rounds = 0
        quoted = False
        while self.at < len(text):
            character = text[self.at]
            before = parts[-1][-1:] if parts else " "
            after = text[self.at + 1 : self.at + 2]
            if character == "\\" and after:
                parts.append(character + after)
                self.at += 2
                continue
            if quoted or character == '"':
                quoted ^= character == '"'
            elif character == "#" and before.isspace():
                self.at = self.end_of_line()
                continue
            elif character == "{":
                if braces == rounds == 0 and (before.isspace() or before == ")") \
                        and (not after or after.isspace() or after in "#/}"):  # fmt: skip
                    self.at += 1
                    block = Block("".join(parts).strip(), place)
                    self.open[-1].blocks.append(block)
                    self.open.append(block)
                    return
                braces += 1
            elif character == "}":
                braces -= 1
            elif character in "()":
                rounds += 1 if character == "(" else -1
            elif character == "," and braces <= 0 and rounds <= 0 \
                    and (not after or after.isspace() or after in "#}"):  # fmt: skip
                self.at += 1
                self.open[-1].rules.append(Statement(" ".join("".join(parts).split()), place))
                return
            if braces < 0:
                break
            parts.append(character)
            self.at += 1
        raise _wrong(place, "a rule has no comma at its end")


def _words(text: str) -> Iterator[str]:
    for word in re.findall(r'"[^"]*"|[^\s"]+', text):
        if word.startswith("#"):
            return
        yield word


def _plain(word: str) -> str:
    return word[1:-1] if word.startswith('"') else word


def values_of(text: str, variables: dict[str, list[str]]) -> list[str]:
    """Return the texts that a text with variables stands for, double slashes made one.

    Raises KeyError for an unknown variable, ValueError for too many texts, or variables that hold
    each other.
    """
    waiting, done = [(text, 0)], []
    while waiting:
        one, depth = waiting.pop()
        found = VARIABLE.search(one)
        if found is None:
            done.append(re.sub("//+", "/", one))
            continue
        values = variables[found[1]]
        if depth > INCLUDES_DEEPEST or len(waiting) + len(done) + len(values) > VALUES_MAX:
            raise ValueError("its variables stand for too many names")
        waiting += [(one[: found.start()] + each + one[found.end() :], depth + 1)
                    for each in reversed(values)]  # fmt: skip
    return list(dict.fromkeys(done))
