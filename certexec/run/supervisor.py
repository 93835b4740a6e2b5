"""The supervisor of one program tree: takes each call that the kernel cannot judge alone.

``next_event`` only classifies, ``dispatch_event`` only acts. The supervisor ends when the last
process under its filter has ended; if it dies before, the kernel fails every further supervised
call (ENOSYS), so nothing runs on unsupervised.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import time

from certexec.errors import CertexecError
from certexec.kernel.bpf import AUDIT_ARCH_X86_64
from certexec.kernel.credentials import Mask, unshare_fs
from certexec.kernel.filesystem import parse_release
from certexec.kernel.notify import RECEIVE_ENDS, Notification
from certexec.kernel.procfs import StatusReader
from certexec.kernel.syscalls import NAMES
from certexec.policy import guards
from certexec.policy.elevation import asks_for_rights
from certexec.policy.evaluate import EXECS, UNMATCHED_ASK
from certexec.run.adopt import Adoption
from certexec.run.asking import Waiting, ask_about
from certexec.run.call import Call, Fault, GoneError
from certexec.run.describe import describe
from certexec.run.dotdot import DotDot
from certexec.run.elevation import Elevation
from certexec.run.emulate_names import wants_real_ids
from certexec.run.exec_guard import see_to_its_end
from certexec.run.exec_judge import ExecJudge
from certexec.run.following import FollowingListener
from certexec.run.home import Home
from certexec.run.judge import Judge
from certexec.run.kill import kill_caller
from certexec.run.nested import Nested
from certexec.run.operation_table import OPERATIONS
from certexec.run.operations import MustWait
from certexec.run.protection import (
    INTO_OTHERS,
    concerns_others,
    concerns_supervisor,
    send_signal,
)
from certexec.run.quiet import Quiet
from certexec.run.registers import RegisterJudge
from certexec.run.resolve import Resolver
from certexec.run.signals import ignore_signals
from certexec.run.steady import Steady
from certexec.run.transitions import NONE
from certexec.run.worker import WAKE_SIGNAL, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from certexec.policy.elevation import Elevate
    from certexec.run.asking import Asking
    from certexec.run.first_call import FirstCaller
    from certexec.run.manner import Manner
    from certexec.run.operations import Operation
    from certexec.run.places import Places
    from certexec.run.target import Target
    from certexec.run.transitions import Transitions

    class Tracer(Protocol):
        """Renders calls: ``certexec.run.trace.Trace``."""

        def enter(self, call: Call) -> None:
            """Look at the arguments before the call is answered."""

        def leave(self, call: Call) -> None:
            """Write the call and its answer."""

NOTIFIED = "notified"
"""A call waits for a verdict."""
TICK = "tick"
"""Time to look after calls that block, or to tell of events that were folded."""
ENDED = "ended"
"""The last process of the tree is gone."""

BLOCKED_POLL = 10
"""milliseconds between looks at callers whose call blocks in a worker: a signal's worst delay."""
_RELEASE = parse_release(os.uname().release) or (0, 0, 0)


class Supervisor:
    """Supervises one tree. Make it, ``prepare``, and ``run`` once there is a listener.

    ``places``: what each policy of the tree says of a call; ``transitions``: whose policy counts;
    ``privileged``: this process is root and takes the caller's rights for each call; ``gains``: the
    tree holds a grant; ``asking``: who answers where rules ask; ``trace`` gets every call and its
    answer; ``elevations``: as whom rules may have single calls made.
    """

    quiet: Quiet | None = None  # what is to be done when nobody waits

    def __init__(
        self,
        judge: Judge,
        places: Places,
        transitions: Transitions,
        privileged: bool,
        gains: bool,
        manner: Manner,
        asking: Asking,
        trace: Tracer | None = None,
        named: dict[tuple[int, int], str] | None = None,
        elevations: Mapping[Elevate, str] | None = None,
    ) -> None:
        self.mask = Mask(privileged)
        self.listener = FollowingListener(-1, self.mask, judge.note)
        self.judge = judge
        self.places = places
        self.tables = places.tables
        self.transitions = transitions
        self.privileged = privileged
        self.manner = manner
        self.trace = trace
        self.resolver = Resolver(os.getpid(), named)
        self.resolver.exchanges_unseen = self._exchanges_unseen
        if not transitions.one_policy:
            self.resolver.foreign = lambda one, other: transitions.of(one) != transitions.of(other)
        self.statuses = StatusReader()
        self.steady = Steady(self.mask.takes_nothing, self.tables)
        self.home = Home(judge, self.steady)
        granted = elevations if elevations and privileged else {}
        self.elevation = Elevation(judge, self.resolver, self.mask, granted)
        self.nested = Nested(places, judge, transitions, self.resolver, self.mask, gains)
        self.execs = ExecJudge(
            judge, transitions, self.resolver, self.mask, gains, self.permitted,
            manner.permissive, self.nested, self.ask, self.steady, self.statuses.read,
        )  # fmt: skip
        self.adoption = Adoption(judge, transitions)
        self.look = DotDot(judge, manner.permissive).look
        self.asking = asking
        self.registers = RegisterJudge(self)
        self.blocked: dict[int, Worker | Waiting] = {}
        self.next_look = 0.0
        self.poll = select.poll()
        self.waits_to_receive = _RELEASE[:2] >= RECEIVE_ENDS

    def _exchanges_unseen(self) -> bool:
        """Tell whether the tree may give a path another object while we do something."""
        return any(
            table.foreign is not None or not guards.tells_of_exchanges(table.of)
            for table in self.tables
        )

    def prepare(self) -> None:
        """Do what can be done before there is a listener. Once, by the thread that will ``run``."""
        unshare_fs()  # umask and working directory of a caller must not reach other workers
        ignore_signals(WAKE_SIGNAL)

    def run(self, listener: int, first: FirstCaller | None = None) -> None:
        """Serve the tree behind the descriptor ``listener`` until it has ended."""
        self.listener.fd = listener
        self.poll.register(listener, select.POLLIN)
        self.listener.wake_synchronously()
        if first is not None:
            first.expect(self)
        gc.enable()
        try:
            while True:
                event, notification = self.next_event()
                if event == ENDED:
                    return
                self.dispatch_event(event, notification)
        finally:
            self.judge.folding.close()
            self.statuses.close()

    def next_event(self) -> tuple[str, Notification | None]:
        """Wait for the next thing to do, and say what it is."""
        put_off = self.quiet is not None and self.quiet.comes()
        if self.waits_to_receive and not (put_off or self.blocked or self.judge.folding.owes):
            notification = self.listener.receive()
            if notification is not None:
                return NOTIFIED, notification
            # a signal, a caller that died at once, or the end: poll tells them apart
        patience = BLOCKED_POLL if self.blocked else self.judge.folding.patience()
        ready = self.poll.poll(Quiet.patience(patience) if put_off else patience)
        if not ready:
            if self.quiet is not None:
                self.quiet.now()
            return TICK, None
        if ready[0][1] & select.POLLIN:
            return NOTIFIED, self.listener.receive()
        # POLLERR alone: a signal came while the kernel waited for a lock (seccomp_notify_poll)
        return (ENDED if ready[0][1] & select.POLLHUP else TICK), None

    def dispatch_event(self, event: str, notification: Notification | None) -> None:
        """Act on one event. A caller that is gone is nobody's failure."""
        self.judge.folding.tick()
        if self.blocked and (started := time.monotonic()) >= self.next_look:
            self._look_after_blocked()
            # many blocked calls must not slow all others down: a tenth of the time is for them
            ended = time.monotonic()
            self.next_look = ended + max(BLOCKED_POLL / 1000, 9 * (ended - started))
        if event != NOTIFIED or notification is None:
            return
        if notification.arch == AUDIT_ARCH_X86_64:
            name = NAMES.get(notification.nr) or f"#{notification.nr}"
            call = Call(self.listener, notification, name, self.statuses.read, self.steady)
        else:
            from certexec.run.foreign_call import ForeignCall  # few programs have such calls

            call = ForeignCall(
                self.listener, notification, self.statuses.read, self.steady, self.mask
            )
        self.attempt(call, self._answer if self.trace is None else self._begin)

    def attempt(self, call: Call, action: Callable[[Call], bool]) -> None:
        """Do something that answers a call, unless it says that it keeps it; deny what fails."""
        kept = False
        try:
            kept = action(call)
        except GoneError:
            if not call.answered:
                self._release(call.notification.cookie)
        except Fault as fault:
            call.fail(fault.code)
        except CertexecError as error:
            self.judge.note(f"internal: {error.message}")
            call.fail(errno.EPERM)
        except Exception as error:  # whatever a program's bytes can bring about must not end us
            if not call.answered:
                self.judge.note(f"internal: {call.name}: {error.__class__.__name__}: {error}")
                call.fail(errno.EPERM)  # fail closed: what could not be judged is denied
        finally:
            if not kept:
                self.finished(call)

    def _release(self, cookie: int) -> None:
        """Deny the call of who seems to be gone: perhaps we only had no descriptor to look with."""
        self.listener.answer(cookie, error=errno.EPERM)

    def finished(self, call: Call) -> None:
        """The call has its answer."""
        self.home.answered(call)
        if self.trace is not None:
            self.trace.leave(call)

    # -- one call -----------------------------------------------------------------------------

    def _begin(self, call: Call) -> bool:
        if self.trace is not None:
            self.trace.enter(call)
        return self._answer(call)

    def _answer(self, call: Call) -> bool:
        """Answer one call, or hand it to a worker (True: the worker owns it now)."""
        if not self.transitions.one_policy:
            place = self.transitions.of(call.process)
            if place == NONE:
                self.judge.note(f"process {call.task.tgid} is nobody's child")
                call.fail(errno.EPERM)
                return False
            call.place = place
        if call.foreign and not call.is_admitted(self.judge, self.places):
            return False
        if self.judge.policies[call.place].no_dotdot:
            call.look = self.look
        decision = call.decide(self.tables[call.place])
        why, code = decision.why, decision.errno
        if self.judge.narrowing.stops(call, decision, self.manner.permissive):
            return False
        self.home.watch(call)
        if why == guards.RULES:
            return self._by_rules(call)
        if why in guards.ASKS:
            return ask_about(self, call, why)
        emulated = why == guards.PROTECTION or (call.copied and decision.permitted)
        if emulated and call.name in OPERATIONS:
            return self._carry_out_permitted(call, decision.log)
        if decision.permitted and decision.log:
            self.judge.log(call, "permit", "rule", 0)
        if why == guards.EXEC:
            self.home.check(call)
            return self.execs.execute(call, by_rules=False)
        elif why == guards.NESTED:
            self.nested.question(call)
        elif why == guards.ADOPT:
            self.adoption.answer(call)
        elif why == guards.FORK:
            self.registers.fork(call)
        elif why == guards.PROTECTION:
            self.protect(call)
        elif decision.permitted:
            call.resume()  # a plain permit: nothing about the arguments was judged
        elif decision.kind == guards.KILL or why == guards.KILLS:
            self.judge.log(call, "kill", "rule", 0)
            if self.manner.permissive:
                return self._let_happen(call)
            kill_caller(call)
        elif decision.kind == guards.DENY:
            call.fail(code)  # what the kernel would have done, had all policies said the same
        else:
            if why != guards.DENIED or decision.log or self.manner.log_denials:
                self.judge.log(call, "deny", why, code or errno.EPERM, describe(self, call))
            if self.manner.permissive:
                return self._let_happen(call)
            call.fail(code or errno.EPERM)
        return False

    def _let_happen(self, call: Call) -> bool:
        """Only with ``certexec run --permissive``: the denial is written down, that is all."""
        if call.name in OPERATIONS:
            return self._emulate(call, judged=False, log=False)
        call.resume()
        return False

    def forbids(self, call: Call) -> bool:
        """Deny a call that nobody can permit (True): it is aimed at us, or at others' policies."""
        own = self.resolver.own_tgid
        if call.name == "pidfd_send_signal":
            return False  # its target is looked at when it is sent
        code = concerns_supervisor(call, own) or concerns_others(call, self.transitions)
        if code == errno.EPERM:
            self.judge.log(call, "deny", guards.PROTECTION, code)
        if code:
            call.fail(code)
        return code != 0

    def protect(self, call: Call, target: Target | None = None) -> None:
        """Let a call happen that may not be aimed at the supervisor, or at others' policies."""
        own = self.resolver.own_tgid
        if call.name == "pidfd_send_signal":
            self.home.check(call)
            call.task.mask = self.mask
            try:
                self.mask.assume(call.status)
                send_signal(call, own)
            except OSError as error:
                call.fail(error.errno or errno.EPERM)
            finally:
                self.mask.restore()
            return
        if self.forbids(call):
            return
        if not self.transitions.one_policy and call.name in INTO_OTHERS:
            see_to_its_end(call)  # until then nobody's policy changes
        elif target is not None:
            target.signal(call, self.mask)
        else:
            call.resume()  # judged by registers alone

    def _by_rules(self, call: Call) -> bool:
        if call.name in EXECS:
            self.home.check(call)
            return self.execs.execute(call, by_rules=True)
        if call.name not in OPERATIONS:
            return self.registers.answer(call)
        return self._emulate(call, judged=True, log=False)

    def _carry_out_permitted(self, call: Call, log: bool) -> bool:
        """A call that any argument is permitted for, and that must not reach our own /proc."""
        return self._emulate(call, judged=False, log=log)

    def _emulate(self, call: Call, judged: bool, log: bool) -> bool:
        """Prepare with the caller's rights, judge without, perform with them again."""
        self.home.check(call)
        real_ids = wants_real_ids(call)
        prepare = OPERATIONS[call.name]
        operation = self.elevation.prepare(call, prepare, real_ids) if judged else None
        if operation is None:
            call.task.mask = self.mask
            call.put_off_check()  # what is done with these rights is to look, and to pin
            try:
                self.mask.assume(call.rights, real_ids)
                operation = prepare(call, self.resolver)
            finally:
                self.mask.restore()
        keep = False
        try:
            call.check()
            if judged and not self.permitted(operation):
                return False
            if self.asking.is_our_place(operation):
                self.judge.log(call, "deny", guards.PROTECTION, errno.EPERM, operation.values)
                call.fail(errno.EPERM)
                return False
            if log:
                self.judge.log(call, "permit", "rule", 0, operation.values)
            if operation.asked:
                keep = True  # from here on by who waits for the answer
                return self.ask(operation, lambda: self._perform(operation, real_ids))
            keep = self._perform(operation, real_ids)
            return keep
        finally:
            if not keep:
                operation.close()

    def _perform(self, operation: Operation, real_ids: bool) -> bool:
        """Carry a permitted call out, or hand it to a worker (True: the worker owns it now)."""
        operation.patient = operation.may_block()
        if not operation.patient:
            self.carry_out(operation, self.mask, real_ids)
        if not operation.patient:
            return False
        worker = Worker(self, operation, real_ids)
        try:
            worker.start()
        except RuntimeError:
            raise Fault(errno.ENOMEM) from None  # no thread to be had
        return self.wait_for(worker)

    def wait_for(self, waiting: Worker | Waiting) -> bool:
        """Look after a call from now on; True: it is kept."""
        self.blocked[waiting.operation.call.notification.cookie] = waiting
        return True

    def ask(self, operation: Operation, go_on: Callable[[], bool]) -> bool:
        """Ask whoever may answer; the operation belongs to who waits for that."""
        try:
            waiting = Waiting(self, operation, go_on)
        except BaseException:
            operation.close()
            raise
        return waiting.conclude() if waiting.done else self.wait_for(waiting)

    def permitted(self, operation: Operation) -> bool:
        """Judge a prepared call; a denial is answered and, where due, logged here."""
        operation.judge = None if self.manner.permissive else self.judge
        for values in (*operation.also, operation.values):
            operation.values = values
            if not self._reading_permitted(operation):
                return False
        if operation.asked:  # what is lost by then counts once there is an answer
            return not self.judge.narrowing.has_lost(operation)
        return not self.judge.narrowing.stops_use(operation, self.manner.permissive)

    def _reading_permitted(self, operation: Operation) -> bool:
        verdict = operation.verdict = self.judge.judge(operation)
        unmatched = verdict is None or verdict.rule is UNMATCHED_ASK
        if verdict is not None and asks_for_rights(verdict.rule) != bool(operation.elevated):
            verdict = None  # nobody granted it, or with those rights the name leads elsewhere
        if verdict is not None and verdict.action == "permit":
            if verdict.log or self.manner.log_permits:
                self.judge.log(
                    operation.call, "permit", "rule", 0, operation.values, operation.elevated
                )
            return True
        if verdict is not None and verdict.action == "ask":
            return self._leave_to_agent(operation, unmatched)
        if verdict is not None and verdict.action == guards.KILL:
            self.judge.log(operation.call, "kill", "rule", 0, operation.values)
            if not self.manner.permissive:
                kill_caller(operation.call)
            return self.manner.permissive
        code = errno.EPERM if verdict is None else verdict.errno or errno.EPERM
        if verdict is None or verdict.log or self.manner.log_denials:
            reason = guards.UNMATCHED if verdict is None else "rule"
            self.judge.log(operation.call, "deny", reason, code, operation.values)
        if self.manner.permissive:
            return True
        operation.call.fail(code)
        return False

    def _leave_to_agent(self, operation: Operation, unmatched: bool) -> bool:
        """Note that somebody has to be asked, unless that was answered for good."""
        values = operation.values
        if self.manner.permissive:
            reason = guards.UNMATCHED if unmatched else guards.ASK
            self.judge.log(operation.call, "deny", reason, errno.EPERM, values)
        elif not self.asking.remembers(operation, values):
            operation.asked.append((values, unmatched))
        return True

    def carry_out(self, operation: Operation, mask: Mask, real_ids: bool) -> None:
        """Perform with the caller's rights and answer; errors become the caller's errno."""
        call = operation.call
        call.task.mask = mask
        try:
            mask.assume(operation.rights, real_ids)
            operation.perform()
        except MustWait:
            operation.patient = True
        except Fault as fault:
            call.fail(fault.code)
        except OSError as error:
            if not call.answered:
                call.fail(error.errno or errno.EIO)
        finally:
            mask.restore()

    # -- calls that block ---------------------------------------------------------------------

    def _look_after_blocked(self) -> None:
        """Break off blocking calls whose caller was signalled or has gone."""
        for cookie, worker in list(self.blocked.items()):
            if worker.done:
                del self.blocked[cookie]
                worker.settle()
            elif not self.listener.is_valid(cookie) or worker.signal_pending():
                worker.interrupt()
