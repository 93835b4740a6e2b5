"""Start a program under a watching filter, and take notes until its tree has ended.

    1. a socket, and a child;
    2. the child: no_new_privs, as in a certificate's tree, the filter, its listener to the parent,
       and the program, by the calls that pass the filter for it;
    3. the parent: notes, until the last process has ended;
    4. how the program ended.

Who interrupts wants to end the program, not to lose the notes: the first signal is the tree's (a
terminal sends it to all of it, else it is handed on), the next ends what is left, a third the
watching.
"""

from __future__ import annotations

import os
import signal
import socket

from certexec.errors import KernelError, RunError
from certexec.kernel.elf import is_32_bit
from certexec.kernel.notify import Listener
from certexec.policy.compile import compile_table
from certexec.policy.watch import Watched
from certexec.run.gated_start import GatedStart, candidates
from certexec.run.probe import has_notification, has_wait_killable
from certexec.run.processes import Processes
from certexec.run.record import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from certexec.policy.model import Policy
    from certexec.policy.observation import Observation
    from certexec.run.call import Call

_FLAG_NEW_LISTENER = 1 << 3
_FLAG_WAIT_KILLABLE_RECV = 1 << 5
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_HANDED_ON = (signal.SIGTERM, signal.SIGHUP)
"""Those that a terminal does not send to the program, too."""


class StoppedError(Exception):
    """Somebody does not want to wait for the end of the tree."""


class Learning:
    """One watched run.

    Attributes:
        program: the path that the policy of the first program is for.
        observations: what was noted, in order; strange: calls that this version has no name for;
        killed: 32-bit programs, which cannot be watched.
        numbers: of processes that named files by their own.
        hidden: a process made itself unreadable for others of its user.
        status: the program's wait status, None while it is not known.
        stopped: processes still run, and their further calls fail: somebody would not wait.
    """

    def __init__(
        self, program: str, arguments: Sequence[str], *, given: Policy | None, inherit: bool,
        noted: Callable[[Observation, Call], None] | None = None,
    ) -> None:  # fmt: skip
        """Prepare. Raises RunError("binary-missing" or "unsupported") and KernelError.

        ``given``: what it permits plainly is not noted; ``inherit``: what is executed counts as
        the first program; ``noted``: told of each observation.
        """
        if not has_notification():
            raise KernelError("kernel-unsupported", "this kernel hands no calls over (Linux 5.0)")
        self.program = _path_of(program)
        if is_32_bit(self.program):
            raise RunError(
                "unsupported", f'"{self.program}" is a 32-bit program, which cannot be watched',
                'write its policy, with a part for "Emulation: linux": certexec.policy(5)',
            )
        self._start = GatedStart(program, arguments, compile_table(Watched(given)))
        self._processes = Processes(self.program, inherit)
        self._noted = noted
        self._child = 0
        self._signals = 0
        self.observations: dict[Observation, None] = {}
        self.strange: dict[str, None] = {}
        self.killed: dict[str, None] = {}
        self.numbers: set[str] = set()
        self.hidden = False
        self.status: int | None = None
        self.stopped = False

    def run(self) -> None:
        """Watch until the tree has ended. Raises RunError when the program cannot be started."""
        # 1.
        ours, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            _begin(self._start, theirs)
        theirs.close()
        before = {number: signal.signal(number, self._interrupted) for number in _ENDING}
        try:
            # 3.
            listener = _receive(ours)
            if listener is not None:
                self._watch(listener)
        finally:
            # 4.
            self._wait(block=not self.stopped)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self, listener: Listener) -> None:
        recorder = Recorder(listener, self._processes, self._noted)
        self.observations, self.strange = recorder.observations, recorder.strange
        self.killed, self.numbers = recorder.killed, recorder.numbers
        self._processes.begin(self._child)
        try:
            recorder.run()
        except StoppedError:
            self.stopped = True
        finally:
            self.hidden = recorder.hidden
            recorder.close()
            os.close(listener.fd)

    def _wait(self, block: bool) -> None:
        if self.status is None:
            pid, status = os.waitpid(self._child, 0 if block else os.WNOHANG)
            self.status = status if pid else None

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2:
            raise StoppedError
        if self._signals == 1 and self._is_running():
            if number in _HANDED_ON:
                self._send(number)
            return
        self._send(signal.SIGKILL if self._signals > 1 else signal.SIGTERM)

    def _send(self, number: int) -> None:
        """Send a signal to the whole tree, to its first process also before that made a call."""
        alive = self._processes.alive()
        first = [self._child] if self._is_running() else []
        for pid in dict.fromkeys([*first, *alive]):
            try:
                os.kill(pid, number)
            except OSError:
                continue  # it has just ended

    def _is_running(self) -> bool:
        self._wait(block=False)
        return self.status is None


def _path_of(program: str) -> str:
    """Return the path by which rules know a program. Raises RunError("binary-missing")."""
    for path in candidates(program):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.realpath(path)
    raise RunError("binary-missing", f'there is no program "{program}" to run')


def _begin(start: GatedStart, channel: socket.socket) -> NoReturn:
    # 2.
    try:
        flags = _FLAG_NEW_LISTENER
        if has_wait_killable():
            flags |= _FLAG_WAIT_KILLABLE_RECV
        listener = start.confine(flags)
        start.send(channel.fileno(), listener)
    except OSError as error:
        start.fail(f"no program can be watched here: {error.strerror}", RunError("internal", ""))
    start.execute()


def _receive(channel: socket.socket) -> Listener | None:
    """Return the listener, None when the child has ended without one."""
    with channel:
        _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    return Listener(fds[0]) if fds else None
