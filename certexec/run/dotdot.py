"""``no-dotdot``: names with the component ".." are denied as the caller wrote them."""

from __future__ import annotations

import errno
import os

from certexec.run.call import Call, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.judge import Judge

REASON = "no-dotdot"
"""Why such a call is denied: the caller's policy says so."""
_DOTDOT = b".."


class DotDot:
    """Looks at the names that the callers of one tree give."""

    def __init__(self, judge: Judge, permissive: bool) -> None:
        self._judge = judge
        self._permissive = permissive

    def look(self, call: Call, name: bytes) -> None:
        """Deny a name that holds the component: raises Fault(EPERM), once that is logged."""
        if _DOTDOT not in name.split(b"/"):
            return
        values = {"filename": [os.fsdecode(name)]}
        # the rights may be the caller's by now, who need not reach the log
        call.task.touch(self._judge.log, call, "deny", REASON, errno.EPERM, values)
        if not self._permissive:
            raise Fault(errno.EPERM)
