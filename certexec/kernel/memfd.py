"""Sealed memory files: a copy that nobody can change any more, and that can be executed.

After sealing no write, no writable mapping and no change of size is possible, for anybody, until
the last descriptor is gone (fcntl(2), memfd_create(2)). So what was hashed is what runs, on any
file system that the original came from.
"""

from __future__ import annotations

import errno
import fcntl
import os

from certexec.errors import KernelError, RunError

MFD_EXEC = 0x10
"""Linux 6.3: say that the file will be executed; vm.memfd_noexec = 1 takes it as the permission."""

F_SEAL_EXEC = 0x20
"""Linux 6.3: the execute bits are frozen, too."""

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""What a file needs so that its content is final."""

COPY_CHUNK = 1 << 30
"""bytes per sendfile(2); the kernel moves at most 2 GiB - 4 KiB at once."""

MAX_NAME = 249
"""bytes; memfd_create(2) refuses longer names."""


def create(name: str) -> int:
    """Return a new, empty, executable memory file, close-on-exec, that can be sealed.

    Raises KernelError("kernel-unsupported") where the machine forbids such files.
    """
    short = os.fsencode(name)[:MAX_NAME].decode("utf-8", "replace")
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(short, flags | MFD_EXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise KernelError(
                "kernel-unsupported",
                "this machine forbids to execute memory files",
                "sysctl vm.memfd_noexec must be 0 or 1",
            ) from error
        if error.errno != errno.EINVAL:
            raise _failed("create", error) from error
    # A kernel before 6.3 does not know the flag, and needs none.
    try:
        return os.memfd_create(short, flags)
    except OSError as error:
        raise _failed("create", error) from error


def copy(source: int, target: int, size: int) -> None:
    """Copy the first ``size`` bytes of the file ``source`` to the start of the memory file.

    Both descriptors keep their positions' meaning: the copy goes by explicit offsets in ``source``
    and appends to ``target``. Raises RunError("binary-mismatch") when the source ends early and
    RunError("binary-unusable") when it cannot be read or the copy may not be made.
    """
    done = 0
    while done < size:
        try:
            moved = os.sendfile(target, source, done, min(size - done, COPY_CHUNK))
        except OSError as error:
            hint = "the limit on file sizes is too low (ulimit -f)"
            raise RunError(
                "binary-unusable",
                f"the file cannot be copied into memory: {error.strerror}",
                hint if error.errno == errno.EFBIG else "",
            ) from error
        if moved == 0:
            raise RunError("binary-mismatch", f"the file ended after {done} of {size} bytes")
        done += moved


def seal(fd: int, mode: int = 0o555) -> int:
    """Set the file's permission bits, make its content final and return the seals read back.

    Args:
        fd: a memory file from ``create`` with no writable mapping.
        mode: permission bits, frozen with it on Linux 6.3 and later.

    Raises KernelError("kernel-unsupported") when a seal is missing afterwards.
    """
    try:
        os.fchmod(fd, mode)
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | F_SEAL_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        raise _failed("seal", error) from error
    found = read_seals(fd)
    if found & SEALS != SEALS:
        raise KernelError("kernel-unsupported", f"the kernel kept only the seals {found:#x}")
    return found


def read_seals(fd: int) -> int:
    """Return the seals of a file; 0 when it is not of a kind that can have any."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0


def is_sealed(fd: int) -> bool:
    """Tell whether the file's content is final."""
    return read_seals(fd) & SEALS == SEALS


def sealed_copy(source: int, size: int, name: str, mode: int = 0o555) -> int:
    """Return a sealed memory file with the first ``size`` bytes of ``source``.

    The content must be judged on the returned descriptor, after the fact: while the copy was made
    the source may have been written to. The file position is at the start.
    """
    target = create(name)
    try:
        copy(source, target, size)
        seal(target, mode)
        os.lseek(target, 0, os.SEEK_SET)
    except BaseException:
        os.close(target)
        raise
    return target


def _failed(verb: str, error: OSError) -> KernelError:
    return KernelError("kernel-unsupported", f"cannot {verb} a memory file: {error.strerror}")
