"""Second stage of the guest, process 1: prepare the system, run the steps, report, power off.

Everything it says goes to the serial console. Lines that start with the run's own mark are the
report; between them stands what the steps print.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

RUN = "/vm/run.json"
MOUNTS = (
    ("devpts", "/dev/pts", "devpts", "gid=5,mode=620"),
    ("tmpfs", "/dev/shm", "tmpfs", "mode=1777"),  # noqa: S108
    ("tmpfs", "/run", "tmpfs", "mode=755"),
    ("tmpfs", "/tmp", "tmpfs", "mode=1777"),  # noqa: S108
    ("securityfs", "/sys/kernel/security", "securityfs", ""),
    ("binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc", ""),
)
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
STATUS_TIMED_OUT = 124  # as timeout(1) says it

libc = ctypes.CDLL(None, use_errno=True)


def mount_all() -> None:
    """Mount what a Debian system has mounted."""
    for source, target, kind, options in MOUNTS:
        os.makedirs(target, exist_ok=True)
        if libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()) != 0:
            print(f"certexec-vm: cannot mount {target}: {os.strerror(ctypes.get_errno())}")


def device_links() -> None:
    """Make the links into /proc that udev makes."""
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")


def loopback_up() -> None:
    """Bring the interface lo up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16xH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def homes() -> None:
    """Give the ordinary users their directories."""
    for name, number in (("alice", 1000), ("bob", 1001)):
        path = f"/home/{name}"
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)  # noqa: S103
        os.chown(path, number, number)


def read(path: str) -> str:
    """Return a kernel file's text, "" when there is none."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def command_of(words: list[str]) -> list[str]:
    """Return how a step is started: Python and shell scripts by their interpreter."""
    if words[0].endswith(".py"):
        return [sys.executable, *words]
    if words[0].endswith(".sh"):
        return ["/bin/sh", *words]
    return words


def run_step(words: list[str], seconds: float, environment: dict[str, str]) -> int:
    """Run one step as root in a session of its own; return its exit status, 128+N for signal N."""
    try:
        step = subprocess.Popen(
            command_of(words), stdin=subprocess.DEVNULL, cwd="/root", env=environment,
            start_new_session=True,
        )
    except OSError as error:
        print(f"certexec-vm: {words[0]}: {error.strerror}")
        return 127
    try:
        status = step.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(step.pid, signal.SIGKILL)
        step.wait()
        return STATUS_TIMED_OUT
    return status if status >= 0 else 128 - status


def run_all(run: dict[str, object]) -> None:
    """Run every step of `run` and report each."""
    mark = f"::certexec-vm {run['nonce']}"
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
        "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8", "TERM": "dumb", "CERTEXEC_VM": "1",
        "CERTEXEC_MUST_WORK": "1", **run["environment"],
    }
    print(f"{mark} kernel {os.uname().release}")
    print(f"{mark} version {os.uname().version}")
    print(f"{mark} yama {read('/proc/sys/kernel/yama/ptrace_scope') or 'absent'}")
    print(f"{mark} lsm {read('/sys/kernel/security/lsm') or 'unknown'}")
    print(f"{mark} up {time.clock_gettime(time.CLOCK_BOOTTIME):.1f}")
    for number, words in enumerate(run["steps"]):
        print(f"{mark} begin {number}", flush=True)
        begin = time.monotonic()
        status = run_step(words, run["step_timeout"], environment)
        # A step's last line may lack its newline.
        print(f"\n{mark} end {number} {status} {time.monotonic() - begin:.1f}", flush=True)
    print(f"{mark} done", flush=True)


def main() -> None:
    """Do process 1's work; the steps run in a child so that orphans are collected here."""
    try:
        os.chdir("/")
        os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        mount_all()
        device_links()
        loopback_up()
        homes()
        socket.sethostname("guest")
        with open(RUN) as file:
            run = json.load(file)
        for name, value in run["sysctl"].items():
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(value)
        runner = os.fork()
        if runner == 0:
            try:
                run_all(run)
            finally:
                sys.stdout.flush()
                os._exit(0)
        while os.wait()[0] != runner:
            pass
    except BaseException as error:
        print(f"certexec-vm: {error!r}", flush=True)
    # Wait until the serial line has sent everything.
    os.sync()
    time.sleep(0.1)
    libc.reboot(LINUX_REBOOT_CMD_POWER_OFF)


if __name__ == "__main__":
    main()
