"""Calls of which nothing is judged but their registers and who makes them.

What was judged cannot change under the kernel's hands: registers are the calling thread's own, and
it waits. So these calls are not emulated but left to the kernel, whatever their other arguments
are. The one exception is kill(2) where the target's program was judged (certexec.run.target).
"""

from __future__ import annotations

from certexec.policy.calls import arguments_of, choose_variant
from certexec.policy.decisions import FORKS
from certexec.policy.guards import CLONE, CLONE_THREAD, PROTECTED
from certexec.policy.translators import TRANSLATORS
from certexec.run.fork_guard import follow
from certexec.run.operations import Operation
from certexec.run.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.call import Call
    from certexec.run.judge import Judge
    from certexec.run.resolve import Resolver
    from certexec.run.supervisor import Supervisor

TARGET = "pidname"
USER = "uname"


class OnRegisters(Operation):
    """A call with the texts of its registers; ``target`` is pinned where rules ask for it."""

    by_registers = True

    def __init__(self, call: Call, judge: Judge, resolver: Resolver) -> None:
        super().__init__(call)
        self.target: Target | None = None
        values: dict[str, list[str]] = {}
        registers = call.notification.args
        for argument in arguments_of(call.name, choose_variant(call.name, registers)):
            if not argument.in_register:
                continue  # in memory: no rule that counts here asks for it
            text = TRANSLATORS[argument.name].text(registers[argument.register])
            if argument.name == USER:
                text = judge.user_name(registers[argument.register] & 0xFFFFFFFF)
            elif argument.name == TARGET and text is None:
                if not judge.asks_for(self, TARGET):
                    continue
                self.target = Target(call, resolver.named)
                text = self.target.text
            if text is not None:
                values.setdefault(argument.name, []).append(text)
        self.values = values

    def close(self) -> None:
        """Give back what was pinned."""
        if self.target is not None:
            self.target.close()


class RegisterJudge:
    """Answers calls that rules judge by registers, for one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def answer(self, call: Call) -> bool:
        """Judge a call; True: it is kept, for somebody is asked about it."""
        supervisor = self.supervisor
        operation = OnRegisters(call, supervisor.judge, supervisor.resolver)
        keep = False
        try:
            if not supervisor.permitted(operation):
                return False
            if operation.asked:
                if call.notification.nr in PROTECTED and supervisor.forbids(call):
                    return False
                keep = True  # from here on by who waits for the answer
                return supervisor.ask(operation, lambda: self.happen(call, operation.target))
            return self.happen(call, operation.target)
        finally:
            if not keep:
                operation.close()

    def happen(self, call: Call, target: Target | None = None) -> bool:
        """Let a permitted call pass all that stands beside the rules."""
        supervisor = self.supervisor
        number = call.notification.nr
        if number in PROTECTED:
            supervisor.protect(call, target)
        elif number in FORKS and not supervisor.transitions.one_policy and not _is_thread(call):
            self.fork(call)
        else:
            call.resume()  # judged by registers and by who calls, neither of which can change
        return False

    def fork(self, call: Call) -> None:
        """Let a process be made, and note whose child it is."""
        parent = call.process  # while it waits: later on it may have ended
        child = follow(call)
        if child:
            self.supervisor.transitions.born(child, parent)


def _is_thread(call: Call) -> bool:
    return call.notification.nr == CLONE and bool(call.arg(0) & CLONE_THREAD)
