"""Verbs that only root may use, and how somebody else gets them done."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from certexec.errors import RunError
from certexec.run import deploy


def need_root(command: str) -> None:
    """Refuse unless this process is root in its user namespace; ``command`` is what was typed.

    Raises RunError("not-root"). The hint names this very program: sudo has a path of its own
    (secure_path), which lacks the directory of a virtual environment.
    """
    try:
        deploy.need_root(command)
    except RunError as error:
        typed = " ".join([this_program(), *command.split()[1:]])
        hint = f'run "sudo {typed}"' if shutil.which("sudo") else f'as root: "{typed}"'
        raise RunError(error.reason, error.message, hint) from None


def this_program() -> str:
    """Return how a shell starts this certexec from anywhere."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m certexec"
    found = os.path.abspath(called) if "/" in called else shutil.which(called)
    return shlex.quote(found or "certexec")
