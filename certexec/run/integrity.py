"""Whether the bytes that will run are the bytes that were signed.

The binary is opened once; what is hashed, executed and compared at the exec stop is that open
file. Two ways, by what the file system and the kernel promise:

* exec-stop: exec denies writing from then on (ext4, xfs, btrfs, tmpfs), so the file is hashed
  again after exec and before its first instruction; only for files that nobody writes who could
  not tamper with the running program anyway, because the denial does not see every write;
* sealed: a copy in memory that nobody can change is hashed and executed.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.errors import RunError, TrustError
from certexec.kernel import filesystem, memfd
from certexec.kernel.ownership import check_object, root_owners
from certexec.kernel.procfs import Status, own_fd, proc
from certexec.run.content import Comparison, digest
from certexec.run.proven import CHOICES, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.certificate.model import Certificate, FileDigest, Program
    from certexec.run.identity import Permitted
    from certexec.run.proven import Proven, State

SHEBANG = b"#!"
SEALED_HINT = 'sign it with "--integrity sealed"'
GROUPS_ONLY_MODE = 0o111
"""A program that gains only groups runs from an unreadable file, so that exec clears dumpable and
nobody of the invoker's uid can attach (design 2a)."""


class Judged:
    """A binary whose content is the signed one, once ``confirm_content`` has returned.

    Attributes:
        fd: the open file as it stands on disk; exec_fd: what execveat gets (may be ``fd``).
        mode: "exec-stop" or "sealed".
        is_script: the kernel will start an interpreter on it.
        program: what the certificate says of the file that /proc/PID/exe must be at the exec
            stop: the binary itself, or a script's interpreter.
        proven: its state, where that alone says what it holds (certexec.run.proven).
        learns: it is to be known again; at_stop: its state at the exec stop, before it was hashed.
    """

    __slots__ = (
        "_pending", "at_stop", "exec_fd", "fd", "is_script", "learns", "mode", "program", "proven",
    )  # fmt: skip

    def __init__(
        self, fd: int, exec_fd: int, mode: str, program: Program | FileDigest, is_script: bool,
        pending: Sequence[Comparison] = (),
    ) -> None:  # fmt: skip
        self.fd = fd
        self.exec_fd = exec_fd
        self.mode = mode
        self.program = program
        self.is_script = is_script
        self._pending = pending
        self.proven: State | None = None
        self.learns = False
        self.at_stop: State | None = None

    def confirm_content(self) -> None:
        """Wait for what was begun; raises RunError where the content is not the signed one."""
        pending, self._pending = self._pending, ()
        for one in pending:
            one.finish()


def open_file(
    path: str,
    missing: str = "binary-missing",
    changed: str = "binary-mismatch",
    unusable: str = "binary-unusable",
) -> int:
    """Open a signed file for reading. Raises RunError with one of the three reasons.

    The signer recorded a real path, so a symbolic link as its last component is a change; so is
    whatever is no regular file, and reading a pipe would never end.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RunError(missing, f'"{path}" does not exist') from None
    except PermissionError:
        raise RunError(
            unusable,
            f'"{path}" cannot be read by you, so it cannot be verified',
            "root can install a certificate for it that grants an identity",
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:  # by name again it may already be something else
            raise RunError(changed, f'"{path}" is a symbolic link now') from None
        raise RunError(unusable, f'"{path}": {error.strerror}') from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RunError(changed, f'"{path}" is not a regular file')
    return fd


def judge(
    certificate: Certificate, permitted: Permitted, unreadable_exe: bool, gains: bool = False,
    proven: Proven | None = None,
) -> Judged:  # fmt: skip
    """Open and judge the binary; raises RunError.

    The content is being compared still: nothing may run before ``Judged.confirm_content``.
    ``gains``: it will run with a grant that is not its own certificate's; ``proven``: programs that
    were hashed before.

    1. the open file is a regular one on a mount that allows execution, and executable for the
       identity that it will run as (the copy in memory would not ask);
    2. a mode is chosen that is sound for this file, file system and kernel;
    3. the content is compared on the object that will be executed.
    """
    signed = certificate.program
    fd = open_file(signed.path)
    # 1. what kind of file, and may it be executed where it stands
    info = os.fstat(fd)
    if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        raise RunError("binary-unusable", f'"{signed.path}" is on a mount without execution')
    if not may_execute(fd, info, permitted):
        raise RunError("binary-unusable", f'"{signed.path}" is not executable for this identity')
    choice = certificate.integrity in CHOICES and not unreadable_exe and not certificate.files
    wants_proof = choice and proven is not None
    if proven is not None and wants_proof and (known := proven.recognise(fd, signed)) is not None:
        # what 2. and 3. look at is as it was when they were passed: bytes, owner, mode, file system
        judged = Judged(fd, fd, "exec-stop", signed, False)
        judged.proven = known
        return judged
    is_script = os.pread(fd, len(SHEBANG), 0) == SHEBANG
    interpreters = [one for one in certificate.files if one.role == "interpreter"]
    if is_script != bool(interpreters):
        raise RunError("binary-mismatch", f'"{signed.path}" is a script and its certificate is not')
    # 2. which way
    writers = _harmless_writers(gains or certificate.is_grant(), permitted)
    mode = certificate.integrity
    if is_script or unreadable_exe:
        mode = "sealed"
    elif mode != "sealed":
        weakness = _why_not_held(fd, signed.path, writers, SEALED_HINT)
        if weakness is not None and mode == "exec-stop":
            raise weakness
        mode = "exec-stop" if weakness is None else "sealed"
    # 3. the content
    if mode == "exec-stop":
        judged = Judged(fd, fd, mode, signed, False, [Comparison(fd, signed)])
        judged.learns = wants_proof
        return judged
    if info.st_size != signed.size:
        Comparison(fd, signed).finish()  # refuses, before all of it is copied
    bits = GROUPS_ONLY_MODE if unreadable_exe else 0o555
    copy = memfd.sealed_copy(fd, signed.size, os.path.basename(signed.path), bits)
    content = Comparison(copy, signed)
    if not is_script:
        return Judged(fd, copy, mode, signed, False, [content])
    interpreter = open_file(interpreters[0].path, "file-mismatch", "file-mismatch")
    weakness = _why_not_held(interpreter, interpreters[0].path, writers)
    if weakness is not None:
        raise weakness
    comparisons = [content, Comparison(interpreter, interpreters[0], "file-mismatch")]
    return Judged(interpreter, copy, mode, interpreters[0], True, comparisons)


def _harmless_writers(grant: bool, permitted: Permitted) -> frozenset[int]:
    """Return the uids that gain nothing by writing to the binary while it runs.

    Root; and without a grant the invoker, who may change the running program's memory as well.
    """
    return root_owners() if grant else root_owners() | {permitted.uid}


def others_may_write(fd: int, owners: frozenset[int]) -> bool:
    """Tell whether anybody besides ``owners`` may write the open file, by owner, mode or ACL."""
    try:
        check_object(fd, "", owners)
    except TrustError:
        return True
    return False


def _why_not_held(
    fd: int, path: str, owners: frozenset[int], hint: str = ""
) -> RunError | None:
    """Return None when an executed file stays as it is from its exec stop on, else the refusal.

    exec refuses while the file is open or mapped for writing, and nobody opens it from then on.
    But a write may be under way that is neither: process_vm_writev(2), a direct read(2) or an
    io_uring buffer pins the pages of a mapping, and stores into them after mapping and descriptor
    are gone (measured on ext4 and tmpfs, Linux 6.18). So nobody else may be able to write.
    """
    if not filesystem.exec_write_denied(fd, os.uname().release):
        return RunError(
            "kernel-unsupported",
            f'"{path}" is on a file system where a running program can be written to',
            hint,
        )
    if others_may_write(fd, owners):
        return RunError(
            "binary-unusable",
            f'"{path}" can be written by others, even while it runs',
            hint or f'give it to root and take that away: "chown root {path}; chmod go-w {path}"',
        )
    return None


def may_execute(fd: int, info: os.stat_result, permitted: Permitted) -> bool:
    """Tell whether an open file is executable for the identity that it will run as."""
    if os.geteuid() == permitted.euid and os.geteuid() != 0:
        return os.access(own_fd(fd), os.X_OK, effective_ids=True)
    if permitted.euid == 0:
        return bool(info.st_mode & 0o111)
    if info.st_uid == permitted.euid:
        return bool(info.st_mode & 0o100)
    groups = permitted.groups if permitted.groups is not None else []
    if info.st_gid == permitted.egid or info.st_gid in groups:
        return bool(info.st_mode & 0o010)
    return bool(info.st_mode & 0o001)


def confirm_at_exec_stop(pid: int, judged: Judged) -> None:
    """Compare what is about to run with what was judged; raises RunError("binary-mismatch").

    Called while ``pid`` stands at its exec stop. Its main file cannot be written to from now on
    (exec-stop) or ever again (sealed), so what is hashed here is what will run.
    """
    try:
        running = os.open(proc(pid, "exe"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RunError("binary-mismatch", f"the running file cannot be read: {error}") from None
    try:
        if judged.proven is not None:
            if state(running) != judged.proven:  # which says what inode it is, too
                raise RunError("binary-mismatch", "the file was changed while it was executed")
            return
        expected = judged.fd if judged.is_script or judged.mode == "exec-stop" else judged.exec_fd
        if not os.path.samestat(os.fstat(running), os.fstat(expected)):
            raise RunError("binary-mismatch", "another file was executed than the one judged")
        if judged.mode == "exec-stop" or judged.is_script:
            signed = judged.program
            if judged.learns:
                judged.at_stop = state(running)  # first: what changes from here on shows
            if os.fstat(running).st_size != signed.size:
                raise RunError("binary-mismatch", "the file was changed while it was executed")
            if digest(running, signed.size) != signed.sha256:
                raise RunError("binary-mismatch", "the file was changed while it was executed")
    finally:
        os.close(running)


def confirm_identity(status: Status, permitted: Permitted, grant: bool) -> None:
    """Compare all ids at the exec stop with the permitted ones; raises RunError.

    Older kernels reset the effective ids under no_new_privs, and nothing must run with ids that
    the certificate does not name (design 2a).
    """
    uids = (permitted.uid, permitted.euid, permitted.euid, permitted.euid)
    gids = (permitted.gid, permitted.egid, permitted.egid, permitted.egid)
    if status.uids != uids or status.gids != gids:
        raise RunError(
            "setuid-denied", f"after exec the ids are {status.uids} {status.gids}, not as permitted"
        )
    if permitted.groups is not None and sorted(set(status.groups)) != sorted(set(permitted.groups)):
        raise RunError("setuid-denied", "after exec the groups are not the permitted ones")
    if not grant or permitted.uid == 0:
        return  # the invoker's own capabilities
    allowed = permitted.capabilities
    if allowed is None:
        allowed = permitted.bounding if permitted.euid == 0 else 0
    excess = status.caps["prm"] & ~allowed | status.caps["eff"] & ~allowed
    if permitted.capabilities is not None and permitted.euid == 0:
        excess = status.caps["prm"] & ~permitted.bounding
    if excess:
        raise RunError("setuid-denied", f"after exec there are capabilities too many: {excess:#x}")
