"""One call as somebody else, where a rule says ``as`` and the certificate grants it.

The supervisor makes such a call with the effective and file-system ids that the rule names, then
is who it was before. Nobody else ever has them: the program's own ids never change. What the rule
leaves open stays the caller's: uid or gid, the supplementary groups, the umask. Of capabilities
uid 0 has all, any other none, as a program with that effective uid would; with the uid left open
they stay the caller's. Real ids stay, too, so that access(2) tells what it always does.

Such a call is prepared and judged with those rights from the start: only they may reach the object
that the rule names. What that finds out counts only if a rule then permits the very call with the
very rights; for anything else the call is prepared anew, with the caller's.
"""

from __future__ import annotations

from certexec.kernel.procfs import Status
from certexec.policy.calls import variants
from certexec.policy.elevation import asks_for_rights, can_be_elevated
from certexec.policy.evaluate import effective_rules
from certexec.run.call import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from certexec.kernel.credentials import Mask
    from certexec.policy.elevation import Elevate
    from certexec.run.call import Call
    from certexec.run.judge import Judge
    from certexec.run.operations import Operation
    from certexec.run.resolve import Resolver

ALL_CAPABILITIES = (1 << 64) - 1
"""Of which the supervisor takes those that it has (``Mask.assume``)."""


def raised(status: Status, elevate: Elevate) -> Status:
    """Return a thread's ids and capabilities as they are for one call ``as`` somebody."""
    uid, gid = elevate
    changed = Status.__new__(Status)
    for name in Status.__slots__:
        setattr(changed, name, getattr(status, name))
    if uid is not None:
        real, _, saved, _ = status.uids
        changed.uids = (real, uid, saved, uid)
        changed.caps = {**status.caps, "eff": 0 if uid else ALL_CAPABILITIES}
    if gid is not None:
        real, _, saved, _ = status.gids
        changed.gids = (real, gid, saved, gid)
    return changed


class Elevation:
    """Makes elevated calls of one tree ready.

    ``granted``: as whom single calls may be made, each with its names; empty in a tree whose
    supervisor has no rights to lend.
    """

    def __init__(
        self, judge: Judge, resolver: Resolver, mask: Mask, granted: Mapping[Elevate, str]
    ) -> None:
        self.judge = judge
        self.resolver = resolver
        self.mask = mask
        self.granted = granted
        self._named: dict[tuple[int, str], Sequence[Elevate]] = {}

    def prepare(
        self, call: Call, make: Callable[[Call, Resolver], Operation], real_ids: bool
    ) -> Operation | None:
        """Return the call as a rule lets it be made ``as`` somebody, None where none does."""
        for elevate in self._of_rules(call):
            rights = raised(call.status, elevate)
            call.task.mask = self.mask
            try:
                self.mask.assume(rights, real_ids)
                operation = make(call, self.resolver)
            except Fault:
                continue  # whatever it tells is nobody's business: the caller's own errors count
            finally:
                self.mask.restore()
            try:
                chosen = all(self._is_for(operation, values, elevate)
                             for values in (*operation.also, operation.values))  # fmt: skip
            except BaseException:
                operation.close()
                raise
            if chosen:
                operation.rights = rights
                operation.elevated = self.granted[elevate]
                return operation
            operation.close()
        return None

    def _is_for(
        self, operation: Operation, values: Mapping[str, list[str]], elevate: Elevate
    ) -> bool:
        operation.values = values
        verdict = self.judge.judge(operation)
        return (
            verdict is not None
            and asks_for_rights(verdict.rule)
            and verdict.rule.elevate == elevate
        )

    def _of_rules(self, call: Call) -> Sequence[Elevate]:
        """Return what the rules for a call say behind ``as``, as far as it is granted."""
        if not self.granted:
            return ()
        key = call.place, call.name
        named = self._named.get(key)
        if named is None:
            policy = self.judge.policies[call.place]
            found = {
                rule.elevate: True
                for variant in variants(call.name)
                for rule in effective_rules(policy, call.name, variant.label)
                if rule.elevate in self.granted and asks_for_rights(rule)
            }
            named = self._named[key] = [
                one for one in found if one is not None and can_be_elevated(call.name)
            ]
        return named
