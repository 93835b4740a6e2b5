"""Every watched exec: may it be, what came of it, and which policy holds from then on."""

from __future__ import annotations

import errno

from certexec.policy.guards import NESTED
from certexec.run.exec_guard import excess, guard, keeps_rights
from certexec.run.execution import Execution
from certexec.run.nested import UNNAMED
from certexec.run.secure_start import start_securely
from certexec.run.transitions import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from certexec.kernel.credentials import Mask
    from certexec.kernel.procfs import Status
    from certexec.run.call import Call
    from certexec.run.judge import Judge
    from certexec.run.nested import Nested
    from certexec.run.operations import Operation
    from certexec.run.resolve import Resolver
    from certexec.run.steady import Steady
    from certexec.run.transitions import Transitions

NO_POLICY = "no-policy"
"""Why an exec is denied: the program has no policy of its own, and none is inherited."""
UNSTEADY = "unsteady-name"
"""Why an exec is denied: the name of a script with a policy of its own may lead elsewhere."""
OUTCOME = "exec-outcome"
"""Why a program was killed at its exec stop."""


class ExecJudge:
    """Judges the execs of one tree.

    ``gains``: the tree holds a grant, so nobody may come out of an exec with more than before;
    ``permitted``: judges an operation, and answers and logs a denial; ``ask``: asks about one, and
    closes it; ``steady``: is told of an exec that changed nobody's rights; ``read``: reads the
    status of a process.
    """

    def __init__(
        self,
        judge: Judge,
        transitions: Transitions,
        resolver: Resolver,
        mask: Mask,
        gains: bool,
        permitted: Callable[[Operation], bool],
        permissive: bool,
        nested: Nested,
        ask: Callable[[Operation, Callable[[], bool]], bool],
        steady: Steady,
        read: Callable[[int], Status],
    ) -> None:
        self.nested = nested
        self.judge = judge
        self.transitions = transitions
        self.resolver = resolver
        self.mask = mask
        self.gains = gains
        self.permitted = permitted
        self.permissive = permissive
        self.ask = ask
        self.steady = steady
        self.read = read

    def execute(self, call: Call, by_rules: bool) -> bool:
        """Let an exec happen that may be, and see that it is the one that may.

        True: somebody is asked about it first.

        ``by_rules``: its file and arguments have to be judged; otherwise every exec is permitted.

        1. pin the file and copy the arguments, with the caller's rights;
        2. judge them, and see that there is a policy for what comes;
        3. let the kernel do it, and stop at the new image;
        4. compare: what it gained, the file, the arguments; judge anew what is not the same;
        5. from here on its policy counts.
        """
        if self.nested.possible and call.place == self.nested.places.launcher:
            self.nested.execute(call)
            return False
        execution = None
        if by_rules or not self.transitions.one_policy:
            # 1.
            execution = self._prepare(call)
        keep = False
        try:
            if execution is not None:
                # 2.
                if by_rules and not self.permitted(execution):
                    return False
                exists = execution.found.fd >= 0  # where it does not, the kernel says so
                if exists and (reason := self._no_place(execution)):
                    return self._refuse(execution, reason)
                if execution.asked:
                    nested = exists and execution.is_certificate
                    if nested and not self.nested.knows(execution.found.fd):
                        return self._refuse(execution, NESTED)  # no answer could let it run
                    keep = True  # from here on by who waits for the answer
                    return self.ask(execution, lambda: self._happen(call, execution, by_rules))
            return self._happen(call, execution, by_rules)
        finally:
            if execution is not None and not keep:
                execution.close()

    def _refuse(self, execution: Execution, reason: str) -> bool:
        values = dict(execution.values)
        if reason == NESTED:
            values["because"] = [UNNAMED]
        self.judge.log(execution.call, "deny", reason, errno.EPERM, values)
        execution.call.fail(errno.EPERM)
        return False

    def _happen(self, call: Call, execution: Execution | None, by_rules: bool) -> bool:
        before = call.rights  # while it waits: later on they might be those that came out
        # 3.
        killed = guard(
            call, lambda pid: self._objection(call, execution, by_rules, pid, before),
            lambda: self.steady.go_on(call.notification.cookie),
        )  # fmt: skip
        if killed:
            self.judge.log(call, "deny", OUTCOME, errno.EPERM, {"because": [killed]})
        return False

    def _prepare(self, call: Call) -> Execution:
        call.task.mask = self.mask
        try:
            self.mask.assume(call.rights)
            return Execution(call, self.resolver)
        finally:
            self.mask.restore()

    def _no_place(self, execution: Execution) -> str:
        """Return why nothing that is executed so may come under its policy, or ""."""
        if execution.is_certificate and not self.transitions.one_policy:
            return "" if self.nested.possible else NESTED  # its own policy joins the caller's
        place = self._place_after(execution)
        if place == NONE:
            return NO_POLICY
        if not execution.steady and place != self.transitions.of(execution.call.task.tgid):
            return UNSTEADY
        return ""

    def _place_after(self, execution: Execution) -> int:
        tgid = execution.call.task.tgid
        program = execution.values["filename"][0]
        place = self.transitions.after_exec(tgid, program, execution.outermost)
        if place == NONE and self.permissive:
            return self.transitions.of(tgid)
        return place

    def _objection(
        self, call: Call, execution: Execution | None, by_rules: bool, pid: int, before: Status
    ) -> str:
        # 4.
        if self.gains and (gained := excess(before, pid)):
            return gained
        if self.steady.holds(call.notification.cookie) and keeps_rights(before, pid, self.read):
            self.steady.go_on(call.notification.cookie)
        if execution is None:
            return ""
        values = execution.outcome(pid)
        if values != execution.values:
            execution.values = values
            if by_rules:
                verdict = execution.verdict = self.judge.judge(execution)
                permitted = verdict is not None and verdict.action == "permit"
                if not permitted and not self.permissive:
                    return "another file or other arguments were executed than those judged"
                self.judge.narrowing.happens(execution)
        # 5.
        if execution.launched and self.nested.possible:
            base = self.transitions.base(execution.call.task.tgid, execution.outermost)
            self.transitions.executed(pid, self.nested.started(pid, base))
            return ""
        place = self._place_after(execution)
        if place == NONE:
            return "the program that was executed has no policy"
        if place != self.transitions.of(execution.call.task.tgid):
            start_securely(pid)
        self.transitions.executed(pid, place)
        return ""
