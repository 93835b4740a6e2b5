"""A process gives up rights of its own for good, and becomes another program without them.

A seccomp filter with no_new_privs: no descendant can take it off, and none gets more rights by
executing a set-user-ID file. The only calls that pass it are those by which this process proves
that the filter is at work, says what went wrong, and executes the program: they carry a nonce that
is gone with this image.
"""

from __future__ import annotations

import os

from certexec.errors import KernelError, RunError
from certexec.kernel.libc import syscall
from certexec.policy.compile import compile_table
from certexec.policy.drop import PROOF_OPTION_MAX, Dropped, proof
from certexec.run.gated_start import GatedStart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_PRCTL = 157


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
    start = GatedStart(program, arguments, compile_table(Dropped(names, code, option)))
    try:
        # 2. and 3.
        start.confine()
    except OSError as error:
        raise KernelError(
            "kernel-unsupported", f"nothing can be dropped here: {error.strerror}",
            "inside a certificate's tree its policy must permit prctl and seccomp",
        ) from None
    # 4.
    if _answer(option) != proof(code):
        start.fail("the filter is not at work", RunError("internal", ""))
    # 5.
    start.execute()


def _check_identity() -> None:
    """Refuse where no_new_privs would take away an identity: before Linux 6.16 the next exec."""
    if len(set(os.getresuid())) > 1 or len(set(os.getresgid())) > 1:
        raise RunError(
            "setuid-denied",
            "real and effective ids differ: no_new_privs would take the effective ones away",
            "drop rights before the identity is taken, or by the policy of the certificate",
        )


def _answer(option: int) -> int:
    try:
        syscall(_PRCTL, option, 0, 0, 0, 0)
    except OSError as error:
        return error.errno or 0
    return 0
