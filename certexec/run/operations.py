"""What a supervised call asks for, once its arguments are copied and its objects pinned.

An operation is made in three moves, all in one thread that has the caller's rights:
prepare (copy, resolve, pin), judge (outside, on ``choices`` and ``values``), perform (on what was
pinned). Nothing between them looks at the caller's memory or at a name again.
"""

from __future__ import annotations

from certexec.run.call import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ALIAS = ""
FSREAD = "fsread"
FSWRITE = "fswrite"


class Operation:
    """One prepared call.

    Attributes:
        call: whose, and the way to answer.
        alias: "fsread", "fswrite" or "": the alias whose rules apply after the call's own.
        name: the name under which the call's own rules are looked up.
        values: argument name to its texts, as policies see them.
    """

    alias = NO_ALIAS

    def __init__(self, call: Call) -> None:
        self.call = call
        self.name = call.name
        self.values: Mapping[str, list[str]] = {}

    def is_governed_by(self, rule_name: str) -> bool:
        """Whether rules under this name apply: of the two aliases only the one that fits."""
        if rule_name in (FSREAD, FSWRITE):
            return rule_name == self.alias
        return True

    def may_block(self) -> bool:
        """Whether performing may wait for somebody else; such calls get a thread of their own."""
        return False

    def perform(self) -> None:
        """Carry the call out on the pinned objects and answer it. May raise OSError or Fault."""
        raise AssertionError(self.name)

    def close(self) -> None:
        """Give back what was pinned."""
