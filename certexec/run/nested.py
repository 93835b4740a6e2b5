"""Certificates that are executed inside a confined tree: judged here, applied by their launcher.

The kernel starts the launcher, inside the tree's filter. No server is started: its first call is a
question, which the filter hands to us. What we judge is what a normal run judges, on the launcher's
own word for nothing but its existence:

1. at the exec stop: what runs is the launcher, and what it was started for is the judged file;
2. at its question: the certificate, the invoker, the binary; the answer is the plan, or why not;
3. at its second question: the binary;
4. at the stop of its own exec: the binary again, and the ids; from there on both policies count.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from certexec.errors import CertexecError, RunError, TrustError
from certexec.kernel import memfd
from certexec.kernel.digest import sha256
from certexec.kernel.ownership import check_file, root_owners
from certexec.kernel.procfs import own_fd, proc, read_file, read_status
from certexec.policy.guards import NESTED
from certexec.reasons import EXIT_INTERNAL
from certexec.run import environment, integrity
from certexec.run.call import Call, Fault
from certexec.run.channel import plan_head, refusal
from certexec.run.decide import policy_inside, read_certificate, reason_line, verify
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.exec_guard import excess, guard
from certexec.run.identity import Permitted
from certexec.run.invocation import admit
from certexec.run.invoker import Invoker
from certexec.run.layout import SYSTEM
from certexec.run.plan_build import build_plan
from certexec.run.secure_start import start_securely
from certexec.run.transitions import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.credentials import Mask
    from certexec.kernel.procfs import Status
    from certexec.run.integrity import Judged
    from certexec.run.judge import Judge
    from certexec.run.places import Places
    from certexec.run.resolve import Resolver
    from certexec.run.transitions import Transitions

ASK_PLAN, ASK_PROGRAM = 0, 1
"""What the launcher asks for, in the second register of its question."""
UNNAMED = "no rule on exec names this certificate; a pattern names none"
UNASKED = "no certificate that a rule names was executed"
"""Why nobody gets an answer, for the log."""
LAUNCHER_ARGUMENTS = 2
"""What binfmt_misc puts before argv[0]: the launcher and the certificate's path."""
LAUNCHES_MAX = 16
"""launchers between their exec and the program's before those that died there are looked for."""
_AT_EXECFD = 2
_WORD = 8


class Nested:
    """The certificates of one tree.

    ``gains``: the tree holds a grant, which what runs inside keeps.
    """

    def __init__(
        self, places: Places, judge: Judge, transitions: Transitions, resolver: Resolver,
        mask: Mask, gains: bool,
    ) -> None:  # fmt: skip
        self.places = places
        self.judge = judge
        self.transitions = transitions
        self.resolver = resolver
        self.mask = mask
        self.gains = gains
        self.launches: dict[int, Launch] = {}

    @property
    def possible(self) -> bool:
        """Whether any certificate can be executed in this tree."""
        return self.places.launcher != NONE

    def knows(self, certificate: int) -> bool:
        """Tell whether a file is a certificate that a rule named when the tree started."""
        try:
            readable = os.open(own_fd(certificate), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return self.places.of_certificate(sha256(read_certificate(readable))) != NONE
        except RunError:
            return False
        finally:
            os.close(readable)

    def started(self, pid: int, base: int) -> int:
        """Take the launcher in that stands at its exec stop; returns its place.

        ``base``: under which policy the certificate is executed.
        """
        if len(self.launches) >= LAUNCHES_MAX:
            self._forget_the_dead()
        self._forget(pid)
        apart = base != self.transitions.of(pid)
        self.launches[pid] = Launch(certificate_descriptor(pid), base, apart)
        return self.places.launcher

    def question(self, call: Call) -> None:
        """Answer prctl(0x43584543): of a launcher that was taken in, and of nobody else."""
        task = call.task
        launch = self.launches.get(task.tgid)
        asked = call.arg(1)
        its = self.transitions.of(task.tgid) == self.places.launcher and task.tid == task.tgid
        if launch is not None and its and asked == ASK_PLAN and not launch.answered:
            launch.answered = True
            self._give(call, self._reply(call, launch))
        elif launch is not None and its and asked == ASK_PROGRAM and launch.judged is not None:
            call.finish_with_fd(launch.judged.exec_fd, close_on_exec=True)
        else:
            self.judge.log(call, "deny", NESTED, errno.EBUSY, {"because": [UNASKED]})
            call.fail(errno.EBUSY)

    def execute(self, call: Call) -> None:
        """Let the launcher execute what was judged, and see that it does.

        ``call`` is one of somebody in the launcher's place.
        """
        launch = self.launches.get(call.task.tgid)
        if launch is None or launch.judged is None:
            call.fail(errno.EPERM)
            return
        before = call.rights
        killed = guard(call, lambda pid: self._objection(before, launch, pid))
        if killed:
            values = {"because": [killed]}
            self.judge.log(call, "deny", "exec-outcome", errno.EPERM, values)
        if killed or launch.done:
            self._forget(call.task.tgid)

    # -- the judgement ------------------------------------------------------------------------

    def _reply(self, call: Call, launch: Launch) -> bytes:
        """Return the plan in its message, or the refusal; the latter is logged, too."""
        name = "certexec"
        try:
            invoker = Invoker(call.task.tgid, inside=True)
            argv = invoker.argv(LAUNCHER_ARGUMENTS)
            name = os.path.basename(argv[0])[:64].decode("utf-8", "replace") if argv else name
            plan = self._approve(call, launch, invoker, argv)
            return plan_head(plan) + plan
        except CertexecError as error:
            reason, code, line = error.reason, error.exit_code, reason_line(error, name)
        except (OSError, ValueError, KeyError, AssertionError, MemoryError, Fault) as error:
            reason, code = "internal", EXIT_INTERNAL
            line = f"{name}: internal error: {type(error).__name__}: {error} (internal)"
        launch.close()
        self.judge.log(call, "deny", reason, errno.EPERM, {"because": [line]})
        return refusal(code, line)

    def _approve(
        self, call: Call, launch: Launch, invoker: Invoker, argv: list[bytes]
    ) -> bytes:
        """Prove the certificate's statements; the order is that of ``certexec.run.decide``.

        1. the certificate: signature, validity, constraints; it grants nothing, nor does its file;
        2. it is one whose policy this tree's filter was made for, to the byte;
        3. the invoker is on the list, with these arguments, now;
        4. the policy is the one that was signed;
        5. the binary, with the caller's rights;
        6. the plan.
        """
        typed = invoker.environment()
        fd = copy_descriptor(call, launch.descriptor)
        try:
            mode = os.fstat(fd).st_mode
            data = read_certificate(fd)
        finally:
            os.close(fd)
        call.task.mask = self.mask
        self.mask.assume(call.status)
        try:
            # 1.
            certificate = verify(data, self.places.store, self.places.owners).certificate
            if mode & (stat.S_ISUID | stat.S_ISGID):
                raise RunError(
                    "setuid-denied", "inside a confined program nobody gets an identity",
                    "execute it from outside",
                )  # fmt: skip
            policy_inside(certificate)  # 4., and 1.: no grant
            # 2.
            inner = self.places.of_certificate(sha256(data))
            if inner == NONE:
                raise RunError(
                    "nested",
                    "no rule around this program named this very certificate when it started; "
                    "a pattern names none",
                    'name it in a rule: execve: filename eq "PATH" then permit',
                )
            launch.place = self.places.over(launch.base, inner)
            # 3.
            admit(certificate.invocation, invoker, argv, time.time())
            # 5.
            permitted = launch.permitted = Permitted(invoker)
            permitted.euid, permitted.egid = invoker.euid, invoker.egid
            judged = launch.judged = integrity.judge(certificate, permitted, False, self.gains)
            judged.confirm_content()
            # 6.
            entries = environment.build(certificate.environment, typed, invoker.uid, False)
            plan = build_plan(certificate, permitted, None, judged, entries).encode()
        finally:
            self.mask.restore()
        if judged.is_script:
            info = os.fstat(judged.exec_fd)
            self.resolver.named[info.st_dev, info.st_ino] = certificate.program.path
        return plan

    def _give(self, call: Call, message: bytes) -> None:
        fd = memfd.create("certexec-plan")
        try:
            os.write(fd, message)
            memfd.seal(fd, 0o400)
            call.finish_with_fd(fd, close_on_exec=True)
        finally:
            os.close(fd)

    def _objection(self, before: Status, launch: Launch, pid: int) -> str:
        assert launch.judged is not None
        assert launch.permitted is not None
        try:
            integrity.confirm_at_exec_stop(pid, launch.judged)
            integrity.confirm_identity(read_status(pid), launch.permitted, False)
        except CertexecError as error:
            return error.message
        if gained := excess(before, pid):
            return gained
        if launch.apart:
            start_securely(pid)  # it may do what its caller may not
        self.transitions.executed(pid, launch.place)
        launch.done = True
        return ""

    # -- who died on the way ------------------------------------------------------------------

    def _forget(self, pid: int) -> None:
        launch = self.launches.pop(pid, None)
        if launch is not None:
            launch.close()

    def _forget_the_dead(self) -> None:
        for pid in list(self.launches):
            if self.transitions.of(pid) != self.places.launcher or not _lives(pid):
                self._forget(pid)


class Launch:
    """One launcher, from its exec to that of the program.

    Attributes:
        descriptor: its own of the certificate.
        base: the place under which it was executed; apart: that is not its caller's, which a rule
            on exec let go.
        answered: it has its plan or its refusal; done: the program runs.
        judged, permitted, place: the binary, its ids and its place, once they are judged.
    """

    __slots__ = (
        "answered", "apart", "base", "descriptor", "done", "judged", "permitted", "place",
    )  # fmt: skip

    def __init__(self, descriptor: int, base: int, apart: bool) -> None:
        self.apart = apart
        self.descriptor = descriptor
        self.base = base
        self.answered = self.done = False
        self.judged: Judged | None = None
        self.permitted: Permitted | None = None
        self.place = NONE

    def close(self) -> None:
        """Give the binary back."""
        if self.judged is not None:
            for fd in {self.judged.fd, self.judged.exec_fd}:
                os.close(fd)
            self.judged = None


def _lives(pid: int) -> bool:
    try:
        read_file(proc(pid, "stat"))
    except OSError:
        return False
    return True


def certificate_descriptor(pid: int) -> int:
    """Return the descriptor that the kernel opened for a launcher; raises OSError where none is."""
    words = read_file(proc(pid, "auxv"))
    for at in range(0, len(words), 2 * _WORD):
        if int.from_bytes(words[at : at + _WORD], "little") == _AT_EXECFD:
            return int.from_bytes(words[at + _WORD : at + 2 * _WORD], "little")
    raise OSError(errno.EBADF, "the kernel started nothing for a certificate")


def runs_launcher(pid: int, certificate: int) -> bool:
    """Tell whether ``pid``, at its exec stop, is the launcher, started for this very certificate.

    ``certificate`` is an open descriptor of it. The launcher is the file that set-up put in place,
    root's in directories of root's; with the name of another file a program gains nothing.
    """
    try:
        launcher = check_file(SYSTEM.launcher, root_owners())
    except (TrustError, OSError):
        return False  # there is none
    try:
        its = proc(pid, "fd", certificate_descriptor(pid))
        return os.path.samestat(os.stat(proc(pid, "exe")), os.fstat(launcher)) and (
            os.path.samestat(os.stat(its), os.fstat(certificate))
        )
    except OSError:
        return False
    finally:
        os.close(launcher)
