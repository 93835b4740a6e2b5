"""The places of a tree: the policies that it can get to, and what is laid over one another.

A place is the number of a policy, or of several that count together: that under which a certificate
was executed, and the certificate's own. What lies over one another is found out as it happens; each
policy alone is known from the start, and in the filter.
"""

from __future__ import annotations

from certexec.errors import RunError
from certexec.policy.model import Policy
from certexec.policy.nest import Intersection, launcher_policy
from certexec.run.transitions import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.compile import Compiled
    from certexec.policy.decisions import Table
    from certexec.policy.reach import Reach
    from certexec.run.inside import Inside

COMBINED_MAX = 4096
"""policies laid over one another in one tree; each costs memory, and programs choose how many."""


class Places:
    """Every place of one tree.

    Attributes:
        policies, tables: of each place; of one with several layers the innermost policy, for the
            log. Both grow.
        layers: place to the policies that count there, the outermost first; only where there are
            several.
        foreign: place to that of its policy's part for the 32-bit ABI.
        launcher: the place of certexec's launcher between its exec and the program's; NONE where
            no certificate can be executed inside.
        store, owners: the trust store that judges them, as it judged the tree's own certificate.
    """

    __slots__ = (
        "_inside", "_known", "foreign", "launcher", "layers", "owners", "policies", "store",
        "tables",
    )  # fmt: skip

    def __init__(
        self, reach: Reach, compiled: Compiled, inside: Sequence[Inside], store: str,
        owners: frozenset[int],
    ) -> None:  # fmt: skip
        self.store = store
        self.owners = owners
        self.policies = list(reach.policies)
        self.tables: list[Table] = list(compiled.tables)
        self.layers: dict[int, tuple[int, ...]] = {}
        self.launcher = NONE
        self._known: dict[tuple[int, ...], int] = {}
        first = len(self.policies)
        self._inside = {one.digest: first + index for index, one in enumerate(inside)}
        self.policies += [one.policy for one in inside if one.policy is not None]
        if len(self.tables) > len(self.policies):
            self.launcher = len(self.policies)
            self.policies.append(launcher_policy())
        self.foreign: dict[int, int] = {}
        for place, table in enumerate(self.tables[:]):
            part = self.policies[place].foreign
            if part is not None and table.foreign is not None:
                self.foreign[place] = place
                if part is not self.policies[place]:
                    self.foreign[place] = len(self.policies)
                    self.policies.append(part)
                    self.tables.append(table.foreign)

    def foreign_of(self, place: int) -> int:
        """Return the place of what holds there for calls of the 32-bit ABI; NONE: they are killed.

        Of policies that lie over one another every one must have a part for it.
        """
        known = self.foreign.get(place)
        if known is None:
            layers = [self.foreign_of(one) for one in self.layers.get(place, ())]
            known = NONE if not layers or NONE in layers else self._place(tuple(layers))
            self.foreign[place] = known
        return known

    def of_certificate(self, digest: bytes) -> int:
        """Return the place of a certificate's policy alone; NONE: not known from the start."""
        return self._inside.get(digest, NONE)

    def over(self, base: int, inner: int) -> int:
        """Return the place of what a certificate's policy leaves of ``base``."""
        layers = self.layers.get(base, (base,))
        return base if inner in layers else self._place((*layers, inner))

    def with_outermost(self, place: int, outermost: int) -> int:
        """Return the place like ``place``, with another policy under the certificates."""
        return self._place((outermost, *self.layers[place][1:]))

    def _laid(self, layers: tuple[int, ...]) -> Policy:
        """Return what the supervisor asks of a policy as a whole: name and restrictions."""
        innermost = self.policies[layers[-1]]
        laid = Policy(innermost.path, innermost.emulation, innermost.line)
        laid.rules = innermost.rules
        laid.afters = [after for one in layers for after in self.policies[one].afters]
        laid.no_dotdot = max(self.policies[one].no_dotdot for one in layers)
        return laid

    def _place(self, layers: tuple[int, ...]) -> int:
        place = self._known.get(layers)
        if place is None:
            if len(self.layers) >= COMBINED_MAX:
                raise RunError("nested", "too many policies lie over one another in this tree")
            place = self._known[layers] = len(self.policies)
            self.policies.append(self._laid(layers))
            self.tables.append(Intersection([self.tables[one] for one in layers]))
            self.layers[place] = layers
        return place
