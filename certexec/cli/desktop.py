"""Questions told on the desktop, by notify-send(1), where there is one."""

from __future__ import annotations

import shutil
import subprocess

from certexec.cli.question_text import readable_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.agent_desk import Waiting

BODY_MAX = 400
"""characters of a notification"""


class Desktop:
    """Tells of questions; does nothing where nobody can be told.

    They are answered in the agent: a notification could be clicked away, or by another program.
    """

    def __init__(self) -> None:
        self._program = shutil.which("notify-send")

    def tell(self, waiting: Waiting) -> None:
        """Show that there is a question; returns at once, whatever becomes of it."""
        if self._program is None:
            return
        body = " ".join(readable_lines(waiting, 0.0)[1:])[:BODY_MAX]
        try:
            subprocess.Popen(
                [self._program, "--app-name=certexec", "--", "certexec asks",
                 body.replace("<", "(").replace("&", "+")],  # some desktops read markup
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            self._program = None
