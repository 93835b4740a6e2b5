"""Put a certificate into $PATH: verified first, then in place in one step, with the right bits.

A certificate that grants an identity must belong to root with mode 4755, in a directory that
nobody else can write, on a mount that honours set-user-ID. All of that is judged before a byte is
written.
"""

from __future__ import annotations

import os
import stat

from certexec.certificate import envelope
from certexec.certificate.verify import Verified, verify_certificate
from certexec.errors import CertexecError, CertificateError, RunError, TrustError
from certexec.kernel.ownership import check_chain, root_owners
from certexec.run import cacheable, decide, identity, integrity
from certexec.run.content import Comparison
from certexec.run.invoker import Invoker
from certexec.run.layout import SYSTEM
from certexec.trust.store import by_kid, load_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.certificate.model import Certificate, FileDigest, Program

MODE_GRANT = 0o4755
MODE_PLAIN = 0o755


class Installed:
    """What was put where.

    Attributes:
        path: the new file; mode: its permission bits.
        verified: the certificate and its signers.
        replaced: whether another certificate stood there.
        notes: what the user should know besides.
        uncached: why each start is judged anew, "" where the plan was kept.
    """

    __slots__ = ("mode", "notes", "path", "replaced", "uncached", "verified")

    def __init__(self, path: str, verified: Verified) -> None:
        self.path = path
        self.verified = verified
        self.mode = MODE_GRANT if verified.certificate.is_grant() else MODE_PLAIN
        self.replaced = False
        self.notes: list[str] = []
        self.uncached = ""


def read_certificate(path: str) -> bytes:
    """Read a certificate file once, at most one byte more than is allowed. Raises RunError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RunError("not-found", f'"{path}" does not exist') from None
    except OSError as error:
        raise RunError("unreadable", f'cannot read "{path}": {error.strerror}') from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RunError("unreadable", f'"{path}" is not a regular file')
        data = b""
        while chunk := os.read(fd, envelope.MAX_SIZE + 1 - len(data)):
            data += chunk
        return data
    except OSError as error:
        raise RunError("unreadable", f'cannot read "{path}": {error.strerror}') from None
    finally:
        os.close(fd)


def _check_file(signed: Program | FileDigest, missing: str, changed: str) -> None:
    fd = integrity.open_file(signed.path, missing)
    try:
        Comparison(fd, signed, changed).finish()
    finally:
        os.close(fd)


def check_files(certificate: Certificate) -> None:
    """Compare every file that a certificate names with what was signed, and try its policy.

    Raises RunError and PolicyError.
    """
    _check_file(certificate.program, "binary-missing", "binary-mismatch")
    for other in certificate.files:
        _check_file(other, "file-mismatch", "file-mismatch")
    decide.confinement_of(certificate, capable=certificate.is_grant())


def destination(certificate_path: str, place: str) -> tuple[str, str]:
    """Return (absolute directory without links, file name) for a destination as typed.

    A directory takes the certificate under its own file name. Raises RunError.
    """
    if os.path.isdir(place):
        place = os.path.join(place, os.path.basename(certificate_path))
    directory, name = os.path.split(os.path.abspath(place))
    real = os.path.realpath(directory)
    if not os.path.isdir(real):
        raise RunError("not-found", f'directory "{directory}" does not exist')
    return real, name


def _open_directory(path: str, grant: bool) -> int:
    """Open the directory of the destination; for a grant only root may be able to write it."""
    try:
        if not grant:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fd = check_chain(path, root_owners())
    except TrustError as error:
        raise RunError(
            "setuid-denied",
            f"a certificate that grants an identity cannot stand there: {error.message}",
            error.hint or "choose a directory that only root can write",
        ) from None
    except OSError as error:
        raise RunError("unreadable", f'cannot open "{path}": {error.strerror}') from None
    if os.fstatvfs(fd).f_flag & os.ST_NOSUID:
        os.close(fd)
        raise RunError(
            "setuid-denied",
            f'"{path}" is on a mount with nosuid, where no identity can be taken',
            "choose another directory, or remount it without nosuid",
        )
    return fd


def _check_present(directory: int, name: str, shown: str, force: bool) -> bool:
    """Tell whether a file stands there that may be replaced; raises RunError("exists").

    What is neither a regular file nor a link is never replaced: a machine without /dev/null is
    broken.
    """
    try:
        kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise RunError("exists", f'"{shown}" exists and is not a regular file', "name a file")
    try:
        fd = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except FileNotFoundError:
        return False
    except OSError:
        is_certificate = False  # a link, or unreadable: not known to be one of ours
    else:
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            is_certificate = regular and os.pread(fd, 8, 0) == envelope.PREFIX
        finally:
            os.close(fd)
    if not is_certificate and not force:
        raise RunError(
            "exists", f'"{shown}" exists and is not a certificate', "replace it with --force"
        )
    return True


def _write(directory: int, name: str, data: bytes, mode: int, replace: bool) -> None:
    """Write the file under a name of its own, then give it its name in one step."""
    temporary = f".{name}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            left = data
            while left:
                left = left[os.write(fd, left) :]
            if os.geteuid() == 0:
                os.fchown(fd, 0, 0)
            os.fchmod(fd, mode)  # last: chown and write take the set-user-ID bit away
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                raise RunError("setuid-denied", "the file system does not keep the mode of a file")
            os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        else:  # link(2) fails where somebody was faster, rename(2) would replace
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.unlink(temporary, dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError:
            pass  # it has its final name already, or never came to be
        raise


def _check_rights(verified: Verified) -> None:
    """Judge what only a grant needs: root, and names that have the signed numbers here."""
    if not verified.certificate.is_grant():
        return
    if os.geteuid() != 0:
        raise RunError(
            "not-root",
            "a certificate that grants an identity must belong to root",
            'run "certexec install" as root',
        )
    identity.permitted_identity(verified.certificate.identity, Invoker(os.getpid()))


def install(
    path: str, place: str, now: int, *, force: bool = False, store: str = SYSTEM.trust_store
) -> Installed:
    """Verify the certificate at ``path`` and put it at ``place``.

    Args:
        path: the certificate.
        place: the new file, or the directory that gets it.
        now: seconds since 1970.
        force: replace a file that is not a certificate.
        store: the trust store.

    Raises:
        CertexecError: with the reason for which the certificate would be refused, or "exists",
            "not-root", "setuid-denied" for the place. Nothing was changed then.
    """
    # 1. the certificate, on the bytes that will be written
    data = read_certificate(path)
    keys = load_store(store, owner_ok=root_owners())
    try:
        verified = verify_certificate(data, by_kid(keys), now)
    except CertificateError as error:
        if error.reason == "malformed":
            raise CertificateError(error.reason, f'"{path}": {error.message}', error.hint) from None
        raise
    check_files(verified.certificate)
    _check_rights(verified)
    # 2. the place
    directory_path, name = destination(path, place)
    result = Installed(os.path.join(directory_path, name), verified)
    grant = result.mode == MODE_GRANT
    directory = _open_directory(directory_path, grant)
    try:
        if os.fstatvfs(directory).f_flag & os.ST_NOEXEC:
            raise RunError(
                "binary-unusable",
                f'"{directory_path}" is on a mount with noexec',
                "choose another directory, or remount it without noexec",
            )
        writable = os.fstat(directory).st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not grant and os.geteuid() == 0 and writable:
            result.notes.append(f'others can replace files in "{directory_path}"')
        result.replaced = _check_present(directory, name, result.path, force)
        # 3. the file
        _write(directory, name, data, result.mode, result.replaced)
    except FileExistsError:
        raise RunError("exists", f'"{result.path}" appeared meanwhile') from None
    except OSError as error:
        raise RunError(
            "unreadable", f'cannot write "{result.path}": {error.strerror}'
        ) from None
    finally:
        os.close(directory)
    # 4. the plan, judged anew on the file in its place
    if os.geteuid() == 0 and store == SYSTEM.trust_store:
        result.uncached = _keep_plan(result.path)
    return result


def _keep_plan(path: str) -> str:
    """Let the certificate start without a server; returns why not, if so."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            cacheable.warm(fd, path)
        finally:
            os.close(fd)
    except cacheable.Unfit as unfit:
        return str(unfit)
    except CertexecError as error:
        return error.message
    except OSError as error:
        return f'"{path}": {error.strerror}'
    return ""
