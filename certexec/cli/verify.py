"""``certexec verify``: say whether certificates would be accepted on this machine."""

from __future__ import annotations

import errno
import os
import stat
import time

import click

from certexec.certificate.identity import Pair
from certexec.certificate.model import Certificate, FileDigest, Program
from certexec.certificate.verify import Verified, verify_certificate
from certexec.cli import output
from certexec.cli.common import (
    describe,
    looks_like_certificate,
    parse_time,
    printable,
    read_certificate,
    show_date,
    show_time,
    store_directory,
    trust_option,
    unreadable,
)
from certexec.cli.main import COULD_NOT_TELL, EXIT_NO, EXIT_UNKNOWN
from certexec.cli.policy_gate import check_certificate_policy
from certexec.errors import CertexecError, CertificateError, CliError, RunError
from certexec.kernel.userdb import SystemUsers
from certexec.run import integrity
from certexec.run.content import Comparison
from certexec.run.identity import Permitted, permitted_identity
from certexec.run.invoker import Invoker
from certexec.trust.store import TrustedKey, by_kid, load_store

FINGERPRINT_PREFIX = "SHA256:"
UNREADABLE_HINT = 'be root, or leave it out: "--no-binary"'


class Result:
    """What became of one file: the verified certificate, or the error."""

    def __init__(self, path: str, verified: Verified | None, error: CertexecError | None) -> None:
        self.path = path
        self.verified = verified
        self.error = error

    @property
    def exit_code(self) -> int:
        """0 valid, 1 not, 2 could not tell."""
        if self.error is None:
            return 0
        return EXIT_UNKNOWN if self.error.reason in COULD_NOT_TELL else EXIT_NO


# -- the checks that need this machine -------------------------------------------------------------


def _check_number(kind: str, pair: Pair) -> None:
    name, number = pair
    if not name:
        return
    users = SystemUsers()
    here = users.uid(name) if kind == "user" else users.gid(name)
    if here is None:
        raise RunError("identity-mismatch", f'there is no {kind} "{name}" here')
    if here != number:
        raise RunError("identity-mismatch", f'{kind} "{name}" is {here} here, not {number}')


def check_numbers(certificate: Certificate) -> None:
    """See that every user and group has the name and the number here that was signed.

    Raises RunError("identity-mismatch").
    """
    identity = certificate.identity
    if identity is not None:
        if identity.user is not None:
            _check_number("user", identity.user)
        for pair in (*([identity.group] if identity.group else []), *(identity.groups or [])):
            _check_number("group", pair)
        for elevation in identity.elevations or []:
            for kind, one in zip(("user", "group"), elevation, strict=True):
                if one is not None:
                    _check_number(kind, one)
    for _, kind, name, number in certificate.invocation.entries:
        if kind != "everyone":
            _check_number(kind, (name, number))


def _check_binary(certificate: Certificate) -> None:
    """Judge the program and its interpreter as an execution by the caller would.

    Raises RunError, or CliError("unreadable") when they may not be read, which says nothing about
    whether they are the right ones.
    """
    permitted = permitted_identity(certificate.identity, Invoker(os.getpid()))
    _check_file(certificate.program, "binary-missing", "binary-mismatch", permitted)
    for one in certificate.files:
        _check_file(one, "file-mismatch", "file-mismatch", permitted)


def _check_file(
    signed: Program | FileDigest, missing: str, changed: str, permitted: Permitted
) -> None:
    try:
        fd = integrity.open_file(signed.path, missing, changed)
    except RunError as error:
        raise _could_not_tell(error) from None
    try:
        _check_place(fd, signed.path, permitted)
        try:
            Comparison(fd, signed, changed).finish()
        except RunError as error:
            raise _could_not_tell(error) from None
    finally:
        os.close(fd)


def _could_not_tell(error: RunError) -> CertexecError:
    """Turn the error for a file that cannot be read into one that is neither yes nor no."""
    if error.reason != "binary-unusable":
        return error
    return CliError("unreadable", error.message, UNREADABLE_HINT)


def _check_place(fd: int, path: str, permitted: Permitted) -> None:
    """See that an open file may be executed where it stands; raises RunError("binary-unusable").

    The digests would not tell: neither the mode nor the mount is part of the content.
    """
    if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        raise RunError(
            "binary-unusable",
            f'"{path}" is on a mount without execution',
            f'"findmnt -T {path}" shows the mount; take "noexec" from its options',
        )
    if not integrity._executable(fd, os.fstat(fd), permitted):
        who = "you" if permitted.uid == permitted.euid else "the identity that is granted"
        raise RunError(
            "binary-unusable",
            f'"{path}" is not executable for {who}',
            f'"ls -l {path}" shows the mode; "chmod +x {path}" mends it',
        )


def _check_signer(verified: Verified, wanted: str | None) -> None:
    if wanted is not None and wanted not in [one.key.fingerprint for one in verified.signers]:
        raise CertificateError("untrusted-key", f"it is not signed by {wanted}")


def verify_file(
    path: str,
    keys: dict[bytes, TrustedKey],
    now: int,
    *,
    binary: bool = True,
    signer: str | None = None,
) -> Result:
    """Verify one certificate and what it says about this machine.

    1. the signature, the validity and the constraints of its keys;
    2. a signer that was asked for;
    3. names and numbers of users and groups;
    4. the policy: digest, syntax, nothing that cannot be enforced;
    5. unless ``binary`` is false, the program and its interpreter: there, executable, unchanged.
    """
    try:
        verified = verify_certificate(read_certificate(path), keys, now)  # 1.
        _check_signer(verified, signer)  # 2.
        check_numbers(verified.certificate)  # 3.
        check_certificate_policy(verified.certificate)  # 4.
        if binary:
            _check_binary(verified.certificate)  # 5.
    except CertexecError as error:
        return Result(path, None, error)
    return Result(path, verified, None)


# -- files and directories -------------------------------------------------------------------------


def _expand(paths: tuple[str, ...]) -> list[Result | str]:
    """Replace directories by the certificates in them and below.

    What cannot be read there might be a certificate: its result, that this cannot be told, stands
    in its place.
    """
    found: list[Result | str] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue

        def failed(error: OSError) -> None:
            closed = str(error.filename)
            found.append(Result(closed, None, unreadable(closed, error)))

        for directory, below, names in os.walk(path, onerror=failed):
            below.sort()
            for one in (os.path.join(directory, name) for name in sorted(names)):
                if looks_like_certificate(one):
                    found.append(one)
                elif _is_closed(one):
                    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                    found.append(Result(one, None, unreadable(one, denied)))
    return found


def _is_closed(path: str) -> bool:
    """Tell whether a path is that of a file, no link, whose first bytes we may not see."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and not os.access(path, os.R_OK)
    except OSError:
        return False


def _show(result: Result) -> None:
    path = printable(result.path)
    if result.error is None:
        assert result.verified is not None
        fingerprints = ", ".join(one.key.fingerprint for one in result.verified.signers)
        expiry = show_date(result.verified.certificate.claims.exp)
        word = output.painted("OK", "green")
        click.echo(f"{path}: {word} ({fingerprints}, expires {expiry})")
        return
    word = output.painted("FAIL" if result.exit_code == EXIT_NO else "UNKNOWN", "red")
    click.echo(f"{path}: {word} ({result.error.reason})")
    output.error_with_hint(f"{path}: {printable(result.error.message)}", result.error.hint)


def _as_json(result: Result) -> dict[str, object]:
    shown: dict[str, object] = {"path": result.path, "ok": result.error is None}
    if result.error is not None:
        return {**shown, **describe(result.error), "exit_code": result.exit_code}
    assert result.verified is not None
    certificate = result.verified.certificate
    return {
        **shown,
        "name": certificate.claims.sub,
        "serial": certificate.serial,
        "program": certificate.program.path,
        "grant": certificate.is_grant(),
        "valid_until": show_time(certificate.claims.exp),
        "signers": [
            {"name": one.name, "fingerprint": one.key.fingerprint}
            for one in result.verified.signers
        ],
    }


@click.command(name="verify")
@click.argument("paths", nargs=-1, required=True, metavar="CERT|DIR...")
@trust_option
@click.option("--at", metavar="TIME", default="now", help="Judge as of this time (default: now).")
@click.option("--require-signer", metavar="FINGERPRINT", help="This key must be among the signers.")
@click.option("--no-binary", is_flag=True, help="Do not look at the program itself.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    paths: tuple[str, ...],
    trust: str | None,
    at: str,
    require_signer: str | None,
    no_binary: bool,
    as_json: bool,
) -> int:
    """Say whether certificates would be accepted on this machine.

    A directory stands for every certificate in it and below. Exit status: 0 all are valid, 1 one
    is not, 2 could not tell.
    """
    if require_signer is not None and not require_signer.startswith(FINGERPRINT_PREFIX):
        raise CliError(
            "usage", f'"{require_signer}" is not a fingerprint',
            'it begins with "SHA256:"; "certexec trust list" shows them',
        )  # fmt: skip
    now = parse_time(at, int(time.time()))
    directory, owners = store_directory(trust)
    keys = by_kid(load_store(directory, owner_ok=owners))
    results: list[Result] = []
    for one in _expand(paths):
        result = one
        if not isinstance(result, Result):
            result = verify_file(result, keys, now, binary=not no_binary, signer=require_signer)
        results.append(result)
        if not as_json and not output.settings.quiet:
            _show(result)
    if not results:
        raise CliError("not-found", "there is no certificate in what was named")
    if as_json:
        shown = [_as_json(result) for result in results]
        valid = all(result.error is None for result in results)
        output.print_json({"schema": 1, "ok": valid, "certificates": shown})
    codes = {result.exit_code for result in results}
    return EXIT_NO if EXIT_NO in codes else max(codes)
