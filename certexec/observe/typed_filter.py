"""A filter as it is typed while events come: the words of the options, and words to look for.

    program=nginx verdict=deny user=alice "id_rsa"

Each ``NAME=VALUE`` means what the option ``--NAME VALUE`` of ``certexec monitor`` means; several of
one name, any of them. What is no such pair has to stand somewhere in the event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from certexec.errors import CliError
from certexec.observe.reading import VERDICTS, Seen
from certexec.observe.report import argument_of
from certexec.observe.selection import Selection

NAMES = ("program", "user", "verdict", "host", "syscall", "certificate")
"""What may stand before "=": the options of the same names."""
LOOKED_AT = 4096
"""characters of each text of an event in which words are looked for; a program can make its
arguments 16,384 long, and each key looks at all events."""
_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')
_ABOUT = ("program", "user", "verdict", "syscall", "reason", "certificate", "policy", "as", "text")


class Filter:
    """What is wanted of the events that are there.

    Attributes:
        text: as it was typed.
        words: texts that all have to stand in the event, in lower case.
    """

    __slots__ = ("_selection", "text", "words")

    def __init__(self, text: str, selection: Selection, words: Sequence[str]) -> None:
        self.text = text
        self.words = tuple(words)
        self._selection = selection

    def wants(self, seen: Seen) -> bool:
        """Tell whether an event is one of these."""
        return self._selection.wants(seen) and (not self.words or holds(seen, self.words))


def parse_filter(text: str, *, typing: bool = False) -> Filter:
    """Read what was typed. Raises CliError("usage") for a name or a verdict that is none.

    ``typing``: there is more to come, so a name that has only begun is no word to look for yet.
    """
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    words: list[str] = []
    for match in _WORD.finditer(text):
        name, equals, value = match[0].replace('"', "").partition("=")
        name = name.removeprefix("--")
        begun = [one for one in NAMES if one.startswith(name)]
        if typing and begun and not equals and match.end() == len(text):
            continue
        if not equals or not name.isalpha():
            words.append(match[0].replace('"', "").casefold())
        elif name not in found:
            raise CliError("usage", f'there is no "{name}=": {", ".join(NAMES)}')
        elif name == "verdict" and value:
            meant = [one for one in VERDICTS if one.startswith(value)]
            if not meant:
                raise CliError("usage", f'"{value}" is no verdict: {", ".join(VERDICTS)}')
            found[name] += meant
        elif value:
            found[name].append(value)
    selection = Selection(
        programs=found["program"], users=found["user"], verdicts=found["verdict"],
        hosts=found["host"], calls=found["syscall"], certificates=found["certificate"],
    )
    return Filter(text, selection, [one for one in words if one])


def holds(seen: Seen, words: Sequence[str]) -> bool:
    """Tell whether all words, in lower case, stand somewhere in an event."""
    texts = [seen.host, *map(seen.text, _ABOUT), *seen.arguments.values(), argument_of(seen)]
    looked = "\n".join(text[:LOOKED_AT] for text in texts).casefold()
    return all(word in looked for word in words)
