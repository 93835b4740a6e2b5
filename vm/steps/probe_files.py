"""Files at exec: write denial, leases, sealed memfds, names, and calls that kernels may lack."""

# ruff: noqa: S606 - probes execute programs on purpose

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import stat
import struct
import time
from collections.abc import Callable

from probe import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    REPORT,
    call,
    error_name,
    fact,
    forked,
    mount,
    outcome,
    private_mounts,
    read_text,
    workplace,
)

SYS_MMAP, SYS_MUNMAP, PROT_READ, PROT_WRITE, MAP_SHARED = 9, 11, 1, 2, 1
SYS_EXECVEAT, SYS_MEMFD_CREATE, SYS_STATX, SYS_OPENAT2 = 322, 319, 332, 437
SYS_FACCESSAT2, SYS_FCHMODAT2, SYS_LANDLOCK_CREATE = 439, 452, 444
SYS_STATMOUNT, SYS_LISTMOUNT, SYS_PIDFD_OPEN = 457, 458, 434
MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 8, 16
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEALS = {"SEAL": 1, "SHRINK": 2, "GROW": 4, "WRITE": 8, "FUTURE_WRITE": 16, "EXEC": 32}
F_SETLEASE, F_GETLEASE = 1024, 1025
AT_EXECVE_CHECK = 0x10000
STATX_BTIME, STATX_MNT_ID, STATX_MNT_ID_UNIQUE = 0x800, 0x1000, 0x4000
FS_IOC_GETFSUUID, FS_IOC_MEASURE_VERITY = 0x80111500, 0xC0046686
PIDFD_THREAD = os.O_EXCL
SLEEP = os.path.realpath("/usr/bin/sleep")
PAIRS = 500  # write-after-stat pairs
START = 0.3  # seconds until a started program is certainly past its exec


def start(path: str | int) -> int:
    """Start `path` (or an fd by execveat) sleeping; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            if isinstance(path, str):
                os.execv(path, [path, "60"])
            arguments = (ctypes.c_char_p * 3)(b"typed", b"60", None)
            environment = (ctypes.c_char_p * 1)(None)
            call(SYS_EXECVEAT, path, b"", arguments, environment, AT_EMPTY_PATH)
        except OSError as error:
            os._exit(error.errno or 1)
    time.sleep(START)
    return pid


def stop(pid: int) -> str:
    """Kill and collect a started program; return "runs" or the errno of its exec."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        return errno.errorcode.get(os.WEXITSTATUS(status), "?")
    return "runs"


def open_for_writing(path: str) -> str:
    """Return what an open for writing answers."""
    return outcome(lambda: os.close(os.open(path, os.O_WRONLY)))


def write_denial(kind: str, path: str, below: str = "") -> None:
    """Print what happens to writers of a program that runs (below: its file in a lower layer)."""
    pid = start(path)
    name = f"{kind}: while the program runs, "
    fact(name + "open for writing", open_for_writing(path))
    fact(name + "truncate", outcome(lambda: os.truncate(path, os.path.getsize(path))))
    if below:
        fact(name + "open its layer's file for writing", open_for_writing(below))
    stop(pid)
    writer = os.open(path, os.O_WRONLY)
    pid = start(path)
    fact(f"{kind}: exec while a writer is open", stop(pid))
    os.close(writer)
    release = mapping(path)
    pid = start(path)
    fact(f"{kind}: exec while only a writable mapping lives", stop(pid))
    release()
    fact(f"{kind}: read lease while nobody writes", lease(path, False))
    fact(f"{kind}: read lease while a writer is open", lease(path, True))


def mapping(path: str) -> Callable[[], object]:
    """Map `path` shared and writable and close its fd; return what unmaps it."""
    descriptor = os.open(path, os.O_RDWR)
    size = os.fstat(descriptor).st_size
    # The mmap module would keep a copy of the fd, which is a writer by itself.
    address = call(SYS_MMAP, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    return lambda: call(SYS_MUNMAP, address, size)


def lease(path: str, with_writer: bool) -> str:
    """Take a read lease; return ok or the errno's name."""
    writer = os.open(path, os.O_WRONLY) if with_writer else -1
    reader = os.open(path, os.O_RDONLY)
    try:
        return outcome(lambda: fcntl.fcntl(reader, F_SETLEASE, fcntl.F_RDLCK))
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def times_move(path: str) -> str:
    """Count the write-after-stat pairs whose ctime changed."""
    with open(path, "wb", buffering=0) as file:
        file.write(b"x")
        changed = 0
        for _ in range(PAIRS):
            before = os.fstat(file.fileno()).st_ctime_ns
            os.pwrite(file.fileno(), b"y", 0)
            changed += os.fstat(file.fileno()).st_ctime_ns != before
    return f"{changed} of {PAIRS}"


def file_systems() -> None:
    """Print write denial and time stamps on ext4, tmpfs and overlayfs."""
    private_mounts()
    ext4, memory = workplace("ext4"), "/mnt/memory"
    os.makedirs(memory, exist_ok=True)
    mount("none", memory, "tmpfs")
    layers = {"overlayfs over ext4": ext4, "overlayfs over tmpfs": memory}
    try:
        for kind, top in (("ext4", ext4), ("tmpfs", memory)):
            shutil.copy2(SLEEP, f"{top}/sleep")
            write_denial(kind, f"{top}/sleep")
            fact(f"{kind}: write-after-stat pairs that moved ctime", times_move(f"{top}/times"))
        for kind, top in layers.items():
            for part in ("lower", "upper", "work", "merged"):
                os.mkdir(f"{top}/{part}")
            shutil.copy2(SLEEP, f"{top}/lower/below")
            mount("none", f"{top}/merged", "overlay", 0,
                  f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work")
            shutil.copy2(SLEEP, f"{top}/merged/above")
            write_denial(f"{kind}, file in the upper layer", f"{top}/merged/above",
                         f"{top}/upper/above")
            pid = start(f"{top}/merged/below")
            fact(f"{kind}, file in the lower layer: open for writing while it runs",
                 open_for_writing(f"{top}/merged/below"))
            fact(f"{kind}, file in the lower layer: open the layer's file while it runs",
                 open_for_writing(f"{top}/lower/below"))
            stop(pid)
            call(166, f"{top}/merged".encode(), 0)
    finally:
        call(166, memory.encode(), 2)
        os.rmdir(memory)
        shutil.rmtree(ext4)


def memory_file(flags: int, seals: int = 0, path: str = SLEEP) -> int:
    """Return a memfd with a copy of `path`, sealed."""
    descriptor = call(SYS_MEMFD_CREATE, b"sealed", flags)
    with open(path, "rb") as source:
        os.write(descriptor, source.read())
    os.fchmod(descriptor, 0o555)
    if seals:
        fcntl.fcntl(descriptor, F_ADD_SEALS, seals)
    return descriptor


def execute_sealed() -> str:
    """Run a fully sealed memfd by execveat."""
    seals = SEALS["SEAL"] | SEALS["SHRINK"] | SEALS["GROW"] | SEALS["WRITE"]
    return stop(start(memory_file(MFD_CLOEXEC | MFD_ALLOW_SEALING, seals)))


def sealed_write() -> str:
    """Write to a sealed memfd, and to a copy of it opened through /proc."""
    seals = SEALS["SEAL"] | SEALS["SHRINK"] | SEALS["GROW"] | SEALS["WRITE"]
    descriptor = memory_file(MFD_CLOEXEC | MFD_ALLOW_SEALING, seals)
    first = outcome(lambda: os.pwrite(descriptor, b"x", 0))
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    return f"{first}, through /proc/self/fd {outcome(lambda: os.pwrite(again, b'x', 0))}"


def add_seal(name: str) -> str:
    """Add one seal to a fresh memfd."""
    descriptor = call(SYS_MEMFD_CREATE, b"sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING)
    return outcome(lambda: fcntl.fcntl(descriptor, F_ADD_SEALS, SEALS[name]))


def names_after(path: str | int) -> str:
    """Return comm and exe of a program started by path or fd."""
    pid = start(path)
    comm = read_text(f"/proc/{pid}/comm")
    shown = f"the number {comm}" if comm.isdigit() else comm
    exe = os.readlink(f"/proc/{pid}/exe").replace(SLEEP, "the file's path")
    ending = stop(pid)
    return f"{ending}, comm is {shown}, exe is {exe}"


def secret_memory_file() -> str:
    """Let uid 1000 run a root-owned memfd of mode 0111; return ids and dumpable of the program."""
    # The report needs no argument that only root could read.
    descriptor = memory_file(MFD_ALLOW_SEALING | MFD_CLOEXEC, path=os.path.realpath(REPORT[0]))
    os.fchmod(descriptor, 0o111)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            os.setgroups([])
            os.setresuid(1000, 1000, 1000)
            words = [word.encode() for word in REPORT]
            arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
            environment = (ctypes.c_char_p * 1)(None)
            call(SYS_EXECVEAT, descriptor, b"", arguments, environment, AT_EMPTY_PATH)
        except OSError as error:
            os.write(writing, error_name(error).encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text or "no report"


def statx_mask(mask: int, path: str = "/") -> str:
    """Return whether statx fills the asked field."""
    buffer = ctypes.create_string_buffer(256)
    call(SYS_STATX, AT_FDCWD, path.encode(), 0, mask, buffer)
    return "filled" if struct.unpack_from("I", buffer)[0] & mask else "not filled"


def with_file(function: Callable[[int], object]) -> str:
    """Run `function` on an fd of /etc/passwd."""
    descriptor = os.open("/etc/passwd", os.O_RDONLY)
    try:
        return outcome(lambda: function(descriptor))
    finally:
        os.close(descriptor)


def landlock_abi() -> str:
    """Return the Landlock ABI number."""
    return outcome(lambda: str(call(SYS_LANDLOCK_CREATE, 0, 0, 1)))


def ioctl_bytes(path: str, request: int, size: int) -> str:
    """Return what a read-only ioctl on `path` answers."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return outcome(lambda: fcntl.ioctl(descriptor, request, bytearray(size)) and None)
    finally:
        os.close(descriptor)


def sysctl(name: str) -> str:
    """Return a sysctl's value or "absent"."""
    try:
        with open("/proc/sys/" + name.replace(".", "/")) as file:
            return file.read().strip()
    except OSError:
        return "absent"


def kernel_calls() -> None:
    """Print which system calls and flags exist."""
    fact("Landlock ABI", landlock_abi())
    fact("landlock_restrict_self without no_new_privs, with CAP_SYS_ADMIN",
         forked(landlock_as_root))
    fact("faccessat2 with AT_EMPTY_PATH",
         with_file(lambda fd: call(SYS_FACCESSAT2, fd, b"", os.R_OK, AT_EMPTY_PATH)))
    fact("fchmodat2 with AT_EMPTY_PATH", with_file(
        lambda fd: call(SYS_FCHMODAT2, fd, b"", stat.S_IMODE(os.fstat(fd).st_mode),
                        AT_EMPTY_PATH)))
    fact("statx STATX_MNT_ID", statx_mask(STATX_MNT_ID))
    fact("statx STATX_MNT_ID_UNIQUE", statx_mask(STATX_MNT_ID_UNIQUE))
    fact("statx STATX_BTIME on ext4", statx_mask(STATX_BTIME, "/var/tmp"))  # noqa: S108
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0x04)  # RESOLVE_NO_SYMLINKS
    fact("openat2", outcome(lambda: call(SYS_OPENAT2, AT_FDCWD, b"/etc/passwd", how, 24)))
    fact("statmount and listmount", outcome(
        lambda: call(SYS_LISTMOUNT, struct.pack("IIQQ", 24, 0, 2**64 - 1, 0),
                     ctypes.create_string_buffer(8 * 64), 64, 0)))
    fact("pidfd_open with PIDFD_THREAD",
         outcome(lambda: call(SYS_PIDFD_OPEN, os.getpid(), PIDFD_THREAD)))
    fact("execveat with AT_EXECVE_CHECK", forked(execve_check))
    fact("FS_IOC_GETFSUUID on ext4", ioctl_bytes("/var/tmp", FS_IOC_GETFSUUID, 17))  # noqa: S108
    fact("FS_IOC_MEASURE_VERITY on an ordinary ext4 file",
         ioctl_bytes("/etc/passwd", FS_IOC_MEASURE_VERITY, 68))
    for name in ("vm.memfd_noexec", "fs.leases-enable", "fs.lease-break-time",
                 "kernel.unprivileged_userns_clone", "kernel.seccomp.actions_avail"):
        fact(name, sysctl(name))


def execve_check() -> str:
    """Ask the kernel whether a file may be executed, without executing it."""
    arguments = (ctypes.c_char_p * 2)(b"x", None)
    empty = (ctypes.c_char_p * 1)(None)
    with open(SLEEP, "rb") as file:
        call(SYS_EXECVEAT, file.fileno(), b"", arguments, empty, AT_EMPTY_PATH | AT_EXECVE_CHECK)
    return "ok"


def landlock_as_root() -> str:
    """Take a Landlock domain without no_new_privs."""
    ruleset = call(SYS_LANDLOCK_CREATE, struct.pack("Q", 1), 8, 0)
    return outcome(lambda: call(446, ruleset, 0))


def main() -> None:
    """Print the facts about files."""
    file_systems()
    fact("memfd_create MFD_EXEC",
         outcome(lambda: call(SYS_MEMFD_CREATE, b"x", MFD_EXEC)))
    fact("memfd_create MFD_NOEXEC_SEAL",
         outcome(lambda: call(SYS_MEMFD_CREATE, b"x", MFD_NOEXEC_SEAL)))
    for name in SEALS:
        fact(f"memfd seal {name}", add_seal(name))
    fact("sealed memfd: write", sealed_write())
    fact("sealed memfd: execveat", execute_sealed())
    fact("memfd without seals: open for writing through /proc while it runs", unsealed())
    fact("root's memfd of mode 0111, run by uid 1000", secret_memory_file())
    fact("names after execveat of an fd", names_after(os.open(SLEEP, os.O_RDONLY | os.O_CLOEXEC)))
    fact("names after execveat of a memfd called sealed",
         names_after(memory_file(MFD_CLOEXEC | MFD_ALLOW_SEALING)))
    fact("names after execveat of an O_PATH fd",
         names_after(os.open(SLEEP, os.O_PATH | os.O_CLOEXEC)))
    fact("fexecve of a script, fd with close-on-exec", script(True))
    fact("fexecve of a script, fd without", script(False))
    kernel_calls()


def unsealed() -> str:
    """Open a running memfd program for writing."""
    descriptor = memory_file(MFD_CLOEXEC)
    reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    pid = start(reader)
    answer = open_for_writing(f"/proc/self/fd/{reader}")
    stop(pid)
    return answer


def script(close_on_exec: bool) -> str:
    """Run a shell script by execveat of its fd."""
    descriptor = call(SYS_MEMFD_CREATE, b"script", MFD_CLOEXEC if close_on_exec else 0)
    os.write(descriptor, b"#!/bin/sh\necho $0\n")
    os.fchmod(descriptor, 0o555)

    def inside() -> str:
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.dup2(writing, 1)
            arguments = (ctypes.c_char_p * 2)(b"typed", None)
            empty = (ctypes.c_char_p * 1)(None)
            try:
                call(SYS_EXECVEAT, descriptor, b"", arguments, empty, AT_EMPTY_PATH)
            except OSError as error:
                os.write(1, error_name(error).encode())
            os._exit(1)
        os.close(writing)
        text = os.read(reading, 1000).decode().strip().replace(str(descriptor), "N")
        os.wait()
        return f"runs, $0 is {text}" if text.startswith("/") else text

    return forked(inside)


if __name__ == "__main__":
    main()
