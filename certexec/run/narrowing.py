"""The state behind ``after``: which lines have come true in a tree, and what they leave.

One state for all processes of a tree that come under the same policy. They can share memory,
descriptors and everything else, so that a state of a process or a thread would be none. It is read
and set by the supervisor's loop alone, one call after the other, before a call is carried out.
"""

from __future__ import annotations

import errno

from certexec.policy.calls import choose_variant, variants
from certexec.policy.evaluate import evaluate
from certexec.policy.narrowing import fits, is_hidden, keeps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.policy.guards import Decision
    from certexec.policy.model import After
    from certexec.run.call import Call
    from certexec.run.judge import Judge
    from certexec.run.operations import Operation

REASON = "after"
"""Why a call is denied: a line of that word has come true."""


class Narrowing:
    """What has come true in one tree. It only ever grows."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._true: dict[int, list[After]] = {}
        """Place of a policy to its lines that have come true."""

    def stops(self, call: Call, decision: Decision, permissive: bool) -> bool:
        """Deny a call that does not remain (True); otherwise it happens, if registers permit it.

        Where memory has a say in what the call is, ``stops_use`` tells.
        """
        policy = self._judge.policies[call.place]
        if not policy.afters or decision.denied:
            return False
        label = choose_variant(call.name, call.notification.args).label
        labels = [label]
        if is_hidden(call.name):
            labels = [variant.label for variant in variants(call.name)]
        if self._is_lost(call, labels) and self._refuse(call, {}, permissive):
            return True
        if decision.permitted:
            self._happens(call, label, {})
        return False

    def stops_use(self, operation: Operation, permissive: bool) -> bool:
        """The same for a call that was judged and is about to be carried out."""
        call = operation.call
        if not self._judge.policies[call.place].afters:
            return False
        lost = self._is_lost(call, [operation.variant])
        if lost and self._refuse(call, operation.values, permissive):
            return True
        self.happens(operation)
        return False

    def has_lost(self, operation: Operation) -> bool:
        """Deny a call that would be asked about and does not remain (True)."""
        return self._is_lost(operation.call, [operation.variant]) and self._refuse(
            operation.call, operation.values, False
        )

    def has_begun(self, place: int) -> bool:
        """Tell whether any line has come true for a policy."""
        return bool(self._true.get(place))

    def happens(self, operation: Operation) -> None:
        """A judged call is about to be carried out, or turned out to be another one."""
        for values in (*operation.also, operation.values):
            self._happens(operation.call, operation.variant, values)

    def _happens(self, call: Call, label: str, values: Mapping[str, Sequence[str]]) -> None:
        for place in self._judge.of(call.place):
            policy = self._judge.policies[place]
            already = self._true.setdefault(place, [])
            for after in policy.afters:
                if after not in already and fits(policy, after, call.name, label) and evaluate(
                    (after.rule,), values, self._judge.subject(call)
                ):
                    already.append(after)

    def _is_lost(self, call: Call, labels: Sequence[str]) -> bool:
        return any(
            not any(keeps(self._judge.policies[place], after, call.name, label) for label in labels)
            for place in self._judge.of(call.place)
            for after in self._true.get(place, ())
        )

    def _refuse(
        self, call: Call, values: Mapping[str, Sequence[str]], permissive: bool
    ) -> bool:
        self._judge.log(call, "deny", REASON, errno.EPERM, values)
        if not permissive:
            call.fail(errno.EPERM)
        return not permissive
