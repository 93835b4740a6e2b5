"""Measure the program that a certificate is made for: path, size, digests, interpreter."""

from __future__ import annotations

import os
import shutil
import stat

from certexec.certificate.envelope import PREFIX
from certexec.certificate.model import FileDigest, Program
from certexec.errors import CliError, unreadable
from certexec.run.content import Digests

SHEBANG_MAX = 255
"""bytes of a script's first line that the kernel looks at (BINPRM_BUF_SIZE, since Linux 5.1)."""
ELF_MAGIC = b"\x7fELF"
_KINDS = {(2, 62): False, (1, 3): True}
"""Class and machine of the ELF files that run here, and whether they use the 32-bit ABI."""


def _measure(path: str) -> tuple[bytes, int, bytes, bytes]:
    """Return the first bytes, the size and both digests of a regular, executable file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise CliError(
                "binary-unusable", f'"{path}" is not a regular file', "sign a program or a script"
            )
        if not before.st_mode & 0o111:
            raise CliError(
                "binary-unusable", f'"{path}" is not executable', f'"chmod +x {path}" first'
            )
        head = os.pread(fd, SHEBANG_MAX + 1, 0)
        sha256, sha512 = Digests(fd, before.st_size).finish()
        after = os.fstat(fd)
    except OSError as error:
        raise unreadable(path, error) from None
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CliError("binary-unusable", f'"{path}" is being written to', "try again later")
    return head, before.st_size, sha256, sha512


def _interpreter_of(path: str, head: bytes) -> str:
    """Return the interpreter that a script's first line names, without symbolic links.

    Source: fs/binfmt_script.c; white space after ``#!`` is skipped, one argument may follow.
    """
    line, newline, _ = head[2:].partition(b"\n")
    words = line.strip(b" \t").split(None, 1)
    if not newline and len(head) > SHEBANG_MAX:
        raise CliError(
            "binary-unusable", f'the first line of "{path}" is too long for the kernel',
            f"it looks at {SHEBANG_MAX} bytes",
        )  # fmt: skip
    if not words or not words[0].startswith(b"/"):
        raise CliError(
            "binary-unusable", f'the first line of "{path}" names no absolute interpreter',
            'write it like "#!/bin/sh"',
        )  # fmt: skip
    interpreter = os.path.realpath(os.fsdecode(words[0]))
    if os.path.basename(words[0]) == b"env":
        wanted = os.fsdecode(words[1]).split()[-1] if len(words) > 1 else ""
        found = shutil.which(wanted) if wanted else None
        raise CliError(
            "binary-unusable",
            f'"{path}" finds its interpreter with env, so nobody can sign which one it gets',
            f'name it in the first line: "#!{found or "/usr/bin/INTERPRETER"}"',
        )
    return interpreter


def _refuse_foreign(path: str, head: bytes, foreign: bool) -> None:
    if head.startswith(PREFIX):
        raise CliError(
            "binary-unusable", f'"{path}" is a certificate itself', "sign the program that it names"
        )
    uses_other: bool | None = None
    if head.startswith(ELF_MAGIC) and len(head) >= 20:
        uses_other = _KINDS.get((head[4], int.from_bytes(head[18:20], "little")))
    if uses_other and not foreign:
        raise CliError(
            "binary-unusable", f'"{path}" is a 32-bit program, and the 32-bit ABI is not admitted',
            'write a part of its policy for emulation linux, and sign with "--emulation linux"',
        )  # fmt: skip
    if uses_other is None:
        raise CliError(
            "binary-unusable", f'"{path}" is neither an x86-64 program nor a script with "#!"',
            "if another program runs it: sign that one, with this file in its arguments",
        )  # fmt: skip


def measure_program(given: str, foreign: bool = False) -> tuple[Program, list[FileDigest]]:
    """Measure the program at ``given`` and, for a script, its interpreter.

    The path that is recorded is absolute and free of symbolic links. ``foreign``: calls of the
    32-bit ABI are admitted, so it may be a 32-bit program. Raises CliError: "not-found",
    "unreadable", or "binary-unusable" for what cannot be executed or signed.
    """
    path = os.path.realpath(given)
    if not os.path.lexists(path) and "/" not in given and shutil.which(given):
        raise CliError(
            "not-found", f'"{given}" does not exist here', f'did you mean "{shutil.which(given)}"?'
        )
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise CliError(
            "binary-unusable", "the program's path is not UTF-8", "give it another name"
        ) from None
    head, size, sha256, sha512 = _measure(path)
    program = Program(path, size, sha256, sha512)
    if not head.startswith(b"#!"):
        _refuse_foreign(path, head, foreign)
        return program, []
    interpreter = _interpreter_of(path, head)
    head, size, sha256, sha512 = _measure(interpreter)
    if head.startswith(b"#!"):
        raise CliError(
            "binary-unusable", f'the interpreter "{interpreter}" is a script itself',
            f'name the program that runs it in the first line of "{path}"',
        )  # fmt: skip
    _refuse_foreign(interpreter, head, foreign)
    return program, [FileDigest("interpreter", interpreter, size, sha256, sha512)]
