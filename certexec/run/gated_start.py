"""Becoming a program from under a filter: the few calls that are still due pass by a nonce.

The filter (``certexec.policy.compile``) lets a few calls pass whose sixth argument register, which
none of them uses, holds a number of 64 random bits. It is gone with this image.
"""

from __future__ import annotations

import _signal
import ctypes
import errno
import os
import struct

from certexec.errors import KernelError, RunError
from certexec.kernel.bpf import INSTRUCTION_SIZE
from certexec.kernel.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from certexec.policy.compile import Compiled

_WRITE = 1
_SENDMSG = 46
_PRCTL = 157
_SECCOMP = 317
_EXECVEAT = 322
_AT_FDCWD = -100
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_SECCOMP_SET_MODE_FILTER = 1
_SOCK_FPROG = struct.Struct("=HxxxxxxQ")
_MSGHDR = struct.Struct("=QIxxxxQQQQixxxx")
_CMSG = struct.Struct("=QiiiI")
_RIGHTS = (20, 1, 1)
"""cmsg_len for one descriptor, SOL_SOCKET, SCM_RIGHTS"""
_NONCE_SIZE = 8
_STANDARD_ERROR = 2
_GO_ON = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES))
"""Errors after which the next directory of $PATH is tried, as execvp(3) does."""
_DEFAULT_PATH = "/usr/bin:/bin"


def make_nonce() -> int:
    """Return 64 random bits."""
    return int.from_bytes(os.urandom(_NONCE_SIZE), "little")


def candidates(program: str) -> list[str]:
    """Return the paths to try. Raises RunError("binary-missing") when none is there."""
    if "/" in program:
        return [program]
    places = os.environ.get("PATH", _DEFAULT_PATH).split(os.pathsep)
    found = [path for place in places if os.path.lexists(path := os.path.join(place, program))]
    if not program or not found:
        raise RunError(
            "binary-missing", f'there is no program "{program}" in $PATH', "give its path"
        )
    return found


class GatedStart:
    """The filter and the calls that pass it, prepared: nothing here needs another one."""

    def __init__(self, program: str, arguments: Sequence[str], compiled: Compiled) -> None:
        """Look the program up. Raises RunError("binary-missing")."""
        self.nonce = make_nonce()
        self.program = program
        self._paths = [os.fsencode(path) for path in candidates(program)]
        code = compiled.with_nonce(self.nonce)
        self._filter = ctypes.create_string_buffer(code, len(code))
        self._header = _SOCK_FPROG.pack(
            len(code) // INSTRUCTION_SIZE, ctypes.addressof(self._filter)
        )
        environment = [name + b"=" + value for name, value in os.environb.items()]
        self._strings: list[ctypes.Array[ctypes.c_char]] = []
        self._argv = self._vector([os.fsencode(one) for one in (program, *arguments)])
        self._environment = self._vector(environment)

    def _vector(self, strings: Sequence[bytes]) -> bytes:
        kept = [ctypes.create_string_buffer(one) for one in strings]
        self._strings += kept
        return struct.pack(f"={len(kept) + 1}Q", *map(ctypes.addressof, kept), 0)

    def confine(self, flags: int = 0) -> int:
        """Install the filter, under no_new_privs, which no kernel takes back, read back.

        ``flags``: SECCOMP_FILTER_FLAG_*; returns what seccomp(2) returns, a listener if one was
        asked for. Raises OSError.
        """
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(number, _signal.SIG_DFL)  # the interpreter ignores them, programs do not
        syscall(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if syscall(_PRCTL, _PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
            raise OSError(errno.EPERM, "no_new_privs did not stay")
        return syscall(_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, self._header)

    def send(self, socket_fd: int, fd: int) -> None:
        """Hand a descriptor to who listens at the other end. Raises OSError."""
        byte = ctypes.create_string_buffer(1)
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(byte), 1))
        control = ctypes.create_string_buffer(_CMSG.pack(*_RIGHTS, fd, 0))
        message = _MSGHDR.pack(
            0, 0, ctypes.addressof(vector), 1, ctypes.addressof(control), _CMSG.size, 0
        )
        syscall(_SENDMSG, socket_fd, message, 0, 0, 0, self.nonce)

    def execute(self) -> NoReturn:
        """Become the program, or end with a line and a code of the run path."""
        failed = errno.ENOENT
        for path in self._paths:
            answer = self._attempt(path)
            if answer not in (errno.ENOENT, errno.ENOTDIR):
                failed = answer
            if answer not in _GO_ON:
                break
        reason = "binary-missing" if failed == errno.ENOENT else "binary-unusable"
        self.fail(f'"{self.program}": {os.strerror(failed)}', RunError(reason, ""))

    def _attempt(self, path: bytes) -> int:
        """Become the program; return the error number when that fails."""
        try:
            syscall(_EXECVEAT, _AT_FDCWD, path, self._argv, self._environment, 0, self.nonce)
        except OSError as error:
            return error.errno or errno.EIO
        return errno.EIO

    def fail(self, message: str, error: RunError | KernelError) -> NoReturn:
        """End as an error of the command line would, by calls that pass."""
        line = f"certexec: error: {message}\n".encode("utf-8", "surrogateescape")
        try:
            syscall(_WRITE, _STANDARD_ERROR, line, len(line), 0, 0, self.nonce)
        except OSError:
            pass  # nobody listens
        os._exit(error.exit_code)
