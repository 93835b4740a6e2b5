"""Where another system's profiles find what they include."""

from __future__ import annotations

import os

from certexec.cli.policy_input import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def read_all(directories: Sequence[str], name: str) -> list[tuple[str, str]] | None:
    """Return path and text of a file, or of each file in a directory of that name.

    The first of the directories that has it counts. None: no directory has it. Raises CliError
    for what cannot be read.
    """
    for directory in directories:
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            return [
                (each.path, read_text(each.path))
                for each in sorted(os.scandir(path), key=lambda one: one.name)
                if each.is_file() and not each.name.startswith(".")
            ]
        if os.path.exists(path):
            return [(path, read_text(path))]
    return None
