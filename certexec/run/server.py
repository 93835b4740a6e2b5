"""One execution from the server's side: ask, decide, trace the exec, supervise.

The same code serves a certificate that the kernel started and ``certexec run``; only the settings
differ. Every refusal reaches the user through the launcher, which prints it and ends.
"""

from __future__ import annotations

import _signal
import fcntl
import gc
import os
import select

from certexec.errors import CertexecError, RunError
from certexec.kernel import ptrace
from certexec.kernel.credentials import forbid_attach
from certexec.kernel.libc import syscall
from certexec.kernel.ownership import root_owners
from certexec.kernel.procfs import read_status, settle_in
from certexec.reasons import EXIT_INTERNAL
from certexec.run.channel import Channel
from certexec.run.decide import Approved, decide, reason_line
from certexec.run.first_call import FirstCaller, read_ahead
from certexec.run.integrity import confirm_at_exec_stop, confirm_identity
from certexec.run.invoker import KERNEL_ARGUMENTS, Invoker
from certexec.run.layout import SYSTEM
from certexec.run.quiet import Quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certexec.observe.sink import Sink
    from certexec.run.known import Known
    from certexec.run.supervisor import Supervisor, Tracer

SIGCHLD = 17
SIGKILL = 9
STDERR = 2
READABLE_HINT = 'its owner lets you with "chmod a+r"; "certexec install" makes it so'
"""What to do about a certificate that its user may not read."""
TELL_LIMIT = 500
"""milliseconds to wait for room on a dying program's stderr; it stands still meanwhile."""
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438
DONE = 0
ROOM = 64
"""descriptors: some 20 of the server's own, and a few for each call that blocks in a worker."""


class Settings:
    """What differs between the ways in.

    Attributes:
        store: directory of trusted keys; owners: who besides root may own it.
        may_grant: whether identities may be given at all.
        certificate_fd: an already open certificate, -1 to get it from the launcher.
        sinks: where events go; None for those of the machine (certexec.observe.sinks).
        trace: gets each supervised call; arguments_before: arguments in front of argv[0].
        notify_denials: write down every call that no rule permits, whatever the certificate's
            log says; permissive: and let it happen; unmatched: "ask" or "deny", where the
            certificate is not to say what becomes of calls that no rule matches. Never together
            with ``may_grant``.
        status_fd: gets one JSON line when the program runs or is refused, -1 for none.
        before_supervision: called once, before the supervisor's modules are imported.
        known: what was judged before, in the resident server; started: called when the program
            begins to run; quiet: called when nobody waits for what a program asked, or never;
            admit: called before anything is answered or anybody is touched.
    """

    __slots__ = (
        "admit", "arguments_before", "before_supervision", "certificate_fd", "known", "may_grant",
        "notify_denials", "owners", "permissive", "quiet", "sinks", "started", "status_fd",
        "store", "trace", "unmatched",
    )  # fmt: skip

    def __init__(
        self,
        store: str = SYSTEM.trust_store,
        owners: frozenset[int] | None = None,
        may_grant: bool = True,
        certificate_fd: int = -1,
        sinks: Sequence[Sink] | None = None,
        trace: Tracer | None = None,
        arguments_before: int = KERNEL_ARGUMENTS,
    ) -> None:
        self.store = store
        self.owners = root_owners() if owners is None else owners
        self.may_grant = may_grant
        self.certificate_fd = certificate_fd
        self.sinks = sinks
        self.trace = trace
        self.arguments_before = arguments_before
        self.notify_denials = False
        self.permissive = False
        self.unmatched = ""
        self.status_fd = -1
        self.before_supervision: Callable[[], None] = _nothing_to_load
        self.known: Known | None = None
        self.admit: Callable[[Channel], None] = _everybody
        self.started: Callable[[Approved], None] | None = None
        self.quiet: Callable[[], None] | None = None

    def report(self, event: str, pid: int, reason: str = "") -> None:
        """Write one line to ``status_fd``: what happened to which process, and why."""
        if self.status_fd < 0:
            return
        tail = f', "reason": "{reason}"' if reason else ""
        line = f'{{"schema": 1, "event": "{event}", "pid": {pid}{tail}}}\n'
        try:
            os.write(self.status_fd, line.encode())
        except OSError:
            return  # whoever asked does not listen any more


def _nothing_to_load() -> None:
    """What is imported where everything stands in files of its own."""


def _everybody(channel: Channel) -> None:
    """Who is admitted where the launcher itself has started this process."""


def self_test(settings: Settings) -> int:
    """Prove that everything a run needs can be loaded, and that libc and kernel answer."""
    settings.before_supervision()
    import certexec.run.supervise  # noqa: F401 - loaded only where a policy needs it
    from certexec.trust.keys import probe_library

    probe_library()
    read_status(os.getpid())
    return DONE


def serve(socket_fd: int, settings: Settings) -> int:
    """Serve one execution to its end; returns the exit code of the server process itself."""
    return attend(Channel(socket_fd), settings, _meet)


def _meet(channel: Channel, settings: Settings) -> None:
    """Find out who asks; our own memory is nobody's business from here on."""
    forbid_attach()
    settle_in()
    if settings.certificate_fd >= 0:  # the run form, where we were there first
        channel.send_ready()
    hello = channel.recv_hello()
    if settings.certificate_fd < 0:
        settings.certificate_fd = hello.cert_fd


def attend(
    channel: Channel, settings: Settings, meet: Callable[[Channel, Settings], None]
) -> int:
    """Serve the launcher at the other end; ``meet`` leaves the certificate in ``settings``."""
    invoker = None
    try:
        # 1. who asks
        meet(channel, settings)
        invoker = Invoker(channel.peer_pid)
        fd = settings.certificate_fd
        # 2. judge; nothing has been promised yet
        approved = decide(
            fd,
            invoker,
            settings.store,
            settings.owners,
            may_grant=settings.may_grant,
            kernel_arguments=settings.arguments_before,
            notify_denials=settings.notify_denials and not settings.may_grant,
            known=settings.known,
            unmatched="" if settings.may_grant else settings.unmatched,
        )
        # all that touches nobody comes before it is known who asks, which may take a moment
        _check_room()
        children = _watch_children()
        settings.admit(channel)
        # 3. seize the launcher before it installs the filter: afterwards an unprivileged child
        #    might no longer do so, and the exec must not be missed
        try:
            ptrace.seize(invoker.pid)
        except OSError as error:
            raise _not_traced(error, fd) from None
        # 4. its end is closed when it has ended, and then its number may be anybody's; whoever
        #    holds it now must not die with us
        if channel.is_over():
            _let_go(invoker.pid)
            raise RunError("internal", "the launcher ended")
    except CertexecError as error:
        settings.admit(channel)
        name = _typed_name(invoker, settings.arguments_before)
        channel.send_refusal(error.exit_code, reason_line(error, name))
        settings.report("refused", channel.peer_pid, error.reason)
        return DONE
    except (OSError, ValueError, KeyError, AssertionError, MemoryError) as error:
        settings.admit(channel)
        name = _typed_name(invoker, settings.arguments_before)
        line = f"{name}: internal error: {type(error).__name__}: {error} (internal)"
        channel.send_refusal(EXIT_INTERNAL, line.replace("\n", " "))
        return EXIT_INTERNAL
    return _Execution(channel, invoker, approved, settings, children).run()


def _not_traced(error: OSError, certificate: int) -> RunError:
    """Say why the launcher cannot be seized.

    A process that executed a file which it may not read cannot be dumped, nor traced by its user.
    """
    if not os.access(f"/proc/self/fd/{certificate}", os.R_OK):
        return RunError(
            "certificate-unreadable",
            "you may not read the certificate, which running it takes",
            READABLE_HINT,
        )
    return RunError(
        "kernel-unsupported",
        f"the program cannot be traced: {error.strerror}",
        'see "certexec doctor"',
    )


def _typed_name(invoker: Invoker | None, before: int) -> str:
    try:
        argv = [] if invoker is None else invoker.argv(before)
    except OSError:
        argv = []  # it has ended
    name = os.path.basename(argv[0]) if argv else b""
    text = name[:64].decode("utf-8", "replace")
    return text if text.isprintable() and text else "certexec"


def _check_room() -> None:
    """Raise RunError("internal") where an invoker's limit would stop the server half-way."""
    try:
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, ROOM - 1))
    except OSError:
        raise RunError(
            "internal",
            "the hard limit on open files leaves the policy server no room",
            f"it needs {ROOM} (ulimit -Hn)",
        ) from None


def _watch_children() -> int:
    """Return a descriptor that becomes readable when a tracee stops or ends."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(SIGCHLD, _nothing)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _nothing(signal: int, frame: object) -> None:
    """The wake-up descriptor does the work."""


class _Execution:
    """From the plan to the exec stop, then supervision for as long as the program lives."""

    def __init__(
        self,
        channel: Channel,
        invoker: Invoker,
        approved: Approved,
        settings: Settings,
        children: int,
    ) -> None:
        self.channel = channel
        self.invoker = invoker
        self.approved = approved
        self.settings = settings
        self.children = children
        self.listener = -1
        self.supervisor: Supervisor | None = None
        self.first: FirstCaller | None = None

    def run(self) -> int:
        self.channel.send_plan(self.approved.plan, self.approved.judged.exec_fd)
        if self.approved.compiled.needs_listener and self.settings.known is not None:
            self.supervisor = self._supervisor()  # all is loaded: while the plan is applied
            read_ahead(self.supervisor.statuses, self.invoker.pid)
        if not self._follow_to_exec():
            return DONE
        self.channel.close()
        if self.listener < 0:
            self._keep_plan()
            self._forget_what_is_done()
            return DONE
        # loaded while the program starts: what it asks meanwhile waits at the listener, and would
        # fail if this did
        supervisor = self.supervisor or self._supervisor()
        self._forget_what_is_done()
        if self.settings.known is None:  # else the resident server has done so
            gc.freeze()  # what is loaded stays; only what calls leave behind is looked at
        if self.settings.quiet is not None:
            supervisor.quiet = Quiet(self.settings.quiet)
        supervisor.run(self.listener, self.first)
        os.close(self.listener)
        return DONE

    def _keep_plan(self) -> None:
        """Let the next start do without a server, where root may say so."""
        by_kernel = self.settings.arguments_before == KERNEL_ARGUMENTS
        if os.geteuid() == 0 and by_kernel and self.settings.store == SYSTEM.trust_store:
            # the program runs: nobody waits for this
            from certexec.run.cacheable import keep

            keep(self.settings.certificate_fd, self.invoker, self.approved)

    def _supervisor(self) -> Supervisor:
        self.settings.before_supervision()
        from certexec.run.supervise import supervisor_for

        return supervisor_for(self.approved, self.invoker, self.settings)

    def _follow_to_exec(self) -> bool:
        """Wait for listener and exec stop, in whichever order; True when the program runs on.

        Once there is a listener, or none will come, only the launcher's own stops count. Waiting
        for the next takes one call then; to be told by signal, descriptor and poll takes five.
        """
        wants_listener = waits = self.approved.compiled.needs_listener
        stopped = False
        poll = select.poll()
        poll.register(self.children, select.POLLIN)
        poll.register(self.channel.fileno(), select.POLLIN)
        while not stopped or (wants_listener and self.listener < 0):
            for fd, _ in poll.poll() if waits else ():
                if fd == self.children:
                    os.read(self.children, 4096)
                    continue
                self.listener = self.channel.recv_listener()
                waits = False  # where there is none the launcher refused: its end comes by waitpid
            while True:
                event = ptrace.wait(self.invoker.pid, block=not waits)
                if event is None and waits:
                    break
                if event is None or event.kind == ptrace.ENDED:
                    return False
                if event.kind == ptrace.EXEC_STOP:
                    stopped = True
                    break  # it stays stopped until everything is in place
                _go_on(event)
        return self._judge_stopped()

    def _judge_stopped(self) -> bool:
        """At the exec stop: what runs and as whom; then let go, or kill."""
        pid = self.invoker.pid
        try:
            confirm_at_exec_stop(pid, self.approved.judged)
            # the supervisor's reader keeps the file open for the first call
            read = read_status if self.supervisor is None else self.supervisor.statuses.read
            status = read(pid)
            confirm_identity(status, self.approved.permitted, self.approved.grant)
        except (CertexecError, OSError, KeyError, ValueError) as error:
            if not isinstance(error, CertexecError):
                error = RunError("internal", f"the exec stop cannot be judged: {error}")
            name = self.approved.certificate.claims.sub
            self._tell(f"certexec: {reason_line(error, name)}\n")
            os.kill(pid, SIGKILL)
            self._note(f"killed pid: {pid}, {reason_line(error, name)}")
            self.settings.report("killed", pid, error.reason)
            return False
        self.settings.report("runs", pid)
        try:
            ptrace.detach(pid)
        except OSError:
            return False  # killed meanwhile by somebody who may
        if self.supervisor is not None:
            self.first = FirstCaller(pid, status)
        if self.settings.started is not None:
            self.settings.started(self.approved)
        return True

    def _note(self, text: str) -> None:
        from certexec.observe.rate import Folding
        from certexec.observe.sinks import machine_sinks

        sinks = machine_sinks() if self.settings.sinks is None else self.settings.sinks
        folding = Folding(sinks, machine_sinks)
        folding.note(text)
        folding.close()

    def _tell(self, line: str) -> None:
        """Write to the stopped program's own stderr: nobody else can tell its user why it dies."""
        try:
            pidfd = syscall(_PIDFD_OPEN, self.invoker.pid, 0)
            fd = syscall(_PIDFD_GETFD, pidfd, STDERR, 0)
            room = select.poll()
            room.register(fd, select.POLLOUT)
            if room.poll(TELL_LIMIT):  # nobody may put the kill off by not reading
                os.write(fd, line.encode("utf-8", "replace"))
            os.close(fd)
            os.close(pidfd)
        except OSError:
            return

    def _forget_what_is_done(self) -> None:
        """Close what only the start needed: an open binary keeps its file system busy."""
        os.close(_signal.set_wakeup_fd(-1))
        _signal.signal(SIGCHLD, _signal.SIG_DFL)
        os.close(self.children)
        judged = self.approved.judged
        for fd in {judged.fd, judged.exec_fd, self.settings.certificate_fd}:
            if fd >= 0:
                os.close(fd)


def _let_go(pid: int) -> None:
    """Stop tracing a process that runs, whatever it does."""
    try:
        ptrace.interrupt(pid)
    except OSError:
        pass  # it stands, or is about to end: there is something to wait for
    event = ptrace.wait(pid)
    if event is not None and event.kind != ptrace.ENDED:
        ptrace.release(pid, event.signal)


def _go_on(event: ptrace.Event) -> None:
    try:
        if event.kind == ptrace.GROUP_STOP:
            ptrace.listen(event.pid)  # ^Z before the exec: stay stopped until SIGCONT
        else:
            ptrace.resume(event.pid, event.signal)
    except OSError:
        return


