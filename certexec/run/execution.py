"""An execve or execveat whose file or arguments are judged, and what really came of it.

The kernel looks the file up and copies the arguments itself, after the verdict. So they are judged
twice: before, from the caller's memory, so that a denial is an errno; and at the exec stop, when
file and arguments are in place and out of the program's reach. Whoever exchanged them in between
is killed there.

A script is judged by its own path and the arguments that it was called with. What runs is its
interpreter, which is compared with the one that the judged script names; the interpreter then opens
the script by its name, which is a call of its own, judged as such.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel.procfs import own_fd, proc, read_argv
from certexec.run.call import Call, Fault
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver, text_of
from certexec.run.step import OPEN_PATH

AT_EXECVE_CHECK = 0x10000
"""execveat(2): only ask whether it would be executed (Linux 6.14)."""
HEAD = 256
"""bytes that the kernel looks at (BINPRM_BUF_SIZE, linux/binfmts.h)."""
INTERPRETERS = 5
"""scripts whose interpreter is a script; the kernel follows as many (exec_binprm, fs/exec.c)."""
ARGUMENTS_SIZE = 6 << 20
"""bytes; three quarters of _STK_LIM, beyond which execve answers E2BIG (fs/exec.c)."""
POINTER = 8
_PAGE = 4096


class Execution(Operation):
    """One exec, prepared: the file is pinned, its interpreters too; the arguments are copied.

    Attributes:
        arguments: as the caller passed them.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        """Raises Fault, with what the kernel would answer to unreadable arguments."""
        super().__init__(call)
        at = call.name == "execveat"
        flags = call.int_arg(4) if at else 0
        if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_EXECVE_CHECK):
            raise Fault(errno.EINVAL)
        self._resolver = resolver
        self._dirfd = call.int_arg(0) if at else AT_FDCWD
        path = call.path(1 if at else 0)
        self.arguments = _strings(call, 2 if at else 1)
        if not path and flags & AT_EMPTY_PATH:
            self.found = resolver.descriptor(call.task, self._dirfd)
        else:
            follow = not flags & AT_SYMLINK_NOFOLLOW
            self.found = resolver.object(call.task, self._dirfd, path, follow)
        self._pinned: list[Resolved] = [self.found]
        try:
            self._find_interpreters()
        except BaseException:
            self.close()
            raise
        self.values = _values(self.found.text, self.arguments)

    def _find_interpreters(self) -> None:
        """Pin what will run: the file, or the interpreter that the kernel would take for it."""
        while len(self._pinned) <= INTERPRETERS:
            name = _interpreter(self._pinned[-1].fd)
            if not name:
                return
            self._pinned.append(self._resolver.object(self.call.task, AT_FDCWD, name, True))

    @property
    def is_script(self) -> bool:
        """Whether the file begins like a script."""
        return len(self._pinned) > 1

    def outcome(self, pid: int) -> dict[str, list[str]]:
        """Return ``values`` as they came true; ``pid`` stands at its exec stop. Raises OSError."""
        running = os.open(proc(pid, "exe"), OPEN_PATH)
        try:
            arguments = read_argv(pid, ARGUMENTS_SIZE)
            expected = self._pinned[-1].fd
            if expected < 0 or not os.path.samestat(os.fstat(running), os.fstat(expected)):
                return _values(text_of(running) or os.readlink(own_fd(running)), arguments)
        finally:
            os.close(running)
        if self.is_script:
            # [interpreter, its option, ..., script, the caller's arguments from the second on]
            tail = self.arguments[1:]
            if arguments[len(arguments) - len(tail) :] == tail:
                arguments = self.arguments
        return _values(self.found.text, arguments)

    def close(self) -> None:
        """Give back what was pinned."""
        for one in self._pinned:
            one.close()


def _values(path: str, arguments: list[bytes]) -> dict[str, list[str]]:
    return {"filename": [path], "argv": [os.fsdecode(b" ".join(arguments))]}


def _strings(call: Call, register: int) -> list[bytes]:
    """Copy a vector of strings; a null pointer is an empty one. Raises Fault(EFAULT or E2BIG)."""
    address, room = call.arg(register), ARGUMENTS_SIZE
    strings: list[bytes] = []
    if address == 0:
        return strings
    try:
        while True:
            # up to the end of the page: the next one need not be there
            block = call.memory.read(address, _PAGE - address % _PAGE & -POINTER or POINTER)
            for start in range(0, len(block), POINTER):
                pointer = int.from_bytes(block[start : start + POINTER], "little")
                if pointer == 0:
                    return strings
                text = call.memory.read_string(pointer, room)
                room -= POINTER + len(text or b"") + 1
                if text is None or room <= 0:
                    raise Fault(errno.E2BIG)
                strings.append(text)
            address += len(block)
    except OSError:
        raise Fault(errno.EFAULT) from None


def _interpreter(fd: int) -> bytes:
    """Return the interpreter that a script's first line names, b"" for what is no script.

    Source: load_script, fs/binfmt_script.c.
    """
    if fd < 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
        return b""
    try:
        readable = os.open(own_fd(fd), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # what its user cannot read can be executed, but not as a script
    try:
        head = os.pread(readable, HEAD, 0)
    except OSError:
        return b""
    finally:
        os.close(readable)
    if not head.startswith(b"#!"):
        return b""
    line = head[2:].partition(b"\n")[0].partition(b"\0")[0].strip(b" \t")
    return line.replace(b"\t", b" ").partition(b" ")[0]
