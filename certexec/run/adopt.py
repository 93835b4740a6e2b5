"""A program asks its supervisor for another policy, or gives up the right to ask.

    prctl(0x43584144, "/path/of/header", 0, 0, 0)   take the policy with this header
    prctl(0x43584144, NULL, 0, 0, 0)                never ask again

The first is for processes whose effective uid is 0, and only for policies that theirs names. They
are in the filter from the start, so nothing comes of it that the tree could not get to anyway. The
right is gone for good where it was given up, for the process and all that it starts, whatever they
execute; it is also gone where the new policy names none.
"""

from __future__ import annotations

import errno
import os

from certexec.run.call import Call
from certexec.run.transitions import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.judge import Judge
    from certexec.run.transitions import Transitions

REASON = "adopt"
"""Why the log speaks of such a call."""
_NAME = 1
"""The register that points to the name."""


class Adoption:
    """Answers these calls for one tree."""

    def __init__(self, judge: Judge, transitions: Transitions) -> None:
        self._judge = judge
        self._transitions = transitions

    def answer(self, call: Call) -> None:
        """Change the caller's policy, or take its right to ask. Raises Fault for a bad pointer."""
        process = call.task.tgid
        if call.arg(_NAME) == 0:
            self._transitions.give_up(process)
            call.finish(0)
            return
        name = os.fsdecode(call.string(_NAME))
        place = self._place(call, name)
        values = {"filename": [name]}
        if place == NONE:
            self._judge.log(call, "deny", REASON, errno.EPERM, values)
            call.fail(errno.EPERM)
            return
        self._judge.log(call, "permit", REASON, 0, values)
        call.still_waits()  # so the number is still that of who asked
        self._transitions.executed(process, place)
        call.finish(0)

    def _place(self, call: Call, name: str) -> int:
        """Return the place of the policy, NONE where this caller may not have it."""
        if call.status.uids[1] != 0 or self._transitions.has_given_up(call.task.tgid):
            return NONE
        if self._judge.narrowing.has_begun(call.place):
            return NONE  # nobody gets back what has been taken by what happened
        # under a certificate inside this tree the policy is one of several layers and names none
        if name not in self._judge.policies[call.place].adopts:
            return NONE
        return self._transitions.reach.named(name)
