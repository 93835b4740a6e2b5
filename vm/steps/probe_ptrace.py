"""Who may trace whom: same uid, Yama's ptrace_scope, PR_SET_PTRACER, exec."""

# ruff: noqa: S606 - probes execute programs on purpose

import os
import signal
from collections.abc import Callable

from probe import (
    PTRACE_DETACH,
    PYTHON,
    SYS_PTRACE,
    call,
    error_name,
    fact,
    forked,
    outcome,
    prctl,
    read_text,
    seize,
)

SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
PR_SET_PTRACER = 0x59616D61
ANY_PTRACER = 2**64 - 1
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438


def become(uid: int) -> None:
    """Take an ordinary uid and stay dumpable, as a program started by that user is."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    prctl(4, 1)


class Sleeper:
    """A process of uid 1000 that waits; `prepare` runs in it first, `child=True` adds a child."""

    def __init__(self, prepare: Callable[[], object] = lambda: None, child: bool = False,
                 execute: bool = False) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become(1000)
            prepare()
            below = 0
            if child:
                below = os.fork()
                if below == 0:
                    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if below or not child:
                os.write(writing, b"%d" % below)
            if execute:
                os.execv(PYTHON, [PYTHON, "-I", "-S", "-c", "import time; time.sleep(60)"])
            signal.pause()
            os._exit(0)
        self.child = int(os.read(reading, 20))
        os.close(reading)
        os.close(writing)
        if execute:  # wait until the exec is over
            while "-I" not in read_text(f"/proc/{self.pid}/cmdline"):
                os.sched_yield()

    def end(self) -> None:
        """Kill and collect it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def try_seize(pid: int) -> str:
    """Seize and let go; return ok or the errno's name."""

    def attempt() -> None:
        seize(pid)
        call(SYS_PTRACE, 0x4207, pid, 0, 0)
        os.waitpid(pid, 0x40000000)  # __WALL
        call(SYS_PTRACE, PTRACE_DETACH, pid, 0, 0)

    return outcome(attempt)


def by_user(uid: int, function: Callable[[], object]) -> str:
    """Run `function` in a child of `uid`."""

    def run() -> object:
        if uid:
            become(uid)
        return function()

    return forked(run)


def sibling(uid: int, function: Callable[[int], object], **how: object) -> str:
    """Do `function(pid)` to a sleeper from a process that is neither ancestor nor descendant."""
    sleeper = Sleeper(**how)  # type: ignore[arg-type]
    try:
        return by_user(uid, lambda: function(sleeper.child or sleeper.pid))
    finally:
        sleeper.end()


def parent_traces_child() -> str:
    """Let a process of uid 1000 seize its own child."""

    def run() -> str:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        result = try_seize(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return result

    return by_user(1000, run)


def child_traces_parent(allow: str) -> str:
    """Let a child of uid 1000 seize its parent; allow: "", "parent" names it, "own child" as well.

    With "own child" the child's target is a second process, forked by the parent afterwards.
    """

    def run() -> str:
        go_read, go_write = os.pipe()
        out_read, out_write = os.pipe()
        tracer = os.fork()
        if tracer == 0:
            target = int(os.read(go_read, 20))
            os.write(out_write, try_seize(target).encode())
            os._exit(0)
        if allow:
            outcome(lambda: prctl(PR_SET_PTRACER, tracer))  # EINVAL without Yama
        target = os.getpid()
        if allow == "own child":
            target = os.fork()
            if target == 0:
                signal.pause()
                os._exit(0)
        os.write(go_write, b"%d" % target)
        result = os.read(out_read, 100).decode()
        os.waitpid(tracer, 0)
        if target != os.getpid():
            os.kill(target, signal.SIGKILL)
            os.waitpid(target, 0)
        return result

    return by_user(1000, run)


def get_fd(pid: int) -> None:
    """Copy fd 1 of another process."""
    pidfd = call(SYS_PIDFD_OPEN, pid, 0)
    os.close(call(SYS_PIDFD_GETFD, pidfd, 1, 0))


def open_memory(pid: int) -> None:
    """Open another process's memory."""
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))


def allow_any() -> None:
    """Let everybody of this uid trace this process; does nothing without Yama."""
    outcome(lambda: call(157, PR_SET_PTRACER, ANY_PTRACER, 0, 0, 0))


def facts(scope: str) -> None:
    """Print what holds under the ptrace_scope in force."""
    start = f"{scope}: "
    fact(start + "sibling of the same uid seizes", sibling(1000, try_seize))
    fact(start + "parent seizes its child", parent_traces_child())
    fact(start + "child seizes its parent", child_traces_parent(""))
    fact(start + "child seizes its parent, named by PR_SET_PTRACER", child_traces_parent("parent"))
    fact(start + "the same, target a later child of that parent", child_traces_parent("own child"))
    fact(start + "sibling, target said PR_SET_PTRACER_ANY", sibling(1000, try_seize,
                                                                   prepare=allow_any))
    fact(start + "sibling, target said so and executed a program",
         sibling(1000, try_seize, prepare=allow_any, execute=True))
    fact(start + "sibling, target's child after it said so",
         sibling(1000, try_seize, prepare=allow_any, child=True))
    fact(start + "sibling of the same uid, pidfd_getfd", sibling(1000, get_fd))
    fact(start + "sibling of the same uid opens /proc/PID/mem", sibling(1000, open_memory))
    fact(start + "root seizes", sibling(0, try_seize))
    fact(start + "another uid seizes", sibling(1001, try_seize))
    fact(start + "sibling of the same uid, target not dumpable",
         sibling(1000, try_seize, prepare=lambda: prctl(4, 0)))


def main() -> None:
    """Print the facts for each ptrace_scope that the kernel has."""
    if not os.path.exists(SCOPE):
        fact("Yama", "absent")
        facts("ptrace_scope 0 or no Yama")
        return
    before = read_text(SCOPE)
    fact("Yama", "present")
    fact("ptrace_scope after the boot", before)
    for scope in ("0", "1"):
        try:
            with open(SCOPE, "w") as file:
                file.write(scope)
        except OSError as error:
            fact(f"ptrace_scope {scope} cannot be set", error_name(error))
            continue
        facts("ptrace_scope 0 or no Yama" if scope == "0" else f"ptrace_scope {scope}")
    with open(SCOPE, "w") as file:
        file.write(before)


if __name__ == "__main__":
    main()
