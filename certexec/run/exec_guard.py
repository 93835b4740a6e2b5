"""One exec, watched to its stop: nobody comes out of it with more than they may have.

In a tree that holds a grant no_new_privs cannot be set (it resets the effective ids on older
kernels), and an empty bounding set does not stop a set-user-ID file from giving euid 0. So each
later exec is stopped before the first instruction of its new image, and compared. The same stop
tells which file was executed with which arguments, where rules ask for that.
"""

from __future__ import annotations

import errno
import os
import time

from certexec.kernel import ptrace
from certexec.kernel.procfs import Status, read_status
from certexec.run.call import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGKILL = 9
PATIENCE = 5.0
"""seconds for a call into another process; copying as much as it can takes less than one."""
_PAUSE = 0.0005
_RIGHTS = ("uids", "gids", "groups", "caps", "no_new_privs")
"""What a Status says of rights; a umask and the process are nobody's."""


def guard(
    call: Call, objection: Callable[[int], str], failed: Callable[[], None] = lambda: None
) -> str:
    """Let the exec happen and judge its outcome; returns why the process was killed, or "".

    ``objection``: given the process at its exec stop, says why it must not run on, or "".
    ``failed``: is told that nothing was executed.

    1. seize the thread while it waits at the notification, so that nothing can be missed;
    2. let the kernel run the call: registers and memory are the caller's to change;
    3. at the exec stop ask for the objection, kill when there is one;
    4. let go.
    """
    tid, tgid = call.task.tid, call.status.tgid  # who it was: of who is killed nothing can be read
    # 1. an already traced task cannot be seized, and its tracer could change what we compare
    try:
        ptrace.seize(tid)
    except OSError:
        call.fail(errno.EPERM)
        return ""
    try:
        ptrace.interrupt(tid)
    except OSError:
        call.fail(errno.EPERM)
        return ""
    # 2. what counts is who comes out
    call.resume()
    while True:
        event = ptrace.wait()
        if event is None:
            return ""
        if event.pid not in (tid, tgid):
            continue
        if event.kind == ptrace.ENDED:
            return ""
        if event.kind == ptrace.SIGNAL_STOP:
            _let_run(event)
            continue
        if event.kind == ptrace.EXEC_STOP:
            # 3. the new image has not run yet
            try:
                why = objection(event.pid)
            except Exception as error:  # whatever it is: what is not judged does not run
                why = f"what runs cannot be told: {error}"
            if why:
                os.kill(event.pid, _SIGKILL)
                ptrace.see_end(event.pid)
            else:
                ptrace.release(event.pid)
            return why
        # the interrupt stop: the exec failed, the old image runs on
        failed()
        ptrace.release(event.pid)
        return ""


def see_to_its_end(call: Call) -> None:
    """Let the kernel run a call into another process, and come back when it has ended.

    What was judged holds only for as long as nobody changes policies, and a thread of a low
    priority, or arguments on a slow page, can put the call itself off for long.
    """
    tid, tgid = call.task.tid, call.task.tgid  # while it certainly waits
    try:
        ptrace.seize(tid, 0)
        ptrace.interrupt(tid)
    except OSError:
        call.fail(errno.EPERM)  # traced by somebody else
        return
    call.resume()
    deadline = time.monotonic() + PATIENCE
    while (event := ptrace.wait(tid, block=False)) is None:
        if time.monotonic() > deadline:
            os.kill(tgid, _SIGKILL)
            event = ptrace.wait(tid)
            break
        time.sleep(_PAUSE)
    if event is not None and event.kind != ptrace.ENDED:
        ptrace.release(tid, event.signal)


def excess(before: Status, pid: int) -> str:
    """Say which id or capability a process has at its exec stop that it had not before, or ""."""
    try:
        after = read_status(pid)
    except (OSError, KeyError, ValueError):
        return "its new ids cannot be read"
    if not set(after.uids) <= set(before.uids):
        return f"exec gave uid {max(set(after.uids) - set(before.uids))}"
    if not set(after.gids) <= set(before.gids):
        return f"exec gave gid {max(set(after.gids) - set(before.gids))}"
    if not set(after.groups) <= set(before.groups):
        return "exec gave a group"
    for name in ("prm", "eff", "inh", "amb", "bnd"):
        grown = after.caps[name] & ~before.caps[name]
        if name != "bnd" and name != "inh":
            grown &= ~before.caps["prm"]
        if grown:
            return f"exec gave capabilities {grown:#x}"
    return ""


def keeps_rights(before: Status, pid: int, read: Callable[[int], Status]) -> bool:
    """Tell whether a process has at its exec stop the rights that it had before, no other ones."""
    try:
        after = read(pid)
    except (OSError, KeyError, ValueError):
        return False
    return all(getattr(after, name) == getattr(before, name) for name in _RIGHTS)


def _let_run(event: ptrace.Event) -> None:
    try:
        ptrace.resume(event.pid, event.signal)
    except OSError:
        return  # the process died meanwhile, of which the next report tells
