"""The presets of this installation, for the verbs that read policies as people write them."""

from __future__ import annotations

import importlib.resources

PACKAGE = "certexec.policy.presets"


def load_presets() -> dict[str, str]:
    """Return the presets: ``NAME VERSION`` to the text of its rules."""
    found = {}
    for file in importlib.resources.files(PACKAGE).iterdir():
        name, dash, version = file.name.rpartition("-")
        if dash and version.isdigit():
            found[f"{name} {version}"] = file.read_text("utf-8")
    return found
