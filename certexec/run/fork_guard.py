"""One fork, watched: whose child a process is, in a tree whose programs have their own policies.

A process keeps its parent's policy until it executes. Afterwards /proc would tell only who its
parent is now, and which policy that one has now.
"""

from __future__ import annotations

import errno
import time

from certexec.kernel import ptrace
from certexec.run.call import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.05
"""seconds within which a fork stops that does not fail; many times what it takes."""
_LOOKS = 50
"""looks before the first sleep: a fork takes a tenth of a millisecond."""
_PAUSE = 0.0002
"""seconds between looks."""


def follow(call: Call) -> int:
    """Let the fork happen; return the child's pid, or 0 when there is none.

    1. seize the thread while it waits at the notification; its child will be seized from birth;
    2. let the kernel run the call, which only registers decide;
    3. the stop after it names the child, which has not run yet;
    4. let both go.

    No interrupt comes before: a pending one would make the kernel start the fork again. So a fork
    that fails is noticed by its silence.
    """
    tid = call.task.tid
    # 1. whoever is traced by somebody else cannot be followed
    try:
        ptrace.seize(tid, ptrace.FORKS)
    except OSError:
        call.fail(errno.EPERM)
        return 0
    # 2.
    call.resume()
    while True:
        event = _next(tid)
        if event is None:
            return 0
        if event.kind == ptrace.ENDED:
            return 0
        if event.kind == ptrace.SIGNAL_STOP:
            _let_go(ptrace.resume, tid, event.signal)
            continue
        if event.kind == ptrace.GROUP_STOP:
            _let_go(ptrace.detach, tid, 0)
            return 0
        if event.kind == ptrace.FORK_STOP:
            # 3. and 4.
            child = ptrace.child_of(tid)
            _release_newborn(child)
            _let_go(ptrace.detach, tid, 0)
            return child
        _let_go(ptrace.detach, tid, 0)
        return 0


def _next(tid: int) -> ptrace.Event | None:
    """Return the next stop of the thread, after PATIENCE the one that is asked for."""
    deadline = time.monotonic() + PATIENCE
    looks = 0
    while time.monotonic() < deadline:
        event = ptrace.wait(tid, block=False)
        if event is not None:
            return event
        looks += 1
        if looks > _LOOKS:
            time.sleep(_PAUSE)
    try:
        ptrace.interrupt(tid)
    except OSError:
        return ptrace.wait(tid, block=False)  # it is gone
    return ptrace.wait(tid)


def _release_newborn(child: int) -> None:
    event = ptrace.wait(child)
    while event is not None and event.kind != ptrace.ENDED:
        if event.kind != ptrace.SIGNAL_STOP:
            _let_go(ptrace.detach, child, 0)
            return
        _let_go(ptrace.resume, child, event.signal)
        event = ptrace.wait(child)


def _let_go(request: Callable[[int, int], None], pid: int, signal: int) -> None:
    try:
        request(pid, signal)
    except OSError:
        return  # it died meanwhile
