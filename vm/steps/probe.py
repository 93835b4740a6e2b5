"""What the probes share: raw system calls, children that report back, one line per fact.

A probe runs as root, inside the guest or directly on a machine, and prints `fact: NAME = VALUE`
for what the running kernel did. Nothing is concluded from version numbers.
"""

import ctypes
import errno
import os
import struct
import sys
import tempfile
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

SYS_PTRACE, SYS_CAPGET, SYS_CAPSET = 101, 125, 126
PR_SET_DUMPABLE, PR_CAPBSET_DROP = 4, 24
PR_SET_NO_NEW_PRIVS = 38
PTRACE_CONT, PTRACE_DETACH = 7, 17
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_LISTEN = 0x4206, 0x4207, 0x4208
PTRACE_O_TRACEEXEC, PTRACE_O_EXITKILL = 1 << 4, 1 << 20
PTRACE_EVENT_EXEC, PTRACE_EVENT_STOP = 4, 128
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
CAP_SYS_PTRACE = 19

# A program that reports on itself in one line, started as `python -I -S -c REPORTER`.
REPORTER = """
import ctypes
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
s = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)
ids = '/'.join(s['Uid'].split()[:3])
some = 'some' if int(s['CapPrm'], 16) else 'none'
print('uid', ids, 'capabilities', some, 'AT_SECURE', libc.getauxval(23),
      'dumpable', libc.prctl(3, 0, 0, 0, 0), end='')
"""
REPORT = [PYTHON, "-I", "-S", "-c", REPORTER]


def read_text(path: str) -> str:
    """Return a small file's text without the white space around it."""
    with open(path) as file:
        return file.read().strip()


def fact(name: str, value: object) -> None:
    """Print one fact."""
    print(f"fact: {name} = {value}", flush=True)


def error_name(error: OSError) -> str:
    """Return the errno's name."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def call(number: int, *arguments: object) -> int:
    """Make a raw system call; raise OSError when it fails."""
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Call prctl with all five arguments given."""
    return call(157, option, *[*arguments, 0, 0, 0, 0][:4])


def outcome(function: Callable[[], object], good: str = "ok") -> str:
    """Return `good`, what `function` returned when that is text, or the errno's name."""
    try:
        result = function()
    except OSError as error:
        return error_name(error)
    return result if isinstance(result, str) else good


def forked(function: Callable[[], object]) -> str:
    """Run `function` in a child; return the text that it returned, or the errno's name."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.write(writing, outcome(function).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return text if text or not status else f"died with {os.waitstatus_to_exitcode(status)}"


def capset(effective: int, permitted: int) -> None:
    """Set this process's effective and permitted capabilities (64-bit masks); none inheritable."""
    header = struct.pack("Ii", 0x20080522, 0)
    low = 0xFFFFFFFF
    data = struct.pack("6I", effective & low, permitted & low, 0, effective >> 32,
                       permitted >> 32, 0)
    call(SYS_CAPSET, header, data)


def status_field(pid: int | str, name: str) -> list[str]:
    """Return the words of one line of /proc/PID/status."""
    for line in read_text(f"/proc/{pid}/status").splitlines():
        if line.startswith(name + ":"):
            return line.split()[1:]
    return []


def last_capability() -> int:
    """Return the highest capability number of this kernel."""
    return int(read_text("/proc/sys/kernel/cap_last_cap"))


def permitted_capabilities() -> int:
    """Return this process's permitted set."""
    return int(status_field("self", "CapPrm")[0], 16)


def seize(pid: int, options: int = PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL) -> None:
    """PTRACE_SEIZE a process."""
    call(SYS_PTRACE, PTRACE_SEIZE, pid, 0, options)


def status_ids(pid: int) -> str:
    """Return ruid/euid/suid of a process as the kernel shows them."""
    return "/".join(status_field(pid, "Uid")[:3])


def workplace(kind: str) -> str:
    """Make a directory on an ext4 or tmpfs file system, open to everybody; return its path."""
    top = "/var/tmp" if kind == "ext4" else "/dev/shm"  # noqa: S108
    path = tempfile.mkdtemp(prefix="probe-", dir=top)
    os.chmod(path, 0o755)  # noqa: S103
    return path


def private_mounts() -> None:
    """Go to a mount namespace of one's own, so that nothing mounted here outlives the probe."""
    call(272, 0x00020000)  # unshare(CLONE_NEWNS)
    mount("none", "/", None, 1 << 18 | 1 << 14)  # MS_PRIVATE | MS_REC


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """Mount a file system; raise OSError when it fails."""
    call(165, source.encode(), target.encode(), kind.encode() if kind else 0, flags,
         options.encode() if options else 0)
