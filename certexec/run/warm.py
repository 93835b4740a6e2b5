"""One process of the resident server: with everything loaded, it waits for an execution to serve.

With its first request it becomes what a server would be that this launcher had started
(certexec.run.peer); from there on it is the same code. When the program and all that came of it
have ended, it may serve the same invoker again, for what it has touched of its memory is its own
by then: fresh memory is most of what a start costs. Whoever has served a grant serves nobody else.
"""

from __future__ import annotations

import _signal
import _socket
import array
import gc
import marshal
import os

from certexec.errors import CertexecError
from certexec.kernel.libc import syscall
from certexec.kernel.packets import CREDENTIALS, peek
from certexec.kernel.procfs import go_home, own_directory, proc, read_file
from certexec.run.channel import Channel, parse_hello
from certexec.run.decide import confinement_of
from certexec.run.peer import Caller, ElsewhereError, has_ended, resemble
from certexec.run.server import Settings, attend
from certexec.run.signals import AGAIN, SIGCHLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.decide import Approved
    from certexec.run.known import Known
    from certexec.run.peer import Surroundings
    from certexec.run.request import Request

LEASH = 3
"""The descriptor of the socket to the resident server; above it stay ``kept`` ones."""
FIRST_FREE = 5
VIEW = 4
"""The descriptor of this server's view of /proc (procfs.settle_in)."""
_CLOSE_RANGE = 436
_ANY = 0xFFFFFFFF
TOLD_MAX = 128 << 10
"""bytes of a policy that others learn; a longer one does not fit into one packet."""
SIGNALS = (*AGAIN, SIGCHLD)
"""What the resident server listens to, and its children do not."""
SETTLED, TASK, EARLY, GO, RUNS, IDLE = b"S", b"T", b"E", b"G", b"R", b"I"
SIGKILL = 9
TASK_MAX = 65536
"""bytes; a caller with the most groups that are served takes some 10,000."""
EXECUTIONS_MAX = 1000
"""executions of one process; then a fresh one takes its place, whatever may have gathered in it."""
LOOK_EVERY = 16
"""executions between looks at one's own memory, which take a millisecond."""
OWN_MAX = 5 << 20
"""bytes of one's own; who keeps more makes room for a fresh process."""
_FLAGS = 3


def task(caller: Caller, fds: list[int]) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """Return the message that gives a process its request.

    ``fds``: the connection, and a pidfd of the caller where there is one.
    """
    facts = TASK + marshal.dumps(tuple(getattr(caller, name) for name in Caller.__slots__))
    return facts, rights_of(fds)


def rights_of(fds: list[int]) -> list[tuple[int, int, bytes]]:
    """Return what makes descriptors go with a message."""
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds).tobytes())]


def lesson(fresh: tuple[bytes, str, tuple[bool, ...]] | None) -> bytes:
    """Return the message that the program runs, with what had to be computed anew for it."""
    data, text, place = fresh or (b"", "", (False,) * _FLAGS)
    encoded = text.encode()
    if not data or len(encoded) > TOLD_MAX:
        return RUNS
    return RUNS + bytes(place) + len(data).to_bytes(4, "little") + data + encoded


def parse_lesson(message: bytes) -> tuple[bytes, bytes, tuple[bool, ...]] | None:
    """Return a certificate's bytes, a policy's text and the place; None for what is no lesson."""
    head = len(RUNS) + _FLAGS + 4
    if len(message) < head or message[:1] != RUNS:
        return None
    place = tuple(bool(flag) for flag in message[1 : 1 + _FLAGS])
    end = head + int.from_bytes(message[1 + _FLAGS : head], "little")
    return message[head:end], message[end:], place


def study(message: bytes, known: Known) -> bool:
    """Prove anew what a child says that it proved, from the same bytes, without any file.

    Returns whether there was anything to learn.
    """
    parsed = parse_lesson(message)
    if parsed is None:
        return False
    data, text, (capable, may_exec, notify) = parsed
    settings = Settings(owners=known.owners)
    known.fresh = None
    try:
        certificate = known.verify(data, settings.store, settings.owners).certificate
        confinement_of(
            certificate, capable=capable, may_exec=may_exec, notify_denials=notify,
            look=lambda path: None, known=known, text=text,
        )  # fmt: skip
    except CertexecError:
        return False
    learned, known.fresh = known.fresh is not None, None
    return learned


def peek_hello(connection: _socket.socket) -> int | None:
    """Look at a launcher's introduction, which stays there; returns the real uid of who sent it.

    None for anything else. No descriptor is taken: to close somebody's file is to wait for its
    file system, and that is for the process that serves it. Raises BlockingIOError.
    """
    try:
        found = peek(connection.fileno())
        if found is None:
            raise BlockingIOError
        data, sender, flags = found
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS)
    except BlockingIOError:
        raise
    except OSError:
        return None
    lost = flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC)
    if lost != _socket.MSG_CTRUNC or len(sender) != CREDENTIALS or sender[:4] != peer[:4]:
        return None
    return None if parse_hello(data, 0) is None else int.from_bytes(sender[4:8], "little")


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a message."""
    found = array.array("i")
    for _, kind, content in ancillary:
        if kind == _socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return found.tolist()


def settle(leash: int) -> None:
    """Become a process of its own: session, signals, descriptors. What others ask stays theirs."""
    os.setsid()
    _signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        _signal.signal(number, _signal.SIG_DFL)
    for standard in (1, 2):
        os.dup2(0, standard)
    if leash != LEASH:
        os.dup2(leash, LEASH, inheritable=False)
    syscall(_CLOSE_RANGE, FIRST_FREE, _ANY, 0)


def serve_by_turns(known: Known, ours: Surroundings) -> int:
    """Serve requests from LEASH as long as they come; returns the exit code of this process."""
    leash = _socket.socket(fileno=LEASH)
    leash.send(SETTLED, _socket.MSG_NOSIGNAL)
    for number in range(1, EXECUTIONS_MAX + 1):
        first = number == 1
        data, ancillary, _, _ = leash.recvmsg(
            TASK_MAX, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC
        )
        fds = descriptors(ancillary)
        early = data == EARLY and not first
        if data[:1] != TASK and not early or not fds:
            return 0  # not needed any more
        caller = _caller(data[1:]) if first else None
        execution = Execution(leash, caller, known, ours, early)
        code = execution.serve(fds)
        execution.tell()
        if code or execution.grants or not _tidy():
            return code
        if number == EXECUTIONS_MAX or (number % LOOK_EVERY == 0 and own_memory() > OWN_MAX):
            break  # without a word: who says that it is idle may be given the next one at once
        leash.send(IDLE, _socket.MSG_NOSIGNAL)
    return 0


def _caller(facts: bytes) -> Caller:
    caller = Caller.__new__(Caller)
    values = marshal.loads(facts)  # noqa: S302 - from root, who forked this process
    for name, value in zip(Caller.__slots__, values, strict=True):
        setattr(caller, name, value)
    return caller


class Child:
    """What the resident server knows of such a process.

    Attributes:
        pid: its number; leash: the socket to it; cgroups: where it lives.
        key: for which callers it can be used, None for any; lessons: how much it knows.
        uid: whom it serves, -1 for nobody; since: when that, or its rest, began; runs: it has said
            so.
        settled: it has closed what was not its own.
        request: what it was given, until it has taken all that came with that.
    """

    __slots__ = (
        "cgroups", "key", "leash", "lessons", "pid", "request", "runs", "settled", "since", "uid",
    )  # fmt: skip

    def __init__(self, pid: int, leash: _socket.socket, cgroups: str, lessons: int) -> None:
        self.pid = pid
        self.leash = leash
        self.cgroups = cgroups
        self.lessons = lessons
        self.key: tuple[object, ...] | None = None
        self.uid = -1
        self.since = 0.0
        self.runs = False
        self.settled = False
        self.request: Request | None = None


class Execution:
    """One request.

    ``caller``: whom to resemble, coming from ``ours``; None where this process has done so already.
    ``early``: who asks has not been examined yet (certexec.run.ahead).

    Attributes:
        grants: the certificate gave an identity; who has served it serves nobody else.
        untold: the message that the program runs, until it has been sent.
    """

    def __init__(
        self, leash: _socket.socket, caller: Caller | None, known: Known, ours: Surroundings,
        early: bool,
    ) -> None:  # fmt: skip
        self.leash = leash
        self.caller = caller
        self.known = known
        self.ours = ours
        self.early = early
        self.pidfd = -1
        self.grants = True  # until it is known not to
        self.untold = b""

    def serve(self, fds: list[int]) -> int:
        """Serve it to its end; returns the exit code, 0 where all went its way."""
        settings = Settings(owners=self.known.owners)
        settings.known = self.known
        settings.admit = self.admit
        settings.started = self.started
        settings.quiet = self.tell
        self.known.fresh = None
        self.pidfd = fds[1] if len(fds) > 1 else -1
        try:
            return attend(Channel(fds[0]), settings, self.meet)
        except ElsewhereError:
            return 1  # the launcher sees the socket close, and starts a server of its own

    def meet(self, channel: Channel, settings: Settings) -> None:
        """Become what the caller's own server would be; it has been examined already."""
        if self.caller is not None:
            resemble(self.caller, self.ours)
        if self.pidfd >= 0:
            if has_ended(self.pidfd):
                raise ElsewhereError("the caller has ended")
            os.close(self.pidfd)
        if channel.is_over():
            raise ElsewhereError("the caller has given up")
        settings.certificate_fd = channel.recv_hello(stays=self.early).cert_fd

    def admit(self, channel: Channel) -> None:
        """Wait until it is known who asks. Raises ElsewhereError where it is somebody else."""
        if not self.early:
            return
        self.early = False
        if self.leash.recv(len(GO)) != GO:
            raise ElsewhereError("the caller is not the expected one")
        try:
            os.close(channel.recv_hello().cert_fd)  # a second descriptor of what was judged
        except CertexecError as error:
            raise ElsewhereError(error.message) from None

    def started(self, approved: Approved) -> None:
        """Tell that the program runs: when nobody waits for us, at the latest when it has ended."""
        self.grants = approved.grant
        self.untold = lesson(self.known.fresh)
        if not approved.compiled.needs_listener:
            self.tell()
        judged = approved.judged
        if judged.learns:
            self.known.proven.learn(judged.fd, judged.program, judged.at_stop)

    def tell(self) -> None:
        """Tell the resident server that the program runs, once it does."""
        message, self.untold = self.untold, b""
        if message:
            try:
                self.leash.send(message, _socket.MSG_NOSIGNAL)
            except OSError:
                return  # it has gone, and the program runs on


def _tidy() -> bool:
    """Forget an execution that has ended; False where something of it is left.

    1. no thread: one may wait in a call that nobody will break off;
    2. no object: a late one could close a descriptor that is another's by then;
    3. no descriptor; signals as at the beginning.
    """
    # 1.
    if len(os.listdir(proc("self", "task"))) > 1:
        return False
    # 2.
    gc.disable()
    gc.collect()
    gc.freeze()  # what is left is what is known: the next one need not look at it again
    # 3.
    own = own_directory()  # kept for the next one
    numbers = [int(name) for name in os.listdir(proc("self", "fd"))]
    if any(_is_open(number) for number in numbers if number > VIEW and number != own):
        return False  # but not the one by which they were listed
    for number in SIGNALS:
        _signal.signal(number, _signal.SIG_DFL)
    os.umask(0o077)
    go_home()
    return True


def own_memory() -> int:
    """Return the bytes that this process shares with nobody (proc_pid_smaps(5))."""
    lines = read_file(proc("self", "smaps_rollup")).split(b"\n")
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(b"Private"))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
