"""One fork, watched: whose child a process is, in a tree whose programs have their own policies.

A process keeps its parent's policy until it executes. Afterwards /proc would tell only who its
parent is now, and which policy that one has now.
"""

from __future__ import annotations

import errno
import time

from certexec.kernel import ptrace
from certexec.run.call import Call

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
        if event is None or event.kind == ptrace.ENDED:
            return _orphan(tid)
        if event.kind == ptrace.SIGNAL_STOP:
            _let_run(event)
            continue
        if event.kind != ptrace.FORK_STOP:
            ptrace.release(tid)
            return 0
        # 3. and 4.
        try:
            child = ptrace.child_of(tid)
        except OSError:
            continue  # it was killed, of which the next report tells
        _release_newborn(child, ptrace.wait(child))
        ptrace.release(tid)
        return child


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


def _orphan(parent: int) -> int:
    """Release the child of a parent that was killed while it forked; 0: there is none.

    Nobody else is traced now, and a child is from birth.
    """
    while (event := ptrace.wait()) is not None:
        if event.pid != parent:
            _release_newborn(event.pid, event)
            return event.pid
        if event.kind != ptrace.ENDED:
            ptrace.release(parent)
    return 0


def _release_newborn(child: int, event: ptrace.Event | None) -> None:
    while event is not None and event.kind != ptrace.ENDED:
        if event.kind != ptrace.SIGNAL_STOP:
            ptrace.release(child)
            return
        _let_run(event)
        event = ptrace.wait(child)


def _let_run(event: ptrace.Event) -> None:
    try:
        ptrace.resume(event.pid, event.signal)
    except OSError:
        return  # it died meanwhile, of which the next report tells
