"""firejail profiles as a list of commands (pure): includes, ignored commands, macros.

Source: firejail-profile(5), 0.9.72.
"""

from __future__ import annotations

import re

from certexec.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    LookUp = Callable[[str], "list[tuple[str, str]] | None"]

INCLUDES_DEEPEST = 16
"""includes inside each other, as in firejail"""
_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/games", "/usr/games",
                "/usr/local/sbin", "/usr/sbin", "/sbin")  # fmt: skip
"""What ${PATH} stands for."""
_USERS = {"DESKTOP": "Desktop", "DOCUMENTS": "Documents", "DOWNLOADS": "Downloads",
          "MUSIC": "Music", "PICTURES": "Pictures", "VIDEOS": "Videos"}  # fmt: skip
"""Directories that a user may have moved."""
RUNUSER = "/run/user/*"


class Command:
    """A line: its first word, what follows, and where it stands."""

    __slots__ = ("place", "rest", "text", "word")

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place
        self.word, _, self.rest = text.partition(" ")
        self.rest = self.rest.strip()


def read(text: str, name: str, look_up: LookUp, notes: list[str]) -> list[Command]:
    """Return the commands of a profile and of all that it includes, without those to ignore.

    A condition counts as fulfilled for what takes away, and as not fulfilled for all else. Raises
    PolicyError: "not-found" for an include other than a ``.local`` that there is not.
    """
    found: list[Command] = []
    ignored: list[str] = []

    def walk(text: str, name: str, depth: int) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            place = f"{name}:{number}"
            one = " ".join(line.partition("#")[0].split())
            condition = re.match(r"\?\w+: ?", one)
            if condition is not None:
                one = one[condition.end() :]
                if not one.startswith(("blacklist ", "read-only ", "noexec ", "private")):
                    notes.append(f"{place}: {line.strip()}: a condition, left out")
                    continue
            if not one or any(one == each or one.startswith(f"{each} ") for each in ignored):
                continue
            command = Command(one, place)
            if command.word == "ignore":
                ignored.append(command.rest)
            elif command.word == "include":
                include(command, depth)
            else:
                found.append(command)

    def include(command: Command, depth: int) -> None:
        wanted = command.rest.replace("${CFG}/", "")
        files = look_up(wanted)
        if files is None:
            if wanted.endswith(".local"):
                return
            raise PolicyError(
                "not-found", f"{command.place}: there is no include {wanted}",
                "name the directory that holds it with --include-dir",
            )
        if depth >= INCLUDES_DEEPEST:
            raise PolicyError("policy-syntax", f"{command.place}: includes that include each other")
        for each, text in files:
            walk(text, each, depth + 1)

    walk(text, name, 0)
    return found


def paths_of(text: str) -> tuple[list[str], bool]:
    """Return the patterns, with $HOME, that a name with macros stands for, and whether surely.

    Not surely: a directory that the user may have elsewhere. Raises PolicyError for a macro that
    there is not, or a relative name.
    """
    sure = True
    text = re.sub(r"^~(?=/|$)", "${HOME}", text).replace("${HOME}", "$HOME")
    for macro, place in _USERS.items():
        if f"${{{macro}}}" in text:
            text = text.replace(f"${{{macro}}}", f"$HOME/{place}")
            sure = False
    text = text.replace("${RUNUSER}", RUNUSER).replace("${CFG}", "/etc/firejail")
    found = [text.replace("${PATH}", one) for one in _DIRECTORIES] if "${PATH}" in text else [text]
    for one in found:
        if "${" in one or not one.startswith(("/", "$HOME")) or "/../" in f"{one}/":
            raise PolicyError("usage", f"this name is not read: {text}")
    return [re.sub("//+", "/", one).rstrip("/") or "/" for one in found], sure
