"""The resident policy server: takes requests and gives each to a process of its own.

It judges nothing itself. One loop accepts connections, receives who asks, lets users take turns
and forks; everything that can take long or go wrong happens in the children, one for each
execution, which outlive it: it may crash, be killed or give way to a new version meanwhile. What
it learns from its children it proves again from the bytes (certexec.run.known).
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import time

from certexec.kernel.fork import fork_into, open_cgroup, other_group
from certexec.kernel.libc import syscall
from certexec.run.ahead import Habit, begin, put_an_end_to
from certexec.run.channel import peer_pidfd, ready
from certexec.run.known import Known
from certexec.run.peer import ElsewhereError, Surroundings, examine, has_ended
from certexec.run.request import Request
from certexec.run.server_socket import SO_PASSCRED
from certexec.run.signals import listen_until
from certexec.run.turns import Turns, with_their_share
from certexec.run.undertaker import RETRY, Undertaker
from certexec.run.warm import (
    GO,
    IDLE,
    RUNS,
    SETTLED,
    Child,
    peek_hello,
    serve_by_turns,
    settle,
    study,
    task,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from certexec.run.layout import Layout

RESTING_MAX = 3
"""processes that wait for another caller of the kind they are used to; each holds some 5 MB."""
SURPLUS_MAX, RESTING_TIME = 4, 5.0
"""more of them, and the seconds for which these wait. A fresh process takes several times as long
for its first caller: were they made anew for each few callers that come at once, these would keep
the next ones waiting, and so come to be more and more."""
STARTING_MAX = 4
"""executions per processor that may be on their way at once; more only get in each other's way."""
STARTING_TIME = 0.2
"""seconds after which one no longer counts as such: its invoker may have stopped it."""
HELLO_TIME = 1.0
"""seconds in which a connection must say who it is; launchers do so at once."""
SILENT_MAX = 64
"""connections of one user that have said nothing yet."""
LESSON_MAX = 212992
"""bytes of one message of a child: the default size of a socket's buffer."""
ACCEPT_MAX = 64
"""connections taken in one go, before the others' turn."""
RESIDENT = "--resident"
"""The argument of serve.py that makes it stay."""
_ACCEPT4, _FLAGS = 288, _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
LOOK_EVERY = 0.5
"""seconds between looks for a new version while starts, which these delay, are on their way."""
DONE, REPLACED, _FAILED = 0, 1, 125


class Resident:
    """The loop and what it holds."""

    def __init__(self, listener: _socket.socket, layout: Layout, version: str) -> None:
        self.listener = listener
        self.layout, self.version = layout, version
        self.ours = Surroundings(layout.launcher)
        self.known = Known()
        self.undertaker = Undertaker()
        self.lessons = 0
        self.silent: dict[int, Request] = {}
        self.turns: Turns[Request] = Turns()
        self.children: dict[int, Child] = {}
        self.leashes: dict[int, Child] = {}
        self.idle: list[Child] = []
        self.habit = Habit()
        self.starting: dict[int, Child] = {}
        self.starting_max = STARTING_MAX * (os.cpu_count() or 1)
        self.ends, self.listens, self.looked = False, True, 0.0
        self.poll = select.epoll()
        self.wakeup = -1

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to end (DONE), or until another version counts (REPLACED)."""
        self.wakeup = listen_until(self._end)
        self.poll.register(self.wakeup, select.EPOLLIN)
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self._warm_up(self.ours.cgroups)
        while True:
            for fd, _ in self.poll.poll(self._patience()):
                if fd == self.wakeup:
                    os.read(fd, 4096)
                    self._reap()
                elif fd == self.listener.fileno():
                    self._accept()
                elif fd in self.silent:
                    self._hear(fd)
                elif fd in self.leashes:
                    self._listen_to(self.leashes[fd])
            self._forget_late()
            self._serve_waiting()
            self._let_in()
            waits = self.turns.waiting or self.silent
            if self.ends or (not waits and self._is_replaced()):
                self._leave()
                return DONE if self.ends else REPLACED

    def _end(self, signal: int, frame: object) -> None:
        self.ends = True

    def _let_in(self) -> None:
        """Listen, unless connections could not be closed: then launchers help themselves."""
        if self.undertaker.holds:
            self.undertaker.catch_up()
        wanted = not self.undertaker.is_full
        if wanted != self.listens:
            self.listens = wanted
            self.poll.modify(self.listener.fileno(), select.EPOLLIN if wanted else 0)

    def _leave(self) -> None:
        """See that what ends with this process is closed by somebody else, later."""
        for child in self.children.values():
            if child.request is not None:
                self.undertaker.keep(child.request.connection)
        for request in self.silent.values():
            request.close(self.undertaker)
        while (turn := self.turns.next()) is not None:
            turn[1].close(self.undertaker)

    def _is_replaced(self) -> bool:
        if self.starting and time.monotonic() < self.looked + LOOK_EVERY:
            return False  # who waits for that start goes first
        self.looked = time.monotonic()
        try:
            return os.readlink(self.layout.current) != self.version
        except OSError:  # certexec is not set up any more
            self.ends = True
            return True

    def _patience(self) -> float | None:
        """Return the seconds until something is due."""
        due = [request.deadline for request in self.silent.values()]
        if self.undertaker.holds:
            due.append(time.monotonic() + RETRY)
        due += [child.since + STARTING_TIME for child in self.starting.values()]
        due += [child.since + RESTING_TIME for child in self._surplus()]
        return None if not due else max(0.001, min(due) - time.monotonic())

    # -- requests ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(ACCEPT_MAX):
            if self.undertaker.is_full:
                return
            try:
                fd = syscall(_ACCEPT4, self.listener.fileno(), None, None, _FLAGS)
            except OSError:
                return  # nobody is left, or there is no descriptor: poll comes back to it
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)
            try:
                request = Request(connection, time.monotonic() + HELLO_TIME)
            except OSError:
                self.undertaker.bury(connection)
                continue
            if self._take_hello(request):
                continue
            if sum(one.uid == request.uid for one in self.silent.values()) >= SILENT_MAX:
                request.close(self.undertaker)
                continue
            self.silent[fd] = request
            self.poll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
            return  # most speak next: poll comes back to the others

    def _hear(self, fd: int) -> None:
        request = self.silent.pop(fd)  # poll has told of it, and tells no more
        if not self._take_hello(request):
            self.silent[fd] = request
            self.poll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def _forget(self, fd: int) -> Request:
        try:
            self.poll.unregister(fd)
        except OSError:
            pass  # it is closed, and so has been forgotten by the kernel
        return self.silent.pop(fd)

    def _forget_late(self) -> None:
        if self.silent:
            now = time.monotonic()
            for fd in [fd for fd, one in self.silent.items() if one.deadline <= now]:
                self._forget(fd).close(self.undertaker)
        for child in self._surplus():
            if child.since + RESTING_TIME <= time.monotonic():
                self._let_go(child)

    def _take_hello(self, request: Request) -> bool:
        """Receive who asks and let it wait for its turn; False while it has said nothing.

        Whoever cannot be served here finds the connection closed.
        """
        try:
            uid = peek_hello(request.connection)
            if uid is None:
                raise ElsewhereError("not a launcher")
            child = self._begin_early(uid, request)
            if not self._examine_for(child, uid, request) and not self.turns.add(uid, request):
                raise ElsewhereError("enough of this user")
        except BlockingIOError:
            return False
        except (ElsewhereError, OSError):
            request.close(self.undertaker)
        return True

    def _begin_early(self, uid: int, request: Request) -> Child | None:
        """Let a process begin that is used to such callers, where nobody has to wait for it."""
        if self.turns.waiting or len(self.starting) >= self.starting_max:
            return None
        if uid in self._with_their_share() or not self.turns.may_run(uid):
            return None
        child = self.habit.expects(uid, request.uid != uid, reversed(self.idle))
        if child is None or not begin(child, request):
            return None
        self.idle.remove(child)
        return child

    def _examine_for(self, child: Child | None, uid: int, request: Request) -> bool:
        """Examine who asks; True where a process that began early goes on with it."""
        goes_on = False
        try:
            self._examine(request)
            assert request.caller is not None
            self.habit.note(request.caller)
            goes_on = child is not None and child.key == request.caller.key()
        finally:
            if child is not None and not goes_on:
                put_an_end_to(child)
                self._let_go(child)
        if child is not None and goes_on:
            self._hand_over(child, uid, request, GO, [])
        return goes_on

    def _examine(self, request: Request) -> None:
        """Find out who asks. Raises ElsewhereError, OSError.

        1. a pidfd of who connected, by the kernel's word; its number is another's only after its
           end, so what is examined by the number is about it where it has not ended afterwards;
        2. from here on the connection is as every server's, and the launcher may wait.
        """
        connection = request.connection
        # 1.
        if request.pidfd < 0:
            request.pidfd = peer_pidfd(connection)
        pinned = request.pidfd >= 0
        request.caller = examine(request.pid, request.uid, pinned, self.ours)
        if pinned and has_ended(request.pidfd):
            raise ElsewhereError("the caller has ended")
        # 2.
        connection.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 0)
        connection.send(ready(), _socket.MSG_NOSIGNAL)
        connection.setblocking(True)

    def _serve_waiting(self) -> None:
        """Give requests to children, as many as may be on their way at once."""
        limit = time.monotonic() - STARTING_TIME
        for pid in [pid for pid, child in self.starting.items() if child.since < limit]:
            del self.starting[pid]
        while self.turns.waiting and len(self.starting) < self.starting_max:
            turn = self.turns.next(self._with_their_share())
            if turn is None:
                return
            uid, request = turn
            try:
                self._serve(uid, request)
            except OSError:  # no process, no descriptor, no such group: its launcher helps itself
                request.close(self.undertaker)

    def _with_their_share(self) -> set[int]:
        return with_their_share((one.uid for one in self.starting.values()), self.starting_max)

    def _serve(self, uid: int, request: Request) -> None:
        caller = request.caller
        assert caller is not None
        child = self._child_for(caller.key(), caller.cgroups)
        child.key = caller.key()
        self._hand_over(child, uid, request, *task(caller, request.fds()))

    def _hand_over(
        self, child: Child, uid: int, request: Request, data: bytes,
        rights: list[tuple[int, int, bytes]],
    ) -> None:  # fmt: skip
        """Let a child serve a request from here on. Raises OSError."""
        child.uid = uid
        child.since = time.monotonic()
        self.turns.started(uid)
        self.starting[child.pid] = child
        child.leash.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
        # the child may have ended by now, and whoever asks can end it: then we would close last
        child.request = request
        request.forget()

    # -- children ---------------------------------------------------------------------------------

    def _child_for(self, key: tuple[object, ...], groups: str) -> Child:
        """Return a child that can serve such a caller: used to it, or fresh. Raises OSError."""
        fresh = None
        for child in reversed(self.idle):  # who was busy last has the most of its memory at hand
            if child.key == key:
                self.idle.remove(child)
                return child
            if child.key is None and child.cgroups == groups:
                fresh = child
        if fresh is not None:
            self.idle.remove(fresh)
            return fresh
        return self._fork(groups)

    def _fork(self, groups: str) -> Child:
        group = other_group(self.ours.cgroups, groups)
        directory = open_cgroup(group) if group else -1
        try:
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            pid = fork_into(directory) if group else os.fork()
        finally:
            if directory >= 0:
                os.close(directory)
        if pid == 0:
            self._be_child(theirs.fileno())
        theirs.close()
        self.undertaker.heirs.add(pid)
        child = Child(pid, ours, groups, self.lessons)
        self.children[pid] = child
        self.leashes[ours.fileno()] = child
        self.poll.register(ours.fileno(), select.EPOLLIN)
        return child

    def _be_child(self, leash: int) -> NoReturn:
        code = _FAILED
        try:
            settle(leash)
            code = serve_by_turns(self.known, self.ours)
        finally:
            os._exit(code)

    def _warm_up(self, groups: str) -> None:
        """Keep one process ready where the last request came from, with all that is known."""
        for child in list(self.idle):
            if child.key is None and (child.cgroups, child.lessons) != (groups, self.lessons):
                self._let_go(child)
        try:
            if not any(child.key is None for child in self.idle):
                self.idle.append(self._fork(groups))
        except OSError:
            return  # when it is needed there may be one

    def _let_go(self, child: Child) -> None:
        """Close the leash: an idle child ends, another one when its execution has."""
        if child in self.idle:
            self.idle.remove(child)
        self.starting.pop(child.pid, None)
        if self.leashes.pop(child.leash.fileno(), None) is not None:
            self.poll.unregister(child.leash.fileno())
        child.leash.close()
        if child.request is not None:
            child.request.close(self.undertaker)
            child.request = None

    def _listen_to(self, child: Child) -> None:
        """A child's program runs, or has ended and it can serve another, or it is gone."""
        try:
            message = child.leash.recv(LESSON_MAX, _socket.MSG_DONTWAIT)
        except OSError:
            message = b""
        if message == SETTLED and not child.settled:
            child.settled = True
            self.undertaker.settled(child.pid)
            return
        # a lesson comes once for each request: whoever taught on and on would keep us busy
        if child.uid < 0 or (message != IDLE if child.runs else message[:1] != RUNS):
            self._let_go(child)  # it has ended, or it speaks out of turn
            return
        if message == IDLE:
            self._rest(child)
            return
        child.runs = True
        if child.request is not None:
            child.request.close_served(self.undertaker)
            child.request = None
        self.starting.pop(child.pid, None)
        self._study(message)
        if not self.turns.waiting:
            self._warm_up(child.cgroups)

    def _rest(self, child: Child) -> None:
        """Let a child wait for the next caller of its kind, and of too many the first one go."""
        self.starting.pop(child.pid, None)
        self.turns.ended(child.uid)
        child.uid = -1
        child.runs = False
        child.since = time.monotonic()
        self.idle.append(child)
        surplus = self._surplus()
        if len(surplus) > SURPLUS_MAX:
            self._let_go(surplus[0])

    def _surplus(self) -> list[Child]:
        """Return the used children at rest but for the few that stay, the first one first."""
        return [one for one in self.idle if one.key is not None][:-RESTING_MAX]

    def _study(self, message: bytes) -> None:
        if not study(message, self.known):
            return
        self.lessons += 1
        gc.collect()
        gc.freeze()  # so that children need not copy what they only look at

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.undertaker.has_ended(pid)
            self.undertaker.settled(pid)
            child = self.children.pop(pid, None)
            if child is None:
                continue  # one of the version before
            self._let_go(child)
            if child.uid >= 0:
                self.turns.ended(child.uid)
