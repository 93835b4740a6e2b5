"""An execve or execveat whose file or arguments are judged, and what really came of it.

The kernel looks the file up and copies the arguments itself, after the verdict. So they are judged
twice: before, from the caller's memory, so that a denial is an errno; and at the exec stop, when
file and arguments are in place and out of the program's reach. Whoever exchanged them in between
is killed there.

A script is judged by its own path and the arguments that it was called with. What runs is its
interpreter, which is compared with the one that the judged script names, and so are the arguments
that the kernel made for it. The interpreter then opens the script by its name, which is a call of
its own, judged as such. So a script comes under a policy of its own only by a name that the caller
cannot lead elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.certificate.envelope import PREFIX
from certexec.kernel.procfs import ARGUMENTS_MAX, own_fd, proc, read_argv
from certexec.run.call import Call, Fault
from certexec.run.nested import LAUNCHER_ARGUMENTS, runs_launcher
from certexec.run.operations import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver, text_of
from certexec.run.step import OPEN_PATH
from certexec.run.task import Task, open_base
from certexec.run.trusted_links import leads_by_roots_links

AT_EXECVE_CHECK = 0x10000
"""execveat(2): only ask whether it would be executed (Linux 6.14)."""
HEAD = 256
"""bytes that the kernel looks at (BINPRM_BUF_SIZE, linux/binfmts.h)."""
INTERPRETERS = 5
"""scripts whose interpreter is a script; the kernel follows as many (exec_binprm, fs/exec.c)."""
POINTER = 8
FOREIGN_POINTER = 4
"""bytes of a pointer in a call of the 32-bit ABI."""
_PAGE = 4096


class Execution(Operation):
    """One exec, prepared: the file is pinned, its interpreters too; the arguments are copied.

    Attributes:
        arguments: as the caller passed them.
        steady: whether what runs is the judged file for certain; not a script whose name leads
            through links or directories that may be exchanged.
        is_certificate: what the kernel starts for it is certexec's launcher; launched: it did.
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
        self._path = path = call.path(1 if at else 0)
        self.arguments = _strings(call, 2 if at else 1)
        if not path and flags & AT_EMPTY_PATH:
            self.found = resolver.descriptor(call.task, self._dirfd)
        else:
            follow = not flags & AT_SYMLINK_NOFOLLOW
            self.found = resolver.object(call.task, self._dirfd, path, follow)
        self._pinned: list[Resolved] = [self.found]
        self._expected = self.arguments
        self.steady = True
        self.is_certificate = self.launched = False
        try:
            self._find_interpreters()
        except BaseException:
            self.close()
            raise
        self.values = _values(self.found.text, self.arguments)

    def _find_interpreters(self) -> None:
        """Pin what will run: the file, or the interpreter that the kernel would take for it."""
        name = path = self._path
        if self._dirfd != AT_FDCWD and not path.startswith(b"/"):
            name = b"/dev/fd/%d" % self._dirfd + (b"/" + path if path else b"")
        head = _head(self.found.fd)
        self.is_certificate = head.startswith(PREFIX)
        while len(self._pinned) <= INTERPRETERS:
            line = _interpreter(head)
            if not line:
                break
            self._pinned.append(self._resolver.object(self.call.task, AT_FDCWD, line[0], True))
            self._expected = [*line, name, *self._expected[1:]]
            name = line[0]
            head = _head(self._pinned[-1].fd)
        if self.is_script:
            self.steady = self._leads_nowhere_else(self.call.task)

    def _leads_nowhere_else(self, task: Task) -> bool:
        path = self._path
        if b".." in path.split(b"/"):
            return False  # of a directory that may have been moved
        if not path.startswith(b"/"):
            if not path or self._dirfd != AT_FDCWD:
                return False  # a descriptor, which another thread may exchange
            try:
                base = open_base(task, AT_FDCWD)
            except OSError:
                return False
            try:
                path = os.fsencode(text_of(base) or "") + b"/" + path
            finally:
                os.close(base)
        return self.found.fd >= 0 and leads_by_roots_links(path, self.found.fd)

    @property
    def is_script(self) -> bool:
        """Whether the file begins like a script."""
        return len(self._pinned) > 1

    def outcome(self, pid: int) -> dict[str, list[str]]:
        """Return ``values`` as they came true; ``pid`` stands at its exec stop. Raises OSError."""
        running = os.open(proc(pid, "exe"), OPEN_PATH)
        try:
            arguments = read_argv(pid)
            if self.is_certificate and runs_launcher(pid, self.found.fd):
                self.launched = True
                return _values(self.found.text, arguments[LAUNCHER_ARGUMENTS:])
            expected = self._pinned[-1].fd
            same = expected >= 0 and os.path.samestat(os.fstat(running), os.fstat(expected))
            if self.is_script and same:
                same = arguments == self._expected
                if self.steady:  # its directory is out of everybody's reach only now
                    same = same and self._leads_nowhere_else(Task(pid, pid))
            if not same:
                return _values(text_of(running) or os.readlink(own_fd(running)), arguments)
        finally:
            os.close(running)
        return _values(self.found.text, self.arguments if self.is_script else arguments)

    def close(self) -> None:
        """Give back what was pinned."""
        for one in self._pinned:
            one.close()


def _values(path: str, arguments: list[bytes]) -> dict[str, list[str]]:
    return {"filename": [path], "argv": [os.fsdecode(b" ".join(arguments))]}


def _strings(call: Call, register: int) -> list[bytes]:
    """Copy a vector of strings; a null pointer is an empty one. Raises Fault(EFAULT or E2BIG)."""
    address, room = call.arg(register), ARGUMENTS_MAX
    width = FOREIGN_POINTER if call.foreign else POINTER
    strings: list[bytes] = []
    if address == 0:
        return strings
    try:
        while True:
            # up to the end of the page: the next one need not be there
            block = call.memory.read(address, _PAGE - address % _PAGE & -width or width)
            for start in range(0, len(block), width):
                pointer = int.from_bytes(block[start : start + width], "little")
                if pointer == 0:
                    return strings
                text = call.memory.read_string(pointer, room)
                room -= width + len(text or b"") + 1
                if text is None or room <= 0:
                    raise Fault(errno.E2BIG)
                strings.append(text)
            address += len(block)
    except OSError:
        raise Fault(errno.EFAULT) from None


def _head(fd: int) -> bytes:
    """Return what the kernel looks at, in order to tell what a file is; b"" where we may not."""
    if fd < 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
        return b""
    try:
        readable = os.open(own_fd(fd), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # what its user cannot read can be executed, but not as a script
    try:
        return os.pread(readable, HEAD, 0).ljust(HEAD, b"\0")
    except OSError:
        return b""
    finally:
        os.close(readable)


def _interpreter(head: bytes) -> list[bytes]:
    """Return what a script's first line names: its interpreter, and the option to it if any.

    Empty for what is no script.

    Source: load_script, fs/binfmt_script.c.
    """
    if not head.startswith(b"#!"):
        return []
    end = head.find(b"\n")
    line = head[2 : end if end >= 0 else HEAD - 1].strip(b" \t")
    length = min((at for mark in b"\0 \t" if (at := line.find(mark)) >= 0), default=len(line))
    name, rest = line[:length], line[length:].lstrip(b" \t")
    if not name:
        return []
    has_option = rest and line[length] != 0
    return [name, rest.partition(b"\0")[0]] if has_option else [name]
