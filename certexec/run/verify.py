"""Whether a certificate would be accepted on this machine, without executing anything.

One way for one certificate and for a hundred thousand: what several of them have in common is
found out once (``Memory``), nothing is left out.
"""

from __future__ import annotations

import os

from certexec.certificate.alike import KEPT_MAX, Alike
from certexec.certificate.verify import Verified, verify_certificate
from certexec.errors import CertexecError, CertificateError, CliError, RunError, unreadable
from certexec.kernel.digest import sha256
from certexec.policy.lexer import LINE_MAX
from certexec.run import decide, integrity
from certexec.run.content import mismatch
from certexec.run.content import unreadable as content_unreadable
from certexec.run.identity import Permitted, permitted_identity
from certexec.run.invoker import Invoker
from certexec.run.memory import Memory, Note
from certexec.run.reached import notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from certexec.certificate.identity import Pair
    from certexec.certificate.model import Certificate, FileDigest, PolicyRef, Program
    from certexec.run.certificate_files import Item
    from certexec.trust.store import TrustedKey

UNREADABLE_HINT = 'be root, or leave it out: "--no-binary"'


class Result:
    """What became of one file: the verified certificate, or the error.

    Attributes:
        path: as in its ``Item``; notes: what is to be said about its policy.
    """

    __slots__ = ("error", "notes", "path", "verified")

    def __init__(
        self, path: str, verified: Verified | None, error: CertexecError | None,
        notes: list[Note] | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.verified = verified
        self.error = error
        self.notes = notes or []


class Verifier:
    """Judges certificates against the keys of one trust store, at one moment."""

    def __init__(
        self,
        keys: Mapping[bytes, TrustedKey],
        now: int,
        *,
        binary: bool = True,
        signer: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        """``binary``: look at the program, too; ``signer``: a fingerprint that must be there."""
        self._keys = keys
        self._now = now
        self._binary = binary
        self._signer = signer
        self._memory = memory or Memory()
        self._alike = Alike()
        self._judged: dict[int, tuple[PolicyRef, list[Note]]] = {}
        self._size = 0
        self._invoker = Invoker(os.getpid())
        self._nobody_granted = permitted_identity(None, self._invoker)

    def judge(self, item: Item) -> Result | None:
        """Judge one file; None for what was found in a directory and is no certificate.

        1. the signature, the validity and the constraints of its keys;
        2. a signer that was asked for;
        3. names and numbers of users and groups;
        4. the policy: digest, syntax, nothing that cannot be enforced;
        5. unless it is left out, the program and its interpreter: there, executable, unchanged.
        """
        try:
            data = item.read()
        except OSError as error:
            return Result(item.path, None, unreadable(item.path, error))
        if data is None:
            return None
        said: list[Note] = []
        try:
            verified = verify_certificate(
                data, self._keys, self._now, self._alike.open
            )  # 1.
            self._check_signer(verified)  # 2.
            self._check_numbers(verified.certificate)  # 3.
            said = self._check_policy(verified.certificate)  # 4.
            if self._binary:
                self._check_binary(verified.certificate)  # 5.
        except CertexecError as error:
            return Result(item.path, None, error, said)
        return Result(item.path, verified, None, said)

    def _check_signer(self, verified: Verified) -> None:
        wanted = self._signer
        if wanted is not None and wanted not in [one.key.fingerprint for one in verified.signers]:
            raise CertificateError("untrusted-key", f"it is not signed by {wanted}")

    # -- users and groups ----------------------------------------------------------------------

    def _check_numbers(self, certificate: Certificate) -> None:
        """See that every user and group has the name and the number here that was signed.

        Raises RunError("identity-mismatch").
        """
        identity = certificate.identity
        if identity is not None:
            if identity.user is not None:
                self._check_number("user", identity.user)
            for pair in (*([identity.group] if identity.group else []), *(identity.groups or [])):
                self._check_number("group", pair)
            for elevation in identity.elevations or []:
                for kind, one in zip(("user", "group"), elevation, strict=True):
                    if one is not None:
                        self._check_number(kind, one)
        for _, kind, name, number in certificate.invocation.entries:
            if kind != "everyone":
                self._check_number(kind, (name, number))

    def _check_number(self, kind: str, pair: Pair) -> None:
        name, number = pair
        if not name:
            return
        here = self._memory.number(kind, name)
        if here is None:
            raise RunError("identity-mismatch", f'there is no {kind} "{name}" here')
        if here != number:
            raise RunError("identity-mismatch", f'{kind} "{name}" is {here} here, not {number}')

    # -- the policy ----------------------------------------------------------------------------

    def _check_policy(self, certificate: Certificate) -> list[Note]:
        """Judge a certificate's policy as it is judged at every execution.

        Raises RunError("policy-mismatch"), or PolicyError. The digest is compared for each
        certificate; what follows from the same text for the same program, once.
        """
        signed = certificate.policy
        known = self._judged.get(id(signed))
        if known is not None and known[0] is signed:  # all else that counts came with it
            return known[1]
        text, _ = decide.policy_bytes(certificate)
        program = certificate.program.path
        rules = _rules_of_one(text, program) if signed.inherit else None
        # whatever is signed about the policy; of its text the digest, which was just compared
        terms = [
            getattr(signed, name) for name in signed.__slots__ if name not in ("text", "sha256")
        ]
        question = repr(
            (
                terms, (signed.sha256, program) if rules is None else sha256(rules),
                certificate.log, certificate.is_grant(), certificate.elevations(),
            )
        )  # fmt: skip

        def judge() -> list[Note]:
            reach, _, _ = decide.confinement_of(certificate, capable=certificate.is_grant())
            return notes(reach.policies)

        said = self._memory.policy(question.encode("utf-8", "surrogatepass"), judge)
        if signed.text is not None:
            self._size += len(text)
            if self._size > KEPT_MAX:
                self._judged.clear()
                self._size = len(text)
            self._judged[id(signed)] = signed, said
        return said

    # -- files ---------------------------------------------------------------------------------

    def _check_binary(self, certificate: Certificate) -> None:
        """Judge the program and its interpreter as an execution by the caller would.

        Raises RunError, or CliError("unreadable") when they may not be read, which says nothing
        about whether they are the right ones.
        """
        permitted = self._nobody_granted
        if certificate.identity is not None:
            permitted = permitted_identity(certificate.identity, self._invoker)
        self._check_file(certificate.program, "binary-missing", "binary-mismatch", permitted)
        for one in certificate.files:
            self._check_file(one, "file-mismatch", "file-mismatch", permitted)

    def _check_file(
        self, signed: Program | FileDigest, missing: str, changed: str, permitted: Permitted
    ) -> None:
        signs = signed.path, signed.size, signed.sha256, signed.sha512
        same_for_all = permitted is self._nobody_granted
        if same_for_all:
            # of a file that has not changed since, mode, owners and content are what they were
            try:
                known = self._memory.is_good((signs, _state(os.lstat(signed.path))))
            except (OSError, ValueError):
                known = False
            if known:
                return
        opened = self._check_open_file(signed, missing, changed, permitted)
        if same_for_all:  # whatever stands under that name by now
            self._memory.found_good((signs, opened))

    def _check_open_file(
        self, signed: Program | FileDigest, missing: str, changed: str, permitted: Permitted
    ) -> tuple[int, ...]:
        """Judge what stands there now, and return the state of just that."""
        try:
            fd = integrity.open_file(signed.path, missing, changed)
        except RunError as error:
            raise _could_not_tell(error) from None
        try:
            info = os.fstat(fd)
            _check_place(fd, info, signed.path, permitted)
            try:
                same = info.st_size == signed.size and self._memory.digests(fd, info) == (
                    signed.sha256, signed.sha512,
                )  # fmt: skip
            except OSError as error:
                raise _could_not_tell(content_unreadable(signed, error)) from None
            if not same:
                raise mismatch(signed, changed)
            return _state(info)
        finally:
            os.close(fd)


def _state(info: os.stat_result) -> tuple[int, ...]:
    """Return what changes with any change of a file or of who may use it."""
    return (
        info.st_dev, info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_size,
        info.st_mtime_ns, info.st_ctime_ns,
    )  # fmt: skip


PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-")
"""Characters of a path that mean nothing else in a policy's header."""


def _rules_of_one(text: bytes, program: str) -> bytes | None:
    """Return a policy without its program's path, if nothing but its first header names that.

    None for other policies. Such a policy without includes, other programs' parts and exec to
    those says the same for every program.
    """
    begin = 0
    while text[begin : begin + 1] == b"#" and (end := text.find(b"\n", begin)) >= 0:
        begin = end + 1  # comments stand before it
    header = b"Policy: " + program.encode() + b", Emulation: "
    if not text.startswith(header, begin) or not PLAIN.issuperset(program):
        return None
    if text.find(b"\n", begin) - begin > LINE_MAX:
        return None  # refused because of its path's length
    rules = text[begin + len(header) :]
    return None if b"policy: " in rules.lower() else text[:begin] + b"\0" + rules


def _could_not_tell(error: RunError) -> CertexecError:
    """Turn the error for a file that cannot be read into one that is neither yes nor no."""
    if error.reason != "binary-unusable":
        return error
    return CliError("unreadable", error.message, UNREADABLE_HINT)


def _check_place(fd: int, info: os.stat_result, path: str, permitted: Permitted) -> None:
    """See that an open file may be executed where it stands; raises RunError("binary-unusable").

    The digests would not tell: neither the mode nor the mount is part of the content.
    """
    if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        raise RunError(
            "binary-unusable",
            f'"{path}" is on a mount without execution',
            f'"findmnt -T {path}" shows the mount; take "noexec" from its options',
        )
    if not integrity.may_execute(fd, info, permitted):
        who = "you" if permitted.uid == permitted.euid else "the identity that is granted"
        raise RunError(
            "binary-unusable",
            f'"{path}" is not executable for {who}',
            f'"ls -l {path}" shows the mode; "chmod +x {path}" mends it',
        )
