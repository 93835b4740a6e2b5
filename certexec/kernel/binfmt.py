"""The door to binfmt_misc: mount it, register a handler, read back what is registered.

Sources: Documentation/admin-guide/binfmt-misc.rst, fs/binfmt_misc.c. Since Linux 6.7 each user
namespace may mount an instance of its own (commit 21ca59b365c0); programs there use the nearest
instance, so without one they use that of the namespace above.
"""

from __future__ import annotations

import errno
import os

from certexec.errors import KernelError
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import in_initial_user_namespace, read_file

MOUNT_POINT = "/proc/sys/fs/binfmt_misc"
NAME = "certexec"
MAGIC = bytes.fromhex("d9d9f7da43584543")
"""The first bytes of every certificate. No NUL: the kernel's unescaping stops at one."""
FLAGS = "POCF"
"""P keeps argv[0], O passes the open file, C honours its set-user-ID bit, F pins the launcher."""
_FILE_SYSTEM = b"binfmt_misc"
_MOUNT = 165
_UMOUNT2 = 166
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MAX_INTERPRETER = 127
"""bytes; the kernel refuses a longer interpreter path (BINPRM_BUF_SIZE was 128)."""
_CONTROL_FILES = ("register", "status")
_READ_LIMIT = 4096
"""bytes; the kernel shows an entry in one page."""
_MODPROBE = "/sbin/modprobe"


class Entry:
    """One registered handler, as the kernel shows it.

    Attributes:
        name: its file name below the mount point.
        enabled: whether it takes part in exec.
        interpreter: the path that runs; flags: letters as registered.
        offset, magic, mask: where which bytes must stand; mask is empty when all bits count.
        extension: for an entry by file name ending, without the dot; else empty.
    """

    __slots__ = ("enabled", "extension", "flags", "interpreter", "magic", "mask", "name", "offset")

    def __init__(self, name: str, text: bytes) -> None:
        self.name = name
        self.enabled = False
        self.interpreter = ""
        self.flags = ""
        self.offset = 0
        self.magic = b""
        self.mask = b""
        self.extension = ""
        for line in os.fsdecode(text).splitlines():
            word, _, value = line.partition(" ")
            if line in ("enabled", "disabled"):
                self.enabled = line == "enabled"
            elif word == "interpreter":
                self.interpreter = value
            elif word == "flags:":
                self.flags = value
            elif word == "offset":
                self.offset = int(value)
            elif word == "magic":
                self.magic = bytes.fromhex(value)
            elif word == "mask":
                self.mask = bytes.fromhex(value)
            elif word == "extension":
                self.extension = value.removeprefix(".")

    def takes(self, head: bytes) -> bool:
        """Tell whether a file that begins with ``head`` could be this entry's.

        Bytes past the end of ``head`` are unknown and match anything.
        """
        if not self.magic:
            return False
        for index, wanted in enumerate(self.magic):
            place = self.offset + index
            bits = self.mask[index] if index < len(self.mask) else 0xFF
            if place < len(head) and (head[place] ^ wanted) & bits:
                return False
        return True

    def problems(self, interpreter: str) -> list[str]:
        """List how this entry differs from the handler that certexec registers."""
        found = []
        if not self.enabled:
            found.append("it is disabled")
        if self.interpreter != interpreter:
            found.append(f'it starts "{self.interpreter}"')
        if sorted(self.flags) != sorted(FLAGS):
            found.append(f'its flags are "{self.flags}", not "{FLAGS}"')
        if (self.offset, self.magic, self.mask) != (0, MAGIC, b""):
            found.append("its magic is not that of a certificate")
        return found


def _fail(what: str, error: OSError) -> KernelError:
    if error.errno in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return KernelError("not-root", f"{what} needs root", "run the command as root")
        return KernelError(
            "kernel-unsupported",
            f"{what} is forbidden here, even to root",
            'a container has it done from outside; certificates still run with "certexec run"',
        )
    return KernelError("kernel-unsupported", f"{what} failed: {error.strerror}")


def supported() -> bool:
    """Tell whether the running kernel has binfmt_misc, built in or as a loaded module."""
    try:
        return b"binfmt_misc" in read_file("/proc/filesystems").split()
    except OSError:
        return False


def load_module() -> bool:
    """Ask modprobe for binfmt_misc where the kernel lacks it; tell whether it is there now."""
    if not supported():
        try:
            pid = os.posix_spawn(_MODPROBE, ["modprobe", "-q", "binfmt_misc"], {})
            os.waitpid(pid, 0)
        except OSError:
            pass  # no modprobe: whether it worked is asked below in any case
    return supported()


def mounted() -> bool:
    """Tell whether a binfmt_misc instance is visible at its usual place.

    Looking also triggers systemd's automount.
    """
    return all(os.path.exists(f"{MOUNT_POINT}/{name}") for name in _CONTROL_FILES)


def writable() -> bool:
    """Tell whether this process may register there: in a user namespace, whether it is our own."""
    return os.access(f"{MOUNT_POINT}/register", os.W_OK)


def mount() -> bool:
    """Mount binfmt_misc at its usual place; return whether that was needed.

    In a user namespace the instance of that namespace is mounted, over whatever is visible of the
    one above. Raises KernelError: "kernel-unsupported" or "not-root".
    """
    if in_initial_user_namespace() and mounted():
        return False
    if not load_module():
        raise KernelError(
            "kernel-unsupported",
            "this kernel has no binfmt_misc",
            'certificates still run with "certexec run"',
        )
    try:
        syscall(
            _MOUNT, _FILE_SYSTEM, MOUNT_POINT.encode(), _FILE_SYSTEM, _MS_NOSUID_NODEV_NOEXEC, None
        )
    except OSError as error:
        if error.errno == errno.EBUSY:  # this very instance is on top already
            return False
        failure = _fail("mounting binfmt_misc", error)
        if not in_initial_user_namespace():
            failure.hint = "in a user namespace it takes Linux 6.7 and an own mount namespace"
        raise failure from None
    return True


def unmount() -> None:
    """Take the mount away again; raises KernelError."""
    try:
        syscall(_UMOUNT2, MOUNT_POINT.encode(), 0)
    except OSError as error:
        raise _fail("unmounting binfmt_misc", error) from None


def registration(interpreter: str, name: str = NAME) -> str:
    r"""Return the line that registers certificates with ``interpreter``, magic as \xHH.

    The same line serves /proc/sys/fs/binfmt_misc/register and binfmt.d(5).
    """
    if not interpreter.startswith("/") or len(os.fsencode(interpreter)) > _MAX_INTERPRETER:
        raise KernelError(
            "kernel-unsupported",
            f'"{interpreter}" cannot be a handler: it is not an absolute path of at most '
            f"{_MAX_INTERPRETER} bytes",
        )
    if ":" in interpreter or "\\" in interpreter or "\n" in interpreter:
        raise KernelError("kernel-unsupported", f'"{interpreter}" cannot be written in an entry')
    magic = "".join(f"\\x{byte:02x}" for byte in MAGIC)
    return f":{name}:M:0:{magic}::{interpreter}:{FLAGS}"


def _write(name: str, text: str, what: str) -> None:
    try:
        fd = os.open(f"{MOUNT_POINT}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise _fail(what, error) from None


def register(interpreter: str, name: str = NAME) -> None:
    """Register the handler and read it back.

    Flag F opens ``interpreter`` now: a file that later takes its name does not count until the
    handler is registered again. Raises KernelError.
    """
    _write("register", registration(interpreter, name), f'registering the handler "{name}"')
    entry = read_entry(name)
    wrong = ["it is not there"] if entry is None else entry.problems(interpreter)
    if wrong:
        raise KernelError("kernel-unsupported", f'the handler "{name}" was not taken: {wrong[0]}')


def unregister(name: str = NAME) -> bool:
    """Remove one handler; return whether there was one. Raises KernelError."""
    if read_entry(name) is None:
        return False
    _write(name, "-1", f'removing the handler "{name}"')
    return True


def read_entry(name: str = NAME) -> Entry | None:
    """Read one handler back; None when there is none of that name. Raises KernelError."""
    try:
        return Entry(name, read_file(f"{MOUNT_POINT}/{name}", _READ_LIMIT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KernelError("unreadable", f'cannot read the handler "{name}": {error}') from None


def entries() -> list[Entry]:
    """Read every registered handler, sorted by name. Raises KernelError."""
    try:
        names = sorted(os.listdir(MOUNT_POINT))
    except OSError as error:
        raise KernelError("unreadable", f"cannot list handlers: {error.strerror}") from None
    found = [read_entry(name) for name in names if name not in _CONTROL_FILES]
    return [entry for entry in found if entry is not None]


def switched_on() -> bool:
    """Tell whether binfmt_misc as a whole is enabled (its file "status")."""
    try:
        return read_file(f"{MOUNT_POINT}/status", _READ_LIMIT).strip() == b"enabled"
    except OSError:
        return False


def conflicts(name: str = NAME) -> list[Entry]:
    """List other enabled handlers that could take a certificate: the kernel asks the newest first.

    An entry for the ending ".cert" counts, since many certificates will have that name.
    """
    return [
        entry
        for entry in entries()
        if entry.name != name
        and entry.enabled
        and (entry.takes(MAGIC) or entry.extension == "cert")
    ]
