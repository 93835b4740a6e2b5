"""Rules that say ``ask``: one tree's questions, what was permitted for good, and what follows.

The same for calls that no rule matches, where the certificate lets an agent be asked about them.

A question waits in the supervisor's loop like a call that blocks. Only an agent's answer lets the
call go on; a time-out, a missing agent and whatever else goes wrong denies it, and says why.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel.notify import ERESTARTSYS
from certexec.kernel.procfs import pending_signals
from certexec.policy.guards import ASK, ASK_UNMATCHED, PROTECTED, UNMATCHED, UNSUPPORTED
from certexec.run import agent_protocol as protocol
from certexec.run import inquiry
from certexec.run.inquiry import Inquiry, places_for
from certexec.run.kill import kill_caller
from certexec.run.operations import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from certexec.run.call import Call
    from certexec.run.judge import Judge
    from certexec.run.supervisor import Supervisor

    Values = Mapping[str, list[str]]

WAITING_MAX = 64
"""questions of one tree at a time; more than anybody answers, and each has a descriptor or two."""
ALWAYS_MAX = 4096
"""answers that are kept; beyond them it is asked again."""


class Asking:
    """The questions of one tree. ``uid``: who runs it; ``grant``: only root's agent counts."""

    def __init__(self, uid: int, grant: bool) -> None:
        self.places = places_for(uid, grant)
        self.waiting = 0
        self._always: set[tuple[object, ...]] = set()
        self._count = 0

    def next_number(self) -> int:
        """Return a number for a question that no other of this tree has."""
        self._count += 1
        return self._count

    def remembers(self, operation: Operation, values: Values) -> bool:
        """Tell whether this very thing was permitted for as long as the tree lives."""
        return bool(self._always) and _key(operation, values) in self._always

    def remember(self, operation: Operation, values: Values) -> None:
        """Permit it from now on; where nobody knows what "it" was, once."""
        if len(self._always) < ALWAYS_MAX and not operation.call.hidden:
            self._always.add(_key(operation, values))

    def is_our_place(self, operation: Operation) -> bool:
        """Tell whether a call is about the socket of an agent, or makes a name beside it."""
        found = getattr(operation, "found", None)
        if found is None:
            return False
        if found.info is not None and not stat.S_ISSOCK(found.info.st_mode):
            return False  # nobody listens there
        for place in self.places:
            try:
                if found.fd >= 0:
                    there = os.stat(f"{place.directory}/{protocol.SOCKET}", follow_symlinks=False)
                    same = os.path.samestat(there, os.fstat(found.fd))
                elif found.parent >= 0:
                    there = os.stat(place.directory)
                    same = os.path.samestat(there, os.fstat(found.parent))
                else:
                    continue
            except OSError:
                continue  # there is none
            if same:
                return True
        return False


def _key(operation: Operation, values: Values) -> tuple[object, ...]:
    """What two calls must have in common for one answer to hold for both.

    Without arguments that rules can ask about, all registers: nobody knows which of them count.
    """
    call = operation.call
    said: tuple[object, ...] = tuple((name, *texts) for name, texts in sorted(values.items()))
    return (
        call.place, call.name, operation.variant, operation.elevated, call.rights.uids,
        call.rights.gids, said or call.notification.args,
    )  # fmt: skip


class Waiting:
    """A call about which somebody is asked; in the loop it stands where a worker would.

    ``go_on``: what a permission leads to; it says whether it keeps the operation.
    """

    def __init__(
        self, supervisor: Supervisor, operation: Operation, go_on: Callable[[], bool]
    ) -> None:
        self.supervisor = supervisor
        self.operation = operation
        self.go_on = go_on
        self._asked = list(operation.asked)
        self._values, self._unmatched = self._asked.pop(0)
        self._inquiry = self._ask()

    def _ask(self) -> Inquiry:
        asking = self.supervisor.asking
        operation = self.operation
        event = self._judge.event(
            operation.call, ASK, UNMATCHED if self._unmatched else ASK, 0, self._values,
            operation.elevated,
        )
        judged = protocol.REGISTERS if operation.by_registers else protocol.ARGUMENTS
        made = Inquiry(asking.next_number(), event, asking.places, judged)
        if asking.waiting >= WAITING_MAX:
            made.end(inquiry.TOO_MANY)
        asking.waiting += 1
        made.step()
        return made

    @property
    def _judge(self) -> Judge:
        return self.supervisor.judge

    @property
    def done(self) -> bool:
        """Whether there is an answer, or something that ends the waiting for one."""
        return self._inquiry.step()

    def signal_pending(self) -> bool:
        """Tell whether a signal waits that would have interrupted the caller."""
        try:
            return bool(pending_signals(self.operation.call.task.tid))
        except (OSError, KeyError, ValueError):
            return True

    def interrupt(self) -> None:
        """Withdraw the question: nobody waits for its answer any more."""
        self._inquiry.end(inquiry.WITHDRAWN)

    def settle(self) -> None:
        """Do what follows from the outcome."""
        self.supervisor.attempt(self.operation.call, lambda call: self.conclude())

    def conclude(self) -> bool:
        """Go on, or answer the call; True: it is still on its way."""
        self.supervisor.asking.waiting -= 1
        keep = False
        try:
            keep = self._follow(self._inquiry.outcome)
            return keep
        finally:
            if not keep:
                self.operation.close()

    def _follow(self, outcome: str) -> bool:
        operation, call, judge = self.operation, self.operation.call, self._judge
        if outcome == inquiry.WITHDRAWN:
            # with the signal still pending the kernel starts the call again, where that is due
            call.fail(ERESTARTSYS if self.signal_pending() else errno.EINTR)
            return False
        if outcome in (protocol.PERMIT, protocol.ALWAYS):
            call.still_waits()
            if outcome == protocol.ALWAYS:
                self.supervisor.asking.remember(operation, self._values)
            self._log("permit", inquiry.PERMITTED, 0, operation.elevated)
            if self._asked:
                self._values, self._unmatched = self._asked.pop(0)
                self._inquiry = self._ask()
                return self.supervisor.wait_for(self)
            if judge.narrowing.stops_use(operation, False):
                return False  # while the question waited the tree lost it
            return self.go_on()
        if outcome == protocol.KILL:
            self._log("kill", inquiry.REFUSED, 0)
            kill_caller(call)
            return False
        self._log("deny", inquiry.REFUSED if outcome == protocol.DENY else outcome, errno.EPERM)
        call.fail(errno.EPERM)
        return False

    def _log(self, verdict: str, outcome: str, code: int, elevated: str = "") -> None:
        why = UNMATCHED if self._unmatched else ASK
        call = self.operation.call
        self._judge.log(call, verdict, f"{why}: {outcome}", code, self._values, elevated)


def ask_about(supervisor: Supervisor, call: Call, why: str) -> bool:
    """Ask about a call whose arguments no rule sees; True: it is kept.

    ``why``: ASK or ASK_UNMATCHED. If it is permitted the kernel runs it by its registers, with an
    eye on what certexec forbids. What is certain to be denied then is not asked about.
    """
    operation = Operation(call)
    operation.by_registers = True
    unmatched = why == ASK_UNMATCHED
    operation.asked = [({}, unmatched)]
    judge = supervisor.judge
    permissive = supervisor.manner.permissive
    if permissive:
        judge.log(call, "deny", UNMATCHED if unmatched else ASK, errno.EPERM)
    elif call.notification.nr in PROTECTED and supervisor.forbids(call):
        return False
    elif unmatched and call.hidden:
        # which socketcall it is can be asked, but not what it is about: that lies in memory
        judge.log(call, "deny", UNSUPPORTED, errno.EPERM)
        call.fail(errno.EPERM)
        return False
    elif not supervisor.asking.remembers(operation, {}):
        return supervisor.ask(operation, lambda: supervisor.registers.happen(call))
    if judge.narrowing.stops_use(operation, permissive):
        return False
    return supervisor.registers.happen(call)
