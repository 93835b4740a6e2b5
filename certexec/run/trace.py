"""``certexec run --trace``: what the supervisor sees, one line per call, as in strace(1)."""

from __future__ import annotations

import os

from certexec.observe.syscall_text import render, result_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.call import Call


class Trace:
    """Writes to an open descriptor. Calls that the kernel judges alone do not appear."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def enter(self, call: Call) -> None:
        """Render the arguments while the caller waits: afterwards it may change them."""
        if call.foreign:  # what lies in its memory has other forms
            call.text = f"i386:{call.foreign}()"
            return
        call.text = render(call.name, call.notification.args, call.memory.read)

    def leave(self, call: Call) -> None:
        """Write the line."""
        line = f"{call.task.tid} {call.text or call.name} = {result_text(*call.answer)}\n"
        try:
            os.write(self.fd, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return  # a full disk must not change what the program may do
