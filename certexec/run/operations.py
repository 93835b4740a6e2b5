"""What a supervised call asks for, once its arguments are copied and its objects pinned.

An operation is made in three moves, all in one thread that has the caller's rights:
prepare (copy, resolve, pin), judge (outside, on ``choices`` and ``values``), perform (on what was
pinned). Nothing between them looks at the caller's memory or at a name again.
"""

from __future__ import annotations

from certexec.policy.calls import choose_variant
from certexec.run.call import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

class Operation:
    """One prepared call.

    Attributes:
        call: whose, and the way to answer.
        variant: which of the things that the call can do it does (certexec.policy.calls).
        values: argument name to its texts, as policies see them.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.variant = choose_variant(call.name, call.notification.args).label
        self.values: Mapping[str, list[str]] = {}

    def may_block(self) -> bool:
        """Whether performing may wait for somebody else; such calls get a thread of their own."""
        return False

    def perform(self) -> None:
        """Carry the call out on the pinned objects and answer it. May raise OSError or Fault."""
        raise AssertionError(self.call.name)

    def close(self) -> None:
        """Give back what was pinned."""
