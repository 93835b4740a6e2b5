"""binfmt_misc: flags, AT_EXECFD, ids from a set-user-ID file, names; in a user namespace too.

The handler is Python itself: the test file is eight magic bytes and then a zip archive, which the
interpreter runs as a program. It reports on the process that the kernel made.
"""

# ruff: noqa: S103, S606 - probes make set-user-ID files and execute them on purpose

import io
import os
import shutil
import tempfile
import zipfile

from probe import (
    PR_SET_NO_NEW_PRIVS,
    PYTHON,
    call,
    fact,
    forked,
    mount,
    outcome,
    prctl,
    private_mounts,
    workplace,
)

MAGIC = b"\xd9\xd9\xf7\xdaPRBE"  # not certexec's own: a handler may be registered already
NAME = "certexec-probe"
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_REMOUNT, MS_BIND = 2, 32, 4096
REPORTER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
aux = libc.getauxval
aux.restype = ctypes.c_ulong
s = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)
fd, path = aux(2), sys.argv[0]
try:
    a, b = os.fstat(fd), os.stat(path)
    same = (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    text = 'is the file' if same else 'is another file'
    text += ', close-on-exec' if not os.get_inheritable(fd) else ''
    text += ', writable' if os.O_ACCMODE & __import__('fcntl').fcntl(fd, 3) else ''
except OSError as e:
    text = 'absent'
print('|'.join([
    ' '.join(['uid', '/'.join(s['Uid'].split()[:3]), 'AT_SECURE', str(aux(23)),
              'dumpable', str(libc.prctl(3, 0, 0, 0, 0))]),
    text, s['Name'].strip(), os.path.basename(os.readlink('/proc/self/exe')), str(aux(8)),
    ' '.join(sys.argv[1:]),
    open('/proc/self/cmdline').read().replace(chr(0), ' ').strip().replace(path, 'FILE'),
]), end='')
"""


def make_file(path: str, mode: int) -> None:
    """Write a file that the handler runs."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("__main__.py", REPORTER)
    with open(path, "wb") as file:
        file.write(MAGIC + archive.getvalue())
    os.chmod(path, mode)


def register(flags: str, where: str = "/proc/sys/fs/binfmt_misc", interpreter: str = PYTHON) -> str:
    """Register the handler; return ok or the errno's name."""
    magic = "".join(f"\\x{byte:02x}" for byte in MAGIC)
    line = f":{NAME}:M::{magic}::{interpreter}:{flags}"

    def write() -> None:
        with open(f"{where}/register", "wb", buffering=0) as file:
            file.write(line.encode())

    return outcome(write)


def unregister(where: str = "/proc/sys/fs/binfmt_misc") -> None:
    """Take the handler away when it is there."""
    if os.path.exists(f"{where}/{NAME}"):
        with open(f"{where}/{NAME}", "w") as file:
            file.write("-1")


def run(path: str, uid: int = 0, no_new_privs: bool = False) -> list[str]:
    """Execute `path` with argv ["typed", "one"]; return what the handler reported."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            if no_new_privs:
                prctl(PR_SET_NO_NEW_PRIVS, 1)
            os.execve(path, ["typed", "one"], {"PATH": "/usr/bin:/bin"})
        except OSError as error:
            os.write(writing, (error.strerror or "").encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return (text.split("|") + ["nothing"] * 7)[:7]


def in_user_namespace(directory: str) -> str:
    """Mount binfmt_misc inside a new user namespace of uid 1000 and run through it."""

    def inside() -> str:
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        prctl(4, 1)
        try:
            call(272, CLONE_NEWUSER | CLONE_NEWNS)
        except OSError:
            return "no user namespace for uid 1000"
        for name, text in (("setgroups", "deny"), ("uid_map", "0 1000 1"), ("gid_map", "0 1000 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        where = "/mnt"
        answer = outcome(lambda: mount("none", where, "binfmt_misc"))
        if answer != "ok":
            return f"mount: {answer}"
        answer = register("POCF", where)
        if answer != "ok":
            return f"register: {answer}"
        return "runs" if run(f"{directory}/inside")[1].startswith("is the file") else "does not run"

    return forked(inside)


def main() -> None:
    """Print the facts about binfmt_misc."""
    private_mounts()
    if not os.path.exists("/proc/sys/fs/binfmt_misc/register"):
        mount("none", "/proc/sys/fs/binfmt_misc", "binfmt_misc")
    directory = workplace("ext4")
    handler = os.path.join(directory, "handler")
    shutil.copyfile(PYTHON, handler)
    os.chmod(handler, 0o755)
    for name, mode in (("plain", 0o755), ("setuid", 0o4755), ("other", 0o4755), ("inside", 0o755)):
        make_file(os.path.join(directory, name), mode)
    os.chown(f"{directory}/other", 1001, 1001)
    os.chmod(f"{directory}/other", 0o4755)
    try:
        fact("binfmt_misc in a user namespace of uid 1000", in_user_namespace(directory))
        for flags in ("POCF", "POC", "PO", "POCFL", "POCFT", "POCFD", "POCFB"):
            answer = register(flags, interpreter=handler)
            if len(flags) > 4:
                fact(f"binfmt_misc flags {flags}", answer)
                unregister()
                continue
            fact(f"binfmt_misc flags {flags}", answer)
            plain = run(f"{directory}/plain", 1000)
            setuid = run(f"{directory}/setuid", 1000)
            fact(f"{flags}: plain file run by uid 1000", plain[0])
            fact(f"{flags}: set-user-ID root file run by uid 1000", setuid[0])
            if flags == "POCF":
                fact("POCF: AT_EXECFD", plain[1])
                fact("POCF: process name (comm) of FILE named plain", plain[2])
                fact("POCF: /proc/PID/exe of FILE, handler named handler", plain[3])
                fact("POCF: AT_FLAGS", plain[4])
                fact("POCF: argument list after execve(FILE, [typed, one])",
                     plain[6].replace(handler, "HANDLER"))
                fact("POCF: set-user-ID file of uid 1001 run by uid 1000",
                     run(f"{directory}/other", 1000)[0])
                fact("POCF: set-user-ID root file run by uid 1000, no_new_privs",
                     run(f"{directory}/setuid", 1000, True)[0])
                nosuid = tempfile.mkdtemp()
                os.chmod(nosuid, 0o755)
                mount(directory, nosuid, None, MS_BIND)
                mount("none", nosuid, None, MS_REMOUNT | MS_BIND | MS_NOSUID)
                fact("POCF: set-user-ID root file on a nosuid mount",
                     run(f"{nosuid}/setuid", 1000)[0])
                call(166, nosuid.encode(), 0)
                os.rmdir(nosuid)
                os.rename(handler, handler + ".away")
                fact("POCF: handler file renamed away after registering",
                     "runs" if run(f"{directory}/plain")[1] == plain[1] else "does not run")
                os.rename(handler + ".away", handler)
            unregister()
    finally:
        unregister()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
