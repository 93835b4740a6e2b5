"""Seccomp user notification: flags, the listener, and an exec judged at its ptrace stop."""

# ruff: noqa: S606 - probes execute programs on purpose

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Callable

from probe import (
    PR_SET_NO_NEW_PRIVS,
    PTRACE_CONT,
    PTRACE_DETACH,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_STOP,
    PTRACE_INTERRUPT,
    SYS_PTRACE,
    call,
    error_name,
    fact,
    forked,
    libc,
    outcome,
    prctl,
    seize,
)

SYS_SECCOMP, SYS_EXECVE, SYS_GETPPID, SYS_OPENAT, SYS_READ = 317, 59, 110, 257, 0
SET_MODE_FILTER, GET_ACTION_AVAIL, GET_NOTIF_SIZES = 1, 2, 3
RET_ALLOW, RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
NEW_LISTENER, WAIT_KILLABLE_RECV = 1 << 3, 1 << 5
FLAGS = {"LOG": 1 << 1, "SPEC_ALLOW": 1 << 2, "NEW_LISTENER": 1 << 3, "TSYNC_ESRCH": 1 << 4}
RECV, SEND, ID_VALID, ADDFD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
SET_FLAGS, SYNC_WAKE_UP = 0x40082104, 1
ADDFD_FLAG_SEND = 2
RESP_CONTINUE = 1
NOTIFICATION = "=QIIiIQ6Q"  # id, pid, flags, nr, arch, instruction pointer, arguments
WAIT = 10.0  # seconds after which a notification counts as lost
ERESTARTSYS = 512


def filter_program(number: int) -> tuple[ctypes.Array[ctypes.c_char], bytes]:
    """Return (instructions, sock_fprog) of a filter that notifies one system call."""
    code = b"".join(
        struct.pack("HBBI", *one)
        for one in (
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, RET_USER_NOTIF),
            (0x06, 0, 0, RET_ALLOW),
        )
    )
    held = ctypes.create_string_buffer(code, len(code))
    return held, struct.pack("HxxxxxxQ", 4, ctypes.addressof(held))


def install(number: int, flags: int, no_new_privs: bool = True) -> int:
    """Install a filter that notifies `number`; return what seccomp returned."""
    if no_new_privs:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    held, program = filter_program(number)
    result = call(SYS_SECCOMP, SET_MODE_FILTER, flags, program)
    del held
    return result


class Supervised:
    """A child that installs a listener for `number`, sends it to us, then runs `action`."""

    def __init__(self, number: int, flags: int, action: Callable[[], object],
                 uid: int = 0) -> None:
        ours, theirs = socket.socketpair()
        self.out, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if uid:
                    os.setresuid(uid, uid, uid)
                    prctl(4, 1)
                listener = install(number, NEW_LISTENER | flags)
                socket.send_fds(theirs, [b"l"], [listener])
                os.close(listener)
                os.write(writing, outcome(action).encode())
            except OSError as error:
                os.write(writing, b"child: " + error_name(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        self.listener = descriptors[0]
        ours.close()
        theirs.close()

    def receive(self) -> tuple[int, int]:
        """Wait for a notification; return (id, pid)."""
        data = bytearray(80)
        fcntl.ioctl(self.listener, RECV, data)
        fields = struct.unpack(NOTIFICATION, data)
        return fields[0], fields[1]

    def answer(self, identity: int, value: int = 0, error: int = 0, flags: int = 0) -> None:
        """Answer one notification."""
        fcntl.ioctl(self.listener, SEND, struct.pack("=QqiI", identity, value, error, flags))

    def result(self) -> str:
        """Return what the child said and collect it."""
        with open(self.out) as file:
            text = file.read()
        os.waitpid(self.pid, 0x40000000)
        os.close(self.listener)
        return text


def set_listener_flag() -> str:
    """Ask for SYNC_WAKE_UP."""
    child = Supervised(SYS_GETPPID, 0, lambda: str(call(SYS_GETPPID)))
    answer = outcome(lambda: fcntl.ioctl(child.listener, SET_FLAGS, SYNC_WAKE_UP))
    identity, _ = child.receive()
    child.answer(identity, 77)
    got = child.result()
    return answer if got == "77" else f"{answer}, child got {got}"


def round_trip(synchronous: bool, count: int = 2000) -> float:
    """Return microseconds for one judged system call."""

    def many() -> str:
        begin = time.perf_counter()
        for _ in range(count):
            libc.syscall(SYS_GETPPID)
        return str((time.perf_counter() - begin) / count * 1e6)

    child = Supervised(SYS_GETPPID, WAIT_KILLABLE_RECV, many)
    if synchronous:
        fcntl.ioctl(child.listener, SET_FLAGS, SYNC_WAKE_UP)
    for _ in range(count):
        identity, _ = child.receive()
        child.answer(identity, 1)
    return float(child.result())


def signal_while_judged(flags: int) -> str:
    """Send a handled signal between RECV and SEND; return what the call answered."""
    seen: list[int] = []

    def action() -> str:
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        signal.siginterrupt(signal.SIGUSR1, False)  # SA_RESTART
        result = libc.syscall(SYS_GETPPID)
        code = ctypes.get_errno()
        answer = str(result) if result >= 0 else errno.errorcode.get(code, str(code))
        return f"{answer}, handler ran {len(seen)} times"

    child = Supervised(SYS_GETPPID, flags, action)
    identity, _ = child.receive()
    os.kill(child.pid, signal.SIGUSR1)
    time.sleep(0.3)
    again = 0
    try:
        child.answer(identity, 77)
    except OSError as error:
        again = error.errno or 0
        identity, _ = child.receive()  # the interrupted call comes again
        child.answer(identity, 78)
    said = "" if not again else f"answer failed with {errno.errorcode[again]}, notified twice, "
    return said + "call returned " + child.result()


def restart_answer(with_signal: bool) -> str:
    """Answer -ERESTARTSYS; return what the child saw."""

    def action() -> str:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, False)  # SA_RESTART
        result = libc.syscall(SYS_GETPPID)
        return f"returned {result}" if result >= 0 else f"errno {ctypes.get_errno()}"

    child = Supervised(SYS_GETPPID, WAIT_KILLABLE_RECV, action)
    identity, _ = child.receive()
    if with_signal:
        os.kill(child.pid, signal.SIGUSR1)
    child.answer(identity, 0, -ERESTARTSYS)
    if with_signal:
        identity, _ = child.receive()
        child.answer(identity, 79)
    return child.result()


def emulated_open(send: bool) -> str:
    """Answer an openat by ADDFD, with FLAG_SEND or with a SEND of its own."""
    child = Supervised(SYS_OPENAT, WAIT_KILLABLE_RECV,
                       lambda: os.readlink(f"/proc/self/fd/{os.open('/nowhere', os.O_RDONLY)}"))
    identity, _ = child.receive()
    with open("/etc/passwd") as given:
        flags = ADDFD_FLAG_SEND if send else 0
        request = bytearray(
            struct.pack("=QIIII", identity, flags, given.fileno(), 0, os.O_CLOEXEC)
        )
        number = fcntl.ioctl(child.listener, ADDFD, request)
        if not send:
            child.answer(identity, number)
    return child.result()


def exec_stop(uid: int, target: str) -> str:
    """SEIZE and INTERRUPT a process at its execve notification, continue; return the stops."""
    child = Supervised(SYS_EXECVE, WAIT_KILLABLE_RECV,
                       lambda: os.execv(target, [target]), uid)

    def supervise() -> str:
        if uid:
            os.setresuid(uid, uid, uid)
            prctl(4, 1)
        identity, pid = child.receive()
        seize(pid)
        call(SYS_PTRACE, PTRACE_INTERRUPT, pid, 0, 0)
        child.answer(identity, flags=RESP_CONTINUE)
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            found, status = os.waitpid(pid, 0x40000000 | os.WNOHANG)
            if found == 0:
                time.sleep(0.001)
                continue
            if not os.WIFSTOPPED(status):
                return "ended without a stop"
            event = status >> 16
            name = {PTRACE_EVENT_EXEC: "EVENT_EXEC", PTRACE_EVENT_STOP: "EVENT_STOP"}.get(event)
            if name:
                exe = os.readlink(f"/proc/{pid}/exe")
                call(SYS_PTRACE, PTRACE_DETACH, pid, 0, 0)
                same = "the new program" if exe == os.path.realpath(target) else "the old program"
                return f"{name}, exe is {same}"
            call(SYS_PTRACE, PTRACE_CONT, pid, 0, os.WSTOPSIG(status))
        return "no stop"

    text = forked(supervise)
    if text.startswith("no stop"):
        os.kill(child.pid, signal.SIGKILL)
    child.result()
    return text


def second_listener() -> str:
    """Ask for a second listener in one process."""
    install(SYS_GETPPID, NEW_LISTENER)
    return outcome(lambda: install(SYS_READ, NEW_LISTENER))


def main() -> None:
    """Print the facts about seccomp."""
    for name, flag in FLAGS.items():
        extra = 1 | NEW_LISTENER if name == "TSYNC_ESRCH" else 0
        fact(f"seccomp filter flag {name}",
             forked(lambda f=flag | extra: outcome(lambda: install(SYS_GETPPID, f))))
    fact("seccomp filter flags NEW_LISTENER + WAIT_KILLABLE_RECV",
         forked(lambda: outcome(
             lambda: install(SYS_GETPPID, NEW_LISTENER | WAIT_KILLABLE_RECV))))
    fact("seccomp filter flag WAIT_KILLABLE_RECV alone",
         forked(lambda: outcome(lambda: install(SYS_GETPPID, WAIT_KILLABLE_RECV))))
    fact("filter without no_new_privs, with CAP_SYS_ADMIN",
         forked(lambda: outcome(lambda: install(SYS_GETPPID, NEW_LISTENER, False))))
    fact("a second listener in one process", forked(second_listener))
    fact("listener flag SYNC_WAKE_UP", set_listener_flag())
    fact("signal while judged, WAIT_KILLABLE_RECV", signal_while_judged(WAIT_KILLABLE_RECV))
    fact("signal while judged, without it", signal_while_judged(0))
    fact("answer -ERESTARTSYS, a signal pending", restart_answer(True))
    fact("answer -ERESTARTSYS, none pending", restart_answer(False))
    fact("openat answered by ADDFD with FLAG_SEND", emulated_open(True))
    fact("openat answered by ADDFD, then SEND", emulated_open(False))
    for who, uid in (("root", 0), ("uid 1000", 1000)):
        fact(f"exec at its notification, seized by {who}: /usr/bin/true",
             exec_stop(uid, os.path.realpath("/usr/bin/true")))
        fact(f"exec at its notification, seized by {who}: a file that does not exist",
             exec_stop(uid, "/nonexistent"))
    plain = round_trip(False)
    print(f"note: judged call {plain:.0f} us without SYNC_WAKE_UP", flush=True)
    if set_listener_flag() == "ok":
        print(f"note: judged call {round_trip(True):.0f} us with it", flush=True)


if __name__ == "__main__":
    main()
