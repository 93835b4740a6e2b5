"""A process gives up rights of its own for good, and becomes another program without them.

A seccomp filter with no_new_privs: no descendant can take it off, and none gets more rights by
executing a set-user-ID file. The only calls that pass it are those by which this process proves
that the filter is at work, says what went wrong, and executes the program: they carry a nonce that
is gone with this image.
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
from certexec.policy.compile import compile_table
from certexec.policy.drop import PROOF_OPTION_MAX, Dropped, proof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_WRITE = 1
_PRCTL = 157
_EXIT_GROUP = 231
_SECCOMP = 317
_EXECVEAT = 322
_AT_FDCWD = -100
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_SECCOMP_SET_MODE_FILTER = 1
_SOCK_FPROG = struct.Struct("=HxxxxxxQ")
_NONCE_SIZE = 8
_STANDARD_ERROR = 2
_GO_ON = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES))
"""Errors after which the next directory of $PATH is tried, as execvp(3) does."""
_DEFAULT_PATH = "/usr/bin:/bin"


def drop_and_execute(
    names: Sequence[str], code: int, program: str, arguments: Sequence[str]
) -> NoReturn:
    """Drop calls and become a program.

    Args:
        names: of the calls, as in rules.
        code: Linux error number that they fail with from now on.
        program: a path, or a name to look up in $PATH.
        arguments: from argv[1].

    1. the filter is made, the program looked up: from 3. on a call for that may be missing;
    2. no_new_privs, which no kernel takes back, read back;
    3. the filter;
    4. the proof that it is at work;
    5. the program.

    Raises PolicyError("usage"), RunError ("setuid-denied", "binary-missing", "binary-unusable") and
    KernelError("kernel-unsupported") before 3.; later this process ends with a line and a code.
    """
    # 1.
    _check_identity()
    option = int.from_bytes(os.urandom(4), "little") & PROOF_OPTION_MAX
    nonce = int.from_bytes(os.urandom(_NONCE_SIZE), "little")
    code_of_filter = compile_table(Dropped(names, code, option)).with_nonce(nonce)
    filter_memory = ctypes.create_string_buffer(code_of_filter, len(code_of_filter))
    header = _SOCK_FPROG.pack(
        len(code_of_filter) // INSTRUCTION_SIZE, ctypes.addressof(filter_memory)
    )
    paths = [os.fsencode(path) for path in _candidates(program)]
    start = _Start([program, *arguments], nonce)
    for signal in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(signal, _signal.SIG_DFL)  # the interpreter ignores them, programs do not
    try:
        # 2.
        syscall(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if syscall(_PRCTL, _PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
            raise OSError(errno.EPERM, "no_new_privs did not stay")
        # 3.
        syscall(_SECCOMP, _SECCOMP_SET_MODE_FILTER, 0, header)
    except OSError as error:
        raise KernelError(
            "kernel-unsupported", f"nothing can be dropped here: {error.strerror}",
            "inside a certificate's tree its policy must permit prctl and seccomp",
        ) from None
    # 4.
    if _answer(option) != proof(code):
        start.fail("the filter is not at work", RunError("internal", ""))
    # 5.
    failed = errno.ENOENT
    for path in paths:
        answer = start.execute(path)
        if answer not in (errno.ENOENT, errno.ENOTDIR):
            failed = answer
        if answer not in _GO_ON:
            break
    reason = "binary-missing" if failed == errno.ENOENT else "binary-unusable"
    start.fail(f'"{program}": {os.strerror(failed)}', RunError(reason, ""))


def _check_identity() -> None:
    """Refuse where no_new_privs would take away an identity: before Linux 6.16 the next exec."""
    if len(set(os.getresuid())) > 1 or len(set(os.getresgid())) > 1:
        raise RunError(
            "setuid-denied",
            "real and effective ids differ: no_new_privs would take the effective ones away",
            "drop rights before the identity is taken, or by the policy of the certificate",
        )


def _candidates(program: str) -> list[str]:
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


def _answer(option: int) -> int:
    try:
        syscall(_PRCTL, option, 0, 0, 0, 0)
    except OSError as error:
        return error.errno or 0
    return 0


class _Start:
    """The calls that pass the filter, prepared: nothing here needs another one."""

    def __init__(self, argv: Sequence[str], nonce: int) -> None:
        self.nonce = nonce
        environment = [name + b"=" + value for name, value in os.environb.items()]
        self._strings: list[ctypes.Array[ctypes.c_char]] = []
        self._argv = self._vector([os.fsencode(one) for one in argv])
        self._environment = self._vector(environment)

    def _vector(self, strings: Sequence[bytes]) -> bytes:
        kept = [ctypes.create_string_buffer(one) for one in strings]
        self._strings += kept
        return struct.pack(f"={len(kept) + 1}Q", *map(ctypes.addressof, kept), 0)

    def execute(self, path: bytes) -> int:
        """Become the program; return the error number when that fails."""
        try:
            syscall(
                _EXECVEAT, _AT_FDCWD, path, self._argv, self._environment, 0, self.nonce
            )
        except OSError as error:
            return error.errno or errno.EIO
        return errno.EIO

    def fail(self, message: str, error: RunError) -> NoReturn:
        """End as an error of the command line would, by calls that pass."""
        line = f"certexec: error: {message}\n".encode("utf-8", "surrogateescape")
        try:
            syscall(_WRITE, _STANDARD_ERROR, line, len(line), 0, 0, self.nonce)
        except OSError:
            pass  # nobody listens
        os._exit(error.exit_code)
