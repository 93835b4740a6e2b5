"""Which ids come out of an exec: no_new_privs, tracers, set-user-ID files, capabilities."""

# ruff: noqa: S103, S606 - probes make set-user-ID files and execute them on purpose

import os
import shutil
import signal
import struct
from collections.abc import Callable

from probe import (
    CAP_SYS_PTRACE,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    PTRACE_CONT,
    PTRACE_DETACH,
    PTRACE_EVENT_EXEC,
    PYTHON,
    REPORT,
    SYS_CAPSET,
    SYS_PTRACE,
    call,
    capset,
    error_name,
    fact,
    last_capability,
    outcome,
    permitted_capabilities,
    prctl,
    read_text,
    seize,
    status_ids,
    workplace,
)

Ids = tuple[int, int, int]


def exec_report(
    ids: Ids, *, no_new_privs: bool = False, emptied: str = "", tracer: str = "",
    path: str = PYTHON,
) -> str:
    """Take `ids`, exec a reporting program, return what it says about itself.

    emptied: capability sets emptied before the exec: "", "bounding", "permitted" or "both".
    tracer: "" none, "root" one with CAP_SYS_PTRACE effective, "weak" root that has it only
    permitted, "same" one of uid 1000. All seize before the ids change (a supervisor does so).
    """
    out_read, out_write = os.pipe()
    go_read, go_write = os.pipe()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            if tracer == "same":
                os.setresuid(1000, 1000, 1000)
                prctl(4, 1)  # dumpable again, as after an exec
            os.write(ready_write, b"r")
            os.read(go_read, 1)
            if emptied in ("bounding", "both"):
                for number in range(last_capability() + 1):
                    prctl(PR_CAPBSET_DROP, number)
            if tracer != "same":
                os.setresuid(*ids)
            if emptied in ("permitted", "both"):
                capset(0, 0)
            if no_new_privs:
                prctl(PR_SET_NO_NEW_PRIVS, 1)
            os.dup2(out_write, 1)
            os.execv(path, [path, *REPORT[1:]])
        except OSError as error:
            os.write(out_write, error_name(error).encode())
        finally:
            os._exit(1)
    os.close(out_write)
    os.read(ready_read, 1)
    if tracer:
        follow(pid, go_write, tracer)
    else:
        os.write(go_write, b"g")
    with open(out_read) as file:
        text = file.read()
    if not tracer:
        os.waitpid(pid, 0)
    for descriptor in (go_read, go_write, ready_read, ready_write):
        os.close(descriptor)
    return text


def follow(pid: int, go: int, tracer: str) -> None:
    """Seize `pid` with the tracer's rights, let it go on, compare its ids at the exec stop."""
    watcher = os.fork()
    if watcher == 0:
        try:
            everything = permitted_capabilities()
            if tracer == "weak":
                capset(everything & ~(1 << CAP_SYS_PTRACE), everything)
            elif tracer == "same":
                os.setresuid(1000, 1000, 1000)
            seize(pid)
            if tracer == "weak":
                capset(everything, everything)
            os.write(go, b"g")
            while True:
                _, status = os.waitpid(pid, 0)
                if not os.WIFSTOPPED(status):
                    break
                if status >> 8 == signal.SIGTRAP | PTRACE_EVENT_EXEC << 8:
                    # At the stop the new ids are in force already.
                    print(f"note: at the exec stop {status_ids(pid)}", flush=True)
                    call(SYS_PTRACE, PTRACE_DETACH, pid, 0, 0)
                    break
                call(SYS_PTRACE, PTRACE_CONT, pid, 0, os.WSTOPSIG(status))
        except OSError as error:
            print(f"note: tracer: {error_name(error)}", flush=True)
            os.kill(pid, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(watcher, 0)
    os.waitpid(pid, 0)


def kill_from(uid: int, ids: Ids) -> str:
    """Return whether a process of `uid` may signal one with `ids`."""
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(*ids)
        os.write(ready_write, b"r")
        signal.pause()
        os._exit(0)
    os.read(ready_read, 1)
    sender = os.fork()
    if sender == 0:
        os.setresuid(uid, uid, uid)
        os._exit(0 if outcome(lambda: os.kill(pid, 0)) == "ok" else 1)
    _, status = os.waitpid(sender, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "allowed" if status == 0 else "EPERM"


def ambient_report() -> str:
    """Exec with equal ids and an ambient capability; return the report."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            prctl(8, 1)  # PR_SET_KEEPCAPS
            os.setresuid(1000, 1000, 1000)
            one = 1 << 10  # CAP_NET_BIND_SERVICE
            data = struct.pack("6I", one, one, one, 0, 0, 0)
            call(SYS_CAPSET, struct.pack("Ii", 0x20080522, 0), data)
            prctl(47, 2, 10)  # PR_CAP_AMBIENT_RAISE
            os.execv(REPORT[0], REPORT)
        except OSError as error:
            os.write(writing, error_name(error).encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def main() -> None:
    """Print the facts about ids."""
    directory = workplace("ext4")
    setuid_file = os.path.join(directory, "python-setuid")
    shutil.copyfile(PYTHON, setuid_file)
    os.chmod(setuid_file, 0o4755)
    root_like: Ids = (1000, 0, 0)
    service: Ids = (1000, 900, 900)
    cases: list[tuple[str, Callable[[], str]]] = [
        ("no_new_privs, uid 1000/0/0", lambda: exec_report(root_like, no_new_privs=True)),
        ("no_new_privs, uid 1000/900/900", lambda: exec_report(service, no_new_privs=True)),
        ("no_new_privs, uid 1000/0/0, no capabilities, empty bounding set",
         lambda: exec_report(root_like, no_new_privs=True, emptied="both")),
        ("no_new_privs, uid 1000/0/0, no capabilities, full bounding set",
         lambda: exec_report(root_like, no_new_privs=True, emptied="permitted")),
        ("plain, uid 1000/0/0", lambda: exec_report(root_like)),
        ("plain, uid 1000/900/900", lambda: exec_report(service)),
        ("plain, uid 1000/0/0, empty bounding set",
         lambda: exec_report(root_like, emptied="bounding")),
        ("seized by root, uid 1000/0/0", lambda: exec_report(root_like, tracer="root")),
        ("seized by root, uid 1000/900/900", lambda: exec_report(service, tracer="root")),
        ("seized by root without effective CAP_SYS_PTRACE, uid 1000/0/0",
         lambda: exec_report(root_like, tracer="weak")),
        ("seized by root without effective CAP_SYS_PTRACE, uid 1000/900/900",
         lambda: exec_report(service, tracer="weak")),
        ("set-user-ID root file, run by uid 1000",
         lambda: exec_report((1000, 1000, 1000), path=setuid_file)),
        ("set-user-ID root file, run by uid 1000, no_new_privs",
         lambda: exec_report((1000, 1000, 1000), path=setuid_file, no_new_privs=True)),
        ("set-user-ID root file, run by uid 1000, empty bounding set",
         lambda: exec_report((1000, 1000, 1000), path=setuid_file, emptied="bounding")),
        ("set-user-ID root file, run by uid 1000, seized by root",
         lambda: exec_report((1000, 1000, 1000), path=setuid_file, tracer="root")),
        ("set-user-ID root file, run by uid 1000, seized by uid 1000",
         lambda: exec_report((1000, 1000, 1000), path=setuid_file, tracer="same")),
        ("equal ids 1000, ambient CAP_NET_BIND_SERVICE", ambient_report),
    ]
    try:
        for name, probe in cases:
            fact(f"exec: {name}", probe())
        fact("kill by uid 1000 of a process with uid 1000/0/0", kill_from(1000, root_like))
        fact("kill by uid 1000 of a process with uid 1000/900/900", kill_from(1000, service))
        fact("kill by uid 1000 of a process with uid 0/0/0", kill_from(1000, (0, 0, 0)))
        fact("fs.suid_dumpable", read_text("/proc/sys/fs/suid_dumpable"))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
